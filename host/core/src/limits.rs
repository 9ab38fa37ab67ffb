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
/// Automaton states looked at for one mask, some 20 ms; a constraint that needs more ends its call with an error. Real
/// ones stay below a tenth of it.
pub const CONSTRAINT_MASK_STEPS_MAX: u64 = 2_000_000;
/// Bytes that a constraint forces at once; what comes after is forced at the next token.
pub const FORCED_BYTES_MAX: usize = 4096;
/// Bytes of a JSON Schema or structural tags, before they are parsed.
pub const GRAMMAR_BYTES_MAX: usize = 512 << 10;
/// Bytes of a Lark grammar: its compiler needs up to 1 KiB of stack for each.
pub const LARK_BYTES_MAX: usize = 64 << 10;
/// Schemas within a JSON Schema, itself among them; compiling one takes up to 15 KiB.
pub const GRAMMAR_SCHEMAS_MAX: usize = 3000;
/// References in a schema, and definitions in a Lark grammar, which may form one chain: compilers recurse along it.
pub const GRAMMAR_DEFINITIONS_MAX: usize = 8192;
/// Regular expressions that one text may have to match all of: each more doubles the time that compiling them may take.
pub const GRAMMAR_PATTERNS_MEETING_MAX: usize = 16;
/// What a number in a schema may be above or below zero: 2^53, up to which integers are exact as 64-bit floats. Bounds past
/// all 64-bit integers are taken for those.
pub const GRAMMAR_NUMBER_MAX: u64 = 1 << 53;
/// A divisor (`multipleOf`) without its point, and the least common multiple of those that meet: an automaton has a state
/// for each remainder, which takes some 100 ms with so many.
pub const GRAMMAR_MULTIPLE_MAX: u64 = 10_000;
/// Properties beside `minProperties` and `maxProperties`: each has an alternative with all the others.
pub const GRAMMAR_COUNTED_PROPERTIES_MAX: usize = 200;
/// Bytes of a separator that a schema writes JSON with.
pub const GRAMMAR_SEPARATOR_BYTES_MAX: usize = 64;
/// Symbols in a grammar's productions.
pub const GRAMMAR_SYMBOLS_MAX: usize = 200_000;
/// Steps of the lexer's compiler for one grammar, some 10 ms and 50 MiB.
pub const GRAMMAR_COMPILE_FUEL_MAX: u64 = 500_000;
/// Steps of the lexer for one mask, some 7 ms.
pub const GRAMMAR_MASK_FUEL_MAX: u64 = 100_000;
/// Parser items for one mask, some 1 ms where rows are short.
pub const GRAMMAR_MASK_ITEMS_MAX: usize = 20_000;
/// Parser items at one byte of the output: how ambiguous a grammar may be. A row takes time in the square of it: with 500 a
/// mask at most some 20 ms and a token 6, with 2000 a second. Of 210 schemas from the world none needs 200.
pub const GRAMMAR_ROW_ITEMS_MAX: usize = 500;
/// States of a grammar's lexer, 1 to 2 KiB each.
pub const GRAMMAR_LEXER_STATES_MAX: usize = 32_768;
/// Structures, and triggers, of one structural tag.
pub const STRUCTURAL_TAGS_MAX: usize = 128;
/// Bytes of one `append`; a context of 128 Ki tokens is about 0.5 MiB of text.
pub const APPEND_BYTES_MAX: usize = 8 << 20;
/// Steps of one rendering of a chat template, which comes with the model; real ones take under 10,000.
pub const TEMPLATE_FUEL: u64 = 1_000_000;
/// Bytes of a component that is loaded.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// Core instances of one component: a toolchain that links Python's libraries dynamically makes about twenty. The pool of
/// instances has so many for each run.
pub const CORE_INSTANCES_MAX: u32 = 64;
/// Memories of a component's core instances together. All toolchains seen make one; each reserves address space, not
/// memory.
pub const CORE_MEMORIES_MAX: u32 = 2;
/// Tables of a component's core instances together.
pub const CORE_TABLES_MAX: u32 = 8;
/// Bytes that a component's instance, and each core instance in it, may take besides memories and tables: 16 for each
/// component in it and each global, more for a function that is exported or called by reference.
pub const INSTANCE_BYTES_MAX: usize = 1 << 20;
/// Handles of a run beside those that have a limit of their own: streams, futures, tasks, and what WASI needs.
pub const OTHER_HANDLES_MAX: usize = 2048;
/// Bytes of native code that are kept on disk; beyond it what was compiled first is forgotten, and compiled again.
pub const COMPILE_CACHE_BYTES_MAX: u64 = 4 << 30;
/// Runs of a batch over HTTP; more are refused while they are read.
pub const BATCH_RUNS_MAX: usize = 1000;
/// Bytes of a list over HTTP; what would be longer has a next page.
pub const LIST_BYTES_MAX: usize = 1 << 20;
/// Bytes of JSON that are read at once on a thread that serves others, too: a millisecond's work at most.
pub const LIGHT_JSON_BYTES_MAX: usize = 64 << 10;
/// Longer bodies and arguments that are read at once, of all tenants together; more wait.
pub const LONG_JSON_READ_MAX: usize = 2;
/// Bytes of a run's arguments.
pub const ARGUMENTS_BYTES_MAX: usize = 8 << 20;
/// Compiled constraints the host keeps for calls to come, of all tenants together.
pub const CONSTRAINTS_CACHED_MAX: usize = 64;
/// Bytes that these take together, with what is remembered of their states; looked at whenever one is asked for.
pub const CONSTRAINTS_CACHED_BYTES_MAX: usize = 256 << 20;
/// Bytes of stack that a constraint is compiled on, most of it never touched: compilers recurse along references and
/// groups, some 2 KB for each in a debug build, and a grammar of [`LARK_BYTES_MAX`] may have one for each two bytes.
pub const CONSTRAINT_STACK_BYTES: usize = 1 << 30;
/// Constraints that are compiled at once; more wait.
pub const CONSTRAINTS_COMPILING_MAX: usize = 2;
/// Bytes of one JSON file beside a model's weights; the largest index of shards known is about 10 MB.
pub const MODEL_JSON_BYTES_MAX: usize = 64 << 20;
/// Long texts that are tokenized at once, of all runs together; more wait.
pub const TOKENIZING_MAX: usize = 2;
/// Bytes of a batch file; its lines are held in memory until their runs end.
pub const BATCH_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a program's description. As JSON in memory it takes tens of times that, for each program that is loaded.
pub const DESCRIPTION_BYTES_MAX: usize = 64 << 10;
/// Tags of one program; each answer about a version lists its own.
pub const TAGS_PER_PROGRAM_MAX: u32 = 64;
/// Names of programs that a tenant may ever have used: each is remembered after its deletion, so that no version number
/// comes again.
pub const PROGRAM_NAMES_MAX: u32 = 65_536;
/// Bytes that the records of a tenant's ended runs may take on disk; beyond it the oldest runs are forgotten.
pub const RUN_RECORDS_BYTES_MAX: u64 = 1 << 30;
/// Bytes of a run's error message in a list of runs; asking for the run itself gives all of it.
pub const LISTED_MESSAGE_BYTES_MAX: usize = 1024;
/// Bytes of what a client is told of a request that is refused: what is wrong with it may be a name of megabytes.
pub const REFUSAL_BYTES_MAX: usize = 4096;
/// Changes that wait for the store's writer; more wait to be let in.
pub const STORE_CHANGES_WAITING_MAX: usize = 1024;
/// Changes that the store writes to disk at once; what waits is written together.
pub const STORE_CHANGES_PER_COMMIT_MAX: usize = 256;
/// Rows that one change deletes; more are deleted in several, between which others get their turn.
pub const STORE_ROWS_PER_DELETION_MAX: u32 = 1000;
/// Lists and look-ups in the store at once; more wait.
pub const STORE_READERS_MAX: usize = 4;
/// How long the store waits for another process (`sglhost tenant`) that is writing.
pub const STORE_BUSY: Duration = Duration::from_secs(10);

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
    /// Bytes of text, options and results that the host keeps for it: contexts (a fork counts anew), queues, outcomes,
    /// and each compiled constraint that its calls use, once.
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

impl RunLimits {
    /// Handles of every kind that a run may hold, streams and futures among them: those that have a limit of their own,
    /// and [`OTHER_HANDLES_MAX`].
    #[must_use]
    pub fn all_handles_max(&self) -> usize {
        /// A call has one itself, one for its text, and others for those who wait for it.
        const PER_CALL: usize = 4;
        let calls = PER_CALL.saturating_mul(self.pending_calls_max as usize);
        self.handles_max
            .saturating_add(self.contexts_max as usize)
            .saturating_add(calls)
            .saturating_add(OTHER_HANDLES_MAX)
    }
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

/// What the process that compiles a stranger's component may use, and how many there may be.
#[derive(Clone, Debug, PartialEq)]
pub struct CompileLimits {
    /// Bytes of memory. A component takes about 25 times the size of its code.
    pub compile_memory_max_bytes: usize,
    /// CPU time for compiling, on one thread of low priority: about a second for a megabyte of code. A function of
    /// megabytes takes minutes, and is what this is against.
    pub compile_cpu_budget: Duration,
    /// Wall-clock time for all of it, `describe` included; long, because it yields to whatever else there is to do.
    pub compile_deadline: Duration,
    /// Bytes of native code that may come of it.
    pub compiled_bytes_max: u64,
    /// CPU time of the program's `describe`.
    pub describe_cpu_budget: Duration,
    /// Wall-clock time of the program's `describe`: one that sleeps must not keep others from compiling.
    pub describe_deadline: Duration,
    /// Components that are compiled at once; more wait.
    pub compiles_max: usize,
    /// Components that may wait, each held in memory; one more is refused.
    pub compiles_queued_max: usize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            compile_memory_max_bytes: 1 << 30,
            compile_cpu_budget: Duration::from_secs(60),
            compile_deadline: Duration::from_secs(300),
            compiled_bytes_max: 256 << 20,
            describe_cpu_budget: Duration::from_secs(2),
            describe_deadline: Duration::from_secs(20),
            compiles_max: 2,
            compiles_queued_max: 16,
        }
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
    /// Whether tokens that a constraint forces are appended without asking the model for each. Off only where a test or a
    /// benchmark wants to know what that changes: the text is the same, if the model spells what is forced as its
    /// tokenizer does.
    pub jump_forward: bool,
    /// Threads of each engine that build masks while the device computes; 0 builds them when they are needed, on the
    /// engine's own. None: half the cores, and one to four.
    pub mask_threads: Option<usize>,
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
            jump_forward: true,
            mask_threads: None,
        }
    }
}

/// What a server takes on over HTTP, and how long it waits for whom.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerLimits {
    /// Connections open at once; each takes a task and its buffers.
    pub connections_max: usize,
    /// Of those, from one address, so that one client does not take all. Loopback may take all: a proxy stands there.
    pub connections_per_address_max: usize,
    /// Bytes of a request's line and headers, which are held in memory before anybody is asked who it is.
    pub head_bytes_max: usize,
    /// Headers of a request.
    pub headers_max: usize,
    /// From the first byte of a request's head, or the opening of the connection, to the head's end.
    pub head_timeout: Duration,
    /// How long a connection may stay open between two requests.
    pub idle_timeout: Duration,
    /// How long a connection is read on after its last answer: a client that still sends would else not see that answer.
    pub linger: Duration,
    /// How long connections have to end after the server's last run did.
    pub close_timeout: Duration,
    /// Bytes of a body that must come in each `body_progress_period`; a slower one holds a request for nothing.
    pub body_progress_bytes: usize,
    /// See `body_progress_bytes`.
    pub body_progress_period: Duration,
    /// Bytes of the body that starts a run; arguments may be as long as [`ARGUMENTS_BYTES_MAX`].
    pub run_body_bytes_max: usize,
    /// Bytes of the body that starts a batch; it is held in memory until the last of its runs began.
    pub batch_body_bytes_max: usize,
    /// Bytes of any other JSON body.
    pub small_body_bytes_max: usize,
    /// Bytes of all bodies that are being read or were read and are still needed; a body beyond it is refused.
    pub bodies_bytes_max: usize,
    /// Of those, one tenant's: others are heard whatever it sends.
    pub tenant_bodies_bytes_max: usize,
    /// Programs of one tenant that wait to be compiled; one is compiled at a time, so that others' need not wait for all.
    pub tenant_compiles_waiting_max: usize,
    /// Runs of a batch.
    pub batch_runs_max: usize,
    /// Runs of a batch that go on at once, if the client does not say.
    pub batch_concurrency: usize,
    /// The same at most.
    pub batch_concurrency_max: usize,
    /// How long a run of a batch waits for a place, or for its tenant's tokens, before its line says that there was none.
    pub batch_patience: Duration,
    /// Bytes of an idempotency key, which is kept as long as its run.
    pub idempotency_key_bytes_max: usize,
    /// Entries of a list, if the client does not say.
    pub page: u32,
    /// Entries of a list at most.
    pub page_max: u32,
    /// How long a reader of a response, or of an attached run's events, may take nothing before it is given up: what it
    /// holds up is held for nobody.
    pub slow_reader: Duration,
    /// Between two comments on a stream of events on which nothing happens, so that proxies keep it.
    pub event_keep_alive: Duration,
    /// Bytes of one run's events that are kept while it goes on. An attached run waits for its reader beyond it; of any
    /// other the oldest events are forgotten.
    pub run_events_bytes_max: usize,
    /// How long a run's events are kept after its end.
    pub run_events_kept: Duration,
    /// Bytes that all ended runs' events and records take together; those of runs that ended first are forgotten first.
    pub events_bytes_max: usize,
    /// How long a run is kept after its end.
    pub runs_kept: Duration,
    /// Runs of one tenant that are kept.
    pub runs_kept_max: u32,
    /// Between two times that older runs are forgotten.
    pub forget_period: Duration,
    /// Between two looks at whether tenants or keys changed: so long a revoked key may live.
    pub tenants_period: Duration,
    /// How long live runs may go on after the server was told to stop, before they are cancelled.
    pub drain_timeout: Duration,
    /// How long after that it waits for their ends to be on disk.
    pub flush_timeout: Duration,
    /// After a failure of the store, until a run's end is tried again; doubled each time.
    pub store_retry: Duration,
    /// The longest that `store_retry` grows.
    pub store_retry_max: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            connections_per_address_max: 1024,
            head_bytes_max: 16 << 10,
            headers_max: 64,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            linger: Duration::from_secs(2),
            close_timeout: Duration::from_secs(5),
            body_progress_bytes: 64 << 10,
            body_progress_period: Duration::from_secs(10),
            run_body_bytes_max: ARGUMENTS_BYTES_MAX,
            batch_body_bytes_max: 64 << 20,
            small_body_bytes_max: 64 << 10,
            bodies_bytes_max: 512 << 20,
            tenant_bodies_bytes_max: 192 << 20,
            tenant_compiles_waiting_max: 8,
            batch_runs_max: BATCH_RUNS_MAX,
            batch_concurrency: 8,
            batch_concurrency_max: 64,
            batch_patience: Duration::from_secs(60),
            idempotency_key_bytes_max: 255,
            page: 100,
            page_max: 1000,
            slow_reader: Duration::from_secs(60),
            event_keep_alive: Duration::from_secs(15),
            run_events_bytes_max: 4 << 20,
            run_events_kept: Duration::from_secs(600),
            events_bytes_max: 256 << 20,
            runs_kept: Duration::from_secs(7 * 24 * 3600),
            runs_kept_max: 100_000,
            forget_period: Duration::from_secs(3600),
            tenants_period: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
            flush_timeout: Duration::from_secs(10),
            store_retry: Duration::from_millis(100),
            store_retry_max: Duration::from_secs(5),
        }
    }
}
