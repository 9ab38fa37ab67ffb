//! What `run` was asked to do, checked: flags, environment and files of configuration as one value that is right.

mod remote;
mod serve;

use std::{
    fs,
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde_json::{Map, Value};
use sglhost_core::{
    SamplingParams,
    limits::{BATCH_BYTES_MAX, EngineLimits, RunLimits, SchedulePolicy},
};

use crate::{
    arguments::parse_object,
    environment::Environment,
    failure::Failure,
    flags::{
        ColorChoice, DeviceChoice, EngineFlags, LimitFlags, LogLevel, ModelFlags, OutputFlags, PolicyChoice, RunFlags,
        SamplingFlags,
    },
    model::{DEFAULT_MODEL, ModelReference},
};

pub(crate) use remote::{RemoteRunConfig, client};
pub(crate) use serve::ServeConfig;

/// What `run` does, here.
#[derive(Debug)]
pub(crate) struct RunConfig {
    /// The component's file.
    pub(crate) program: PathBuf,
    /// One run or many, and what is printed.
    pub(crate) mode: Mode,
    /// Print figures at the end.
    pub(crate) stats: bool,
    /// The model and what it runs on.
    pub(crate) model: ModelConfig,
    /// How the engine serves many calls.
    pub(crate) engine: EngineConfig,
    /// What the engine writes to standard error.
    pub(crate) log_level: LogLevel,
    /// What the program's calls start from.
    pub(crate) defaults: SamplingParams,
    /// Makes the run repeatable.
    pub(crate) seed: Option<u64>,
    /// What a run may use.
    pub(crate) limits: RunLimits,
}

/// One run or many.
#[derive(Debug)]
pub(crate) enum Mode {
    /// One run.
    One {
        /// What is printed.
        output: OutputMode,
        /// `--args`.
        object: Map<String, Value>,
        /// The program's own words of the command line.
        words: Vec<String>,
    },
    /// A run for each line of a file.
    Batch {
        /// The lines, read already: a file that is missing is told before a model is opened.
        text: String,
        /// Runs at once.
        concurrency: usize,
    },
}

/// What one run prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputMode {
    /// Its text, as it grows.
    Text {
        /// With colours.
        color: bool,
    },
    /// One object at the end.
    Json,
    /// A line for each event.
    Events,
}

/// The model and what it runs on.
#[derive(Clone, Debug)]
pub(crate) struct ModelConfig {
    /// Which.
    pub(crate) reference: ModelReference,
    /// Where it computes.
    pub(crate) device: DeviceChoice,
    /// Threads of the CPU that compute; none is one per core.
    pub(crate) threads: Option<usize>,
    /// On a GPU: results do not depend on the batch.
    pub(crate) deterministic: bool,
    /// How much of a GPU's memory may be taken.
    pub(crate) memory_fraction: f64,
    /// Where a GPU's tuned products are kept.
    pub(crate) plans: PathBuf,
    /// Tokens that the KV memory holds.
    pub(crate) kv_tokens: Option<usize>,
    /// Tokens of one of its pages.
    pub(crate) page_tokens: usize,
    /// In place of the model's own.
    pub(crate) chat_template: Option<TemplateFile>,
}

/// How the engine serves many calls; what is not said depends on where it computes.
#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    policy: SchedulePolicy,
    running_max: Option<usize>,
    prefill_chunk_tokens: Option<usize>,
}

/// A chat template of the user's.
#[derive(Clone, Debug)]
pub(crate) struct TemplateFile {
    /// Where it was read.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) text: String,
}

impl RunConfig {
    /// Checks flags against each other and against the world.
    ///
    /// # Errors
    /// A value out of its range, a file that is not there, a model that is not known.
    pub(crate) fn new(flags: &RunFlags, environment: &Environment) -> Result<Self, Failure> {
        let Some(program) = flags.program.clone() else {
            // clap asks for it; only `--help` goes without, and does not come here.
            return Err(Failure::Usage("which program? `sglhost run PROGRAM`".to_owned()));
        };
        if flags.remote.detach || flags.remote.key_file.is_some() {
            let flag = if flags.remote.detach { "--detach" } else { "--key-file" };
            return Err(Failure::Usage(format!("{flag} is for a run on a server: --server says which")));
        }
        Ok(Self {
            program,
            mode: Mode::new(flags, environment)?,
            stats: flags.output.stats,
            model: ModelConfig::new(&flags.model, environment)?,
            engine: EngineConfig::new(&flags.engine),
            log_level: flags.engine.log_level.unwrap_or(LogLevel::Error),
            seed: flags.sampling.seed,
            defaults: sampling(&flags.sampling)?,
            limits: limits(&flags.limits),
        })
    }
}

impl Mode {
    fn new(flags: &RunFlags, environment: &Environment) -> Result<Self, Failure> {
        match &flags.batch {
            Some(_) if !flags.program_arguments.is_empty() => {
                let first = &flags.program_arguments[0];
                Err(Failure::Usage(format!(
                    "unexpected {first:?}: with --batch each line of the file holds all arguments of its run"
                )))
            }
            Some(file) => Ok(Self::Batch { text: read_batch(file)?, concurrency: usize::from(flags.concurrency) }),
            None => Ok(Self::One {
                output: OutputMode::new(&flags.output, environment),
                object: flags.args.as_deref().map(read_object).transpose()?.unwrap_or_default(),
                words: flags.program_arguments.clone(),
            }),
        }
    }
}

impl OutputMode {
    /// What was asked for; text, if nothing was.
    pub(crate) fn new(flags: &OutputFlags, environment: &Environment) -> Self {
        if flags.json {
            Self::Json
        } else if flags.events {
            Self::Events
        } else {
            Self::Text { color: use_color(flags.color, environment) }
        }
    }
}

impl ModelConfig {
    fn new(flags: &ModelFlags, environment: &Environment) -> Result<Self, Failure> {
        let name = flags.model.as_deref().or(environment.model.as_deref()).unwrap_or(DEFAULT_MODEL);
        let chat_template = flags.chat_template.as_ref().map(|path| match fs::read_to_string(path) {
            Ok(text) => Ok(TemplateFile { path: path.clone(), text }),
            Err(error) => Err(Failure::Io { path: format!("--chat-template {}", path.display()), error }),
        });
        let memory_fraction = flags.mem_fraction;
        if !(memory_fraction > 0.0 && memory_fraction < 1.0) {
            return Err(Failure::Usage(format!("--mem-fraction {memory_fraction}: it must be above 0 and below 1")));
        }
        Ok(Self {
            reference: ModelReference::parse(name)?,
            device: match (flags.device, &environment.device) {
                (Some(device), _) => device,
                (None, Some(name)) => DeviceChoice::from_str(name, true)
                    .map_err(|_| Failure::Usage(format!("SGLHOST_DEVICE={name}: it must be auto, cpu or cuda")))?,
                (None, None) => DeviceChoice::Auto,
            },
            deterministic: flags.deterministic,
            memory_fraction,
            plans: environment.cache.join("plans"),
            threads: flags.threads.map(usize::from),
            kv_tokens: flags.kv_tokens.map(|tokens| tokens as usize),
            page_tokens: usize::from(flags.page_size),
            chat_template: chat_template.transpose()?,
        })
    }
}

impl EngineConfig {
    fn new(flags: &EngineFlags) -> Self {
        Self {
            policy: match flags.schedule_policy {
                PolicyChoice::Las => SchedulePolicy::LeastAttainedService,
                PolicyChoice::Fcfs => SchedulePolicy::FirstComeFirstServed,
            },
            running_max: flags.max_running_requests.map(usize::from),
            prefill_chunk_tokens: flags.chunked_prefill_size.map(usize::from),
        }
    }

    /// On a device that starts from `default`.
    pub(crate) fn limits(&self, default: EngineLimits) -> EngineLimits {
        let chunk = self.prefill_chunk_tokens.unwrap_or(default.prefill_chunk_tokens);
        EngineLimits {
            policy: self.policy,
            running_max: self.running_max.unwrap_or(default.running_max),
            prefill_chunk_tokens: chunk,
            step_tokens_max: default.step_tokens_max.max(chunk),
            ..default
        }
    }
}

/// `--batch`: a file, or `-` for standard input.
fn read_batch(file: &Path) -> Result<String, Failure> {
    let (name, input): (_, Box<dyn Read>) = if file.as_os_str() == "-" {
        ("standard input".to_owned(), Box::new(std::io::stdin().lock()))
    } else {
        let name = format!("--batch {}", file.display());
        let opened = fs::File::open(file).map_err(|error| Failure::Io { path: name.clone(), error })?;
        (name, Box::new(opened))
    };
    let mut text = String::new();
    match input.take(BATCH_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(bytes) if bytes as u64 > BATCH_BYTES_MAX => {
            Err(Failure::Usage(format!("{name} has more than {BATCH_BYTES_MAX} bytes (BATCH_BYTES_MAX); split it")))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::Io { path: name, error }),
    }
}

/// `--args`: JSON, or `@FILE`.
fn read_object(text: &str) -> Result<Map<String, Value>, Failure> {
    match text.strip_prefix('@') {
        None => Ok(parse_object("--args", text)?),
        Some(path) => {
            let name = format!("--args @{path}");
            match fs::read_to_string(path) {
                Ok(text) => Ok(parse_object(&name, &text)?),
                Err(error) => Err(Failure::Io { path: name, error }),
            }
        }
    }
}

fn use_color(choice: ColorChoice, environment: &Environment) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => !environment.no_color && std::io::stdout().is_terminal(),
    }
}

fn sampling(flags: &SamplingFlags) -> Result<SamplingParams, Failure> {
    let default = SamplingParams::default();
    let params = SamplingParams {
        temperature: flags.temperature.unwrap_or(default.temperature),
        max_tokens: flags.max_tokens.unwrap_or(default.max_tokens),
        top_p: flags.top_p.unwrap_or(default.top_p),
        top_k: flags.top_k.unwrap_or(default.top_k),
        min_p: flags.min_p.unwrap_or(default.min_p),
        frequency_penalty: flags.frequency_penalty.unwrap_or(default.frequency_penalty),
        presence_penalty: flags.presence_penalty.unwrap_or(default.presence_penalty),
        repetition_penalty: flags.repetition_penalty.unwrap_or(default.repetition_penalty),
        ignore_eos: flags.ignore_eos,
        ..default
    };
    // The messages name parameters; on the command line those are flags.
    params.validate().map_err(|error| Failure::Usage(format!("--{}", dashes(&error.message))))?;
    Ok(params)
}

/// `top_p is 2` becomes `top-p is 2`.
fn dashes(message: &str) -> String {
    match message.split_once(' ') {
        Some((name, rest)) => format!("{} {rest}", name.replace('_', "-")),
        None => message.to_owned(),
    }
}

fn limits(flags: &LimitFlags) -> RunLimits {
    let default = RunLimits::default();
    RunLimits {
        cpu_budget: flags.cpu_budget.unwrap_or(default.cpu_budget),
        wall_deadline: flags.deadline.unwrap_or(default.wall_deadline),
        memory_max_bytes: flags.memory.unwrap_or(default.memory_max_bytes),
        tokens_max: flags.max_total_tokens.unwrap_or(default.tokens_max),
        ..default
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

    use clap::Parser;

    use super::*;
    use crate::flags::{Command, Flags};

    fn config(line: &str) -> Result<RunConfig, Failure> {
        let Command::Run(flags) = Flags::try_parse_from(line.split(' ')).unwrap().command else { panic!("{line}") };
        RunConfig::new(&flags, &Environment::default())
    }

    #[test]
    fn flags_become_values() {
        let config =
            config("sglhost run --temperature 0 --top-k -1 --memory 1MiB --deadline 2s p.wasm -- --q x").unwrap();
        assert_eq!(config.defaults.temperature, 0.0);
        assert_eq!(config.limits.memory_max_bytes, 1 << 20);
        assert_eq!(config.limits.wall_deadline.as_secs(), 2);
        let Mode::One { words, object, .. } = config.mode else { panic!("one run") };
        assert_eq!((words, object), (vec!["--q".to_owned(), "x".to_owned()], Map::new()));
    }

    #[test]
    fn wrong_values_are_named() {
        let check = |line: &str, expect: &str| assert_eq!(config(line).unwrap_err().to_string(), expect, "{line}");
        check("sglhost run --batch no-such p.wasm", "--batch no-such does not exist");
        check("sglhost run --batch . p.wasm", "--batch . is a folder, not a file");
        check("sglhost run --args @no-such p.wasm", "--args @no-such does not exist");
        check("sglhost run --chat-template no-such p.wasm", "--chat-template no-such does not exist");
        check(
            "sglhost run --args {a:1} p.wasm",
            "--args must be a JSON object, as in {\"question\": \"…\"}; this is not JSON: key must be a string (column 2)",
        );
        check("sglhost run --top-p 2 p.wasm", "--top-p is 2; it must be in (0, 1]");
        check("sglhost run --args [] p.wasm", "--args must be a JSON object, as in {\"question\": \"…\"}; this is []");
        check(
            "sglhost run --batch f p.wasm -- --q x",
            "unexpected \"--q\": with --batch each line of the file holds all arguments of its run",
        );
        assert!(matches!(config("sglhost run -m nothing p.wasm"), Err(Failure::ModelStore(_))));
    }
}
