//! The command line as it is written: commands, flags and their help.
//!
//! *Not here*: what values mean together, which `config.rs` checks, and a program's own arguments, whose names only the
//! program knows (`split.rs`, `arguments.rs`).

mod client;
mod serve;
mod tenant;

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use sglhost_model::MEMORY_FRACTION;

use crate::language::Language;
use crate::units::{parse_memory_limit, parse_time_limit};

pub(crate) use client::{ClientCommand, ListFlags, LogsFlags, PushFlags, RunsFlags, ServerFlags, UsageFlags};
pub(crate) use serve::ServeFlags;
pub(crate) use tenant::{DataFlags, KeyCommand, QuotaFlags, TenantCommand};

/// Hosts prompt programs, WebAssembly components, next to the model they prompt.
#[derive(Debug, Parser)]
#[command(name = "sglhost", version, about, propagate_version = false, arg_required_else_help = true)]
pub(crate) struct Flags {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program and stream its text
    Run(Box<RunFlags>),
    /// Show what a program is: its arguments, its imports, its id
    Inspect(InspectFlags),
    /// Fetch, list and find models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Build the program in a folder into a component
    Build(BuildFlags),
    /// Start a new program
    New(NewFlags),
    /// Serve programs over HTTP: their runs, events and usage, and a page
    Serve(Box<ServeFlags>),
    /// What is asked of a server.
    #[command(flatten)]
    Client(ClientCommand),
    /// Make tenants of a server, with keys and quotas
    #[command(subcommand)]
    Tenant(TenantCommand),
}

/// `sglhost run`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "sglhost run [OPTIONS] PROGRAM [--ARGUMENT VALUE]... [-- [--ARGUMENT VALUE]...]",
    after_help = "A program's own arguments follow it, in any order with the options above: `sglhost run PROGRAM \
                  --help` shows them. Where both have the same name, the option is meant; after `--` everything is the \
                  program's. A value that begins with a dash is written `--argument=VALUE`."
)]
pub(crate) struct RunFlags {
    /// A component: built by `sglhost build`, or by any other tool from the contract in wit/. On a server the name of a
    /// program that `sglhost push` took there: NAME, NAME@3 or NAME@TAG
    #[arg(value_name = "PROGRAM", required_unless_present = "help")]
    pub(crate) program: Option<PathBuf>,

    /// What `split.rs` found to be the program's.
    #[arg(last = true, hide = true, allow_hyphen_values = true)]
    pub(crate) program_arguments: Vec<String>,

    /// Print help, with the program's own arguments if one is named
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub(crate) help: bool,

    /// Arguments as a JSON object, or `@FILE` to read one; single arguments override its fields
    #[arg(long, value_name = "JSON", help_heading = "Program arguments")]
    pub(crate) args: Option<String>,

    /// Run once per line of a file of JSON objects (`-`: standard input), printing a JSON line each, in order
    #[arg(long, value_name = "FILE", help_heading = "Program arguments", conflicts_with_all = ["args", "json", "events"])]
    pub(crate) batch: Option<PathBuf>,

    /// Runs of a batch that go on at once
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Program arguments",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) concurrency: u16,

    /// What is printed.
    #[command(flatten)]
    pub(crate) output: OutputFlags,
    /// Where it runs, if not here.
    #[command(flatten)]
    pub(crate) remote: RemoteFlags,
    /// What it runs on.
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    /// How the engine serves many calls.
    #[command(flatten)]
    pub(crate) engine: EngineFlags,
    /// How tokens are chosen.
    #[command(flatten)]
    pub(crate) sampling: SamplingFlags,
    /// What it may use.
    #[command(flatten)]
    pub(crate) limits: LimitFlags,

    /// Flags on the command line that make no sense on a server; see [`RunFlags::notice_local_flags`].
    #[arg(skip)]
    pub(crate) local_flags: Vec<String>,
}

/// The headings of flags that say how this machine serves a program.
pub(crate) const LOCAL_HEADINGS: [&str; 3] = ["Model", "Engine", "Limits of a run"];

impl RunFlags {
    /// Takes down which flags that are for a run on this machine were given: most have defaults, so values do not tell.
    /// `run` and `matches` are clap's, of this command.
    pub(crate) fn notice_local_flags(&mut self, run: &clap::Command, matches: &clap::ArgMatches) {
        let local = |argument: &&clap::Arg| argument.get_help_heading().is_some_and(|it| LOCAL_HEADINGS.contains(&it));
        let given = |argument: &&clap::Arg| {
            matches.value_source(argument.get_id().as_str()) == Some(clap::parser::ValueSource::CommandLine)
        };
        let flags = run.get_arguments().filter(local).filter(given).filter_map(clap::Arg::get_long);
        self.local_flags = flags.map(|long| format!("--{long}")).collect();
    }
}

/// Where `run` runs, if not here.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct RemoteFlags {
    /// Run it on the server at this address, as in http://127.0.0.1:30000 [default: here, or what SGLHOST_SERVER says]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// A file that holds the key to show the server [default: what SGLHOST_KEY says]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// Let the run go on by itself, and print its id; `sglhost logs ID` shows it
    #[arg(long, conflicts_with_all = ["batch", "json", "events", "stats"])]
    pub(crate) detach: bool,
}

/// What `run` prints.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputFlags {
    /// Print one JSON object at the end: result, variables (name to text of the named calls) and usage
    #[arg(long, conflicts_with = "events")]
    pub(crate) json: bool,

    /// Print each step of the run as a line of JSON
    #[arg(long)]
    pub(crate) events: bool,

    /// Print tokens, cached tokens, time to first token and tokens per second to standard error at the end
    #[arg(long)]
    pub(crate) stats: bool,

    /// Colours: prompt text dim, generated text bright
    #[arg(long, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal.
    Auto,
    /// Also into a file or a pipe.
    Always,
    /// Not at all.
    Never,
}

/// What `run` runs on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelFlags {
    /// A GGUF file, a Hugging Face folder or the name of a model; by default smollm2-135m-instruct, fetched on first use
    #[arg(short, long, value_name = "PATH|NAME")]
    pub(crate) model: Option<String>,

    /// Where it computes [default: auto, or what SGLHOST_DEVICE says]
    #[arg(long, value_enum, value_name = "DEVICE")]
    pub(crate) device: Option<DeviceChoice>,

    /// How much of a GPU's memory weights and KV memory may take; the rest is for activations
    #[arg(long, value_name = "FRACTION", default_value_t = MEMORY_FRACTION)]
    pub(crate) mem_fraction: f64,

    /// On a GPU: no bit of a result depends on what else is in the batch, as it never does on the CPU; slower
    #[arg(long)]
    pub(crate) deterministic: bool,

    /// Threads of the CPU that compute; by default one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Tokens that the KV memory holds, all runs together; no context can be longer [default: 8192; on a GPU what
    /// --mem-fraction allows]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) kv_tokens: Option<u32>,

    /// Tokens of a page of KV memory; only whole pages are shared
    #[arg(long, value_name = "TOKENS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) page_size: u16,

    /// A Jinja chat template in place of the model's own
    #[arg(long, value_name = "FILE")]
    pub(crate) chat_template: Option<PathBuf>,
}

/// How the engine serves many calls.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineFlags {
    /// Whom it serves next: `las`, the run that was served least; `fcfs`, calls as they come
    #[arg(long, value_enum, default_value_t = PolicyChoice::Las, value_name = "POLICY")]
    pub(crate) schedule_policy: PolicyChoice,

    /// Sequences in the batch at once; more wait [default: 64; on a GPU 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) max_running_requests: Option<u16>,

    /// Tokens of prefill in a step that also decodes [default: 128; on a GPU 2048]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u16).range(1..=16384))]
    pub(crate) chunked_prefill_size: Option<u16>,

    /// What is written to standard error: `info` has a line for each prefill batch, as SGLang's, and for each request
    /// [default: error; of a server: info]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
}

/// Whom the engine serves next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyChoice {
    /// Least attained service, fair between tenants.
    Las,
    /// First come, first served.
    Fcfs,
}

/// How much the engine writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Failures.
    Error,
    /// Also retractions.
    Warn,
    /// Also batches.
    Info,
}

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceChoice {
    /// A GPU if there is one that can be used, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// An NVIDIA GPU; CUDA_VISIBLE_DEVICES says which
    Cuda,
}

/// How tokens are chosen where the program does not say.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling, where the program does not say otherwise")]
pub(crate) struct SamplingFlags {
    /// 0 takes the likeliest token; 1 samples from the model's distribution as it is [default: 1]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub(crate) temperature: Option<f32>,

    /// Most tokens of a call [default: 128]
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,

    /// Keep the likeliest tokens whose probabilities reach this sum
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,

    /// Keep this many of the likeliest tokens
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub(crate) top_k: Option<i32>,

    /// Keep tokens at least this fraction as likely as the likeliest
    #[arg(long, value_name = "P")]
    pub(crate) min_p: Option<f32>,

    /// Subtracted from a token's logit for each time the call sampled it
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) frequency_penalty: Option<f32>,

    /// Subtracted once from the logit of each token the call sampled
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) presence_penalty: Option<f32>,

    /// Divides the likelihood of tokens the call sampled
    #[arg(long, value_name = "X")]
    pub(crate) repetition_penalty: Option<f32>,

    /// Go on after the model ends its text
    #[arg(long)]
    pub(crate) ignore_eos: bool,

    /// Makes the run repeatable: same seed, same output
    #[arg(long, value_name = "SEED", allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
}

/// What a run may use.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of a run")]
pub(crate) struct LimitFlags {
    /// Time the program's own code may compute; waiting for the model is free [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_time_limit)]
    pub(crate) cpu_budget: Option<Duration>,

    /// Time from start to finish [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = parse_time_limit)]
    pub(crate) deadline: Option<Duration>,

    /// Memory of the program [default: 128MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory_limit)]
    pub(crate) memory: Option<usize>,

    /// Tokens of prompts and outputs, all calls together [default: 4000000]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) max_total_tokens: Option<u64>,
}

/// `sglhost inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectFlags {
    /// A component
    #[arg(value_name = "PROGRAM")]
    pub(crate) program: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `sglhost model`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Fetch a model and check it
    Pull {
        /// A name from `sglhost model list`, or ORG/NAME[@REVISION] of a Hugging Face hub
        #[arg(default_value = crate::model::DEFAULT_MODEL)]
        name: String,
        /// A branch, tag or commit of the repository
        #[arg(long)]
        revision: Option<String>,
        /// Which file, where a repository has several models in GGUF
        #[arg(long, value_name = "NAME.gguf")]
        file: Option<String>,
    },
    /// List the models that are here and those that can be fetched by a short name
    List,
    /// Print where a model is
    Path {
        /// A name from `sglhost model list`
        #[arg(default_value = crate::model::DEFAULT_MODEL)]
        name: String,
    },
}

/// `sglhost build`.
#[derive(Debug, Args)]
pub(crate) struct BuildFlags {
    /// The program's folder
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,

    /// Where the component goes [default: NAME.wasm in the current folder]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Cargo's profile, of a program in Rust
    #[arg(long, default_value = "release", value_name = "NAME")]
    pub(crate) profile: String,
}

/// `sglhost new`.
#[derive(Debug, Args)]
pub(crate) struct NewFlags {
    /// The program's name: of its function and its component
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The language to write it in
    #[arg(long, value_enum, default_value_t, value_name = "LANGUAGE")]
    pub(crate) lang: Language,

    /// The folder to make [default: NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
}
