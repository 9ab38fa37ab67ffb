//! Every numeric cap in one place: its default and what it protects.

use std::time::Duration;

/// Stop strings, tokens and regexes of one call.
pub const STOP_CONDITIONS_MAX: usize = 64;
/// Bytes of one stop string or stop regex; each is looked for after every token.
pub const STOP_BYTES_MAX: usize = 4096;
/// Alternatives reported for each sampled token.
pub const TOP_LOGPROBS_MAX: u32 = 256;
/// Tokens that one call may bias.
pub const LOGIT_BIAS_MAX: usize = 1024;
/// Choices of one `select`.
pub const CHOICES_MAX: usize = 1024;
/// Bytes of a constraint's pattern, before it is parsed.
pub const PATTERN_BYTES_MAX: usize = 64 << 10;
/// Bytes a compiled constraint's automata may take; larger ones are refused with the size named.
pub const CONSTRAINT_BYTES_MAX: usize = 16 << 20;
/// Bytes of memory for the automaton of one stop regex; beyond it what was learnt is forgotten and learnt again.
pub const STOP_REGEX_BYTES_MAX: usize = 1 << 20;
/// Bytes of token masks one constraint may memoize; beyond it the oldest are forgotten and built again.
pub const CONSTRAINT_MASK_BYTES_MAX: usize = 32 << 20;
/// Automaton states looked at for one mask, some 0.2 s; a constraint that needs more ends its call with an error. Real
/// ones stay below a hundredth of it.
pub const CONSTRAINT_MASK_STEPS_MAX: u64 = 20_000_000;
/// Bytes of one `append`; a context of 128 Ki tokens is about 0.5 MiB of text.
pub const APPEND_BYTES_MAX: usize = 8 << 20;
/// Steps of one rendering of a chat template, which comes with the model; real ones take under 10,000.
pub const TEMPLATE_FUEL: u64 = 1_000_000;
/// Bytes of a component that is loaded.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// Bytes of a run's arguments.
pub const ARGUMENTS_BYTES_MAX: usize = 8 << 20;
/// Compiled constraints the host keeps for calls to come, of all tenants together.
pub const CONSTRAINTS_CACHED_MAX: usize = 64;
/// Constraints that are compiled at once; more wait.
pub const CONSTRAINTS_COMPILING_MAX: usize = 2;
/// Bytes of one JSON file beside a model's weights; the largest index of shards known is about 10 MB.
pub const MODEL_JSON_BYTES_MAX: usize = 64 << 20;
/// Long texts that are tokenized at once, of all runs together; more wait.
pub const TOKENIZING_MAX: usize = 2;
/// Bytes of a batch file; its lines are held in memory until their runs end.
pub const BATCH_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a program's description.
pub const DESCRIPTION_BYTES_MAX: usize = 1 << 20;

/// What one run may use. Each is enforced by `runtime`; reaching one ends the call or the run with an error that names it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunLimits {
    /// Sum over the run's linear memories.
    pub memory_max_bytes: usize,
    /// Sum over the run's tables.
    pub table_elements_max: usize,
    /// Time the guest's own code may run; waiting for the model is free.
    pub cpu_budget: Duration,
    /// Wall-clock time from start to finish.
    pub wall_deadline: Duration,
    /// Contexts open at once, forks included.
    pub contexts_max: u32,
    /// Calls started and not finished.
    pub pending_calls_max: u32,
    /// Operations queued on its contexts together.
    pub queued_operations_max: usize,
    /// Options, constraints, calls, outcomes and images held at once.
    pub handles_max: usize,
    /// Bytes of text, options and results that the host keeps for it: contexts (a fork counts anew), queues, outcomes.
    pub held_bytes_max: usize,
    /// Tokens of prompts (cached ones count) and outputs over the whole run.
    pub tokens_max: u64,
    /// Bytes given to `emit` over the whole run.
    pub emitted_bytes_max: u64,
    /// Bytes written to standard output and error over the whole run; the rest is dropped, which is reported once.
    pub log_bytes_max: u64,
    /// Bytes of the result.
    pub result_bytes_max: usize,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            memory_max_bytes: 128 << 20,
            table_elements_max: 100_000,
            cpu_budget: Duration::from_secs(10),
            wall_deadline: Duration::from_secs(600),
            contexts_max: 256,
            pending_calls_max: 512,
            queued_operations_max: 16_384,
            handles_max: 4096,
            held_bytes_max: 64 << 20,
            tokens_max: 4_000_000,
            emitted_bytes_max: 16 << 20,
            log_bytes_max: 1 << 20,
            result_bytes_max: 8 << 20,
        }
    }
}

/// What the host gives to all runs together.
#[derive(Clone, Debug, PartialEq)]
pub struct HostLimits {
    /// Runs alive at once; more wait their turn.
    pub concurrent_runs_max: u32,
    /// Bytes of stack of one run.
    pub stack_max_bytes: usize,
    /// Compiled programs kept in memory.
    pub loaded_programs_max: usize,
    /// Events of one run that its reader may lag behind before the run waits.
    pub events_buffered_max: usize,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self { concurrent_runs_max: 256, stack_max_bytes: 1 << 20, loaded_programs_max: 256, events_buffered_max: 256 }
    }
}

/// Whom the engine serves next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchedulePolicy {
    /// Fair between tenants; within a tenant the run that was served least; within a run the longest cached prefix.
    #[default]
    LeastAttainedService,
    /// Calls in the order in which they come, whoever makes them.
    FirstComeFirstServed,
}

/// What the engine takes on.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineLimits {
    /// Whom it serves next.
    pub policy: SchedulePolicy,
    /// Sequences in the batch at once; more wait.
    pub running_max: usize,
    /// Tokens of one step, prefill and decode together.
    pub step_tokens_max: usize,
    /// Tokens of prefill in a step that also decodes, so that a long prompt never stalls running streams.
    pub prefill_chunk_tokens: usize,
    /// Rows of logits of one step; each takes a vocabulary of floats. At least `running_max`.
    pub step_rows_max: usize,
    /// Requests waiting; each is bounded by the context length.
    pub queued_max: usize,
    /// Pieces of text a reader may lag behind before its sequence pauses.
    pub deltas_buffered_max: usize,
    /// How long a paused sequence keeps its place before it is cancelled.
    pub slow_reader: Duration,
}

impl EngineLimits {
    /// For a GPU, which takes thousands of tokens in the time that a CPU takes a hundred.
    #[must_use]
    pub fn gpu() -> Self {
        Self { running_max: 256, step_tokens_max: 8192, prefill_chunk_tokens: 2048, ..Self::default() }
    }
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            policy: SchedulePolicy::default(),
            running_max: 64,
            step_tokens_max: 512,
            // A tenth of a second of a small model on a CPU, whose prefill is as fast in chunks of 128 as of 512.
            prefill_chunk_tokens: 128,
            step_rows_max: 256,
            queued_max: 16_384,
            deltas_buffered_max: 256,
            slow_reader: Duration::from_secs(60),
        }
    }
}
