//! The program in a language, built once, and a host for it: the real engine over a model that follows a script.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use sglhost_core::limits::{EngineLimits, RunLimits};
use sglhost_core::{Error, Event, SamplingParams, TenantId};
use sglhost_engine::SystemClock;
use sglhost_runtime::{Description, Program, RunRequest, Runtime, RuntimeConfig};
use sglhost_tests::binary::{run, sglhost};
use sglhost_tests::guests;
use sglhost_tests::scripted_model::ScriptedModel;

/// Tokens that the model's memory holds.
const SLOTS: usize = 20_000;

/// A component that is built by whoever wants it first.
type Building = OnceLock<Arc<Vec<u8>>>;

/// The component of a language's program, as `sglhost build` makes it.
pub(crate) fn component(language: &str) -> Arc<Vec<u8>> {
    static BUILT: Mutex<Option<HashMap<String, Arc<Building>>>> = Mutex::new(None);
    let cell = {
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(built.get_or_insert_default().entry(language.to_owned()).or_default())
    };
    // Who wants the same waits; who wants another builds beside it.
    Arc::clone(cell.get_or_init(|| Arc::new(build(language))))
}

fn build(language: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("languages").join(language);
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("every_function-{language}.wasm"));
    let mut command = sglhost([PathBuf::from("build"), folder, PathBuf::from("--output"), output.clone()]);
    if language == "rust" {
        command.env("SGLHOST_GUEST_TOOLCHAIN", guests::toolchain());
        // Shared with the other guests, so that the SDK's dependencies are compiled once.
        command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("new"));
    }
    let _ = run(&mut command).well();
    fs::read(&output).unwrap()
}

/// A host, and the program in it.
pub(crate) struct Host {
    runtime: Runtime,
    program: Program,
    passes: Arc<AtomicUsize>,
    tokio: tokio::runtime::Runtime,
}

/// How a run ended, and what it wrote to its log.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) result: Result<Value, Error>,
    pub(crate) log: String,
    pub(crate) emitted: Vec<(String, String)>,
}

impl Host {
    /// With a model whose passes take `step`.
    pub(crate) fn new(language: &str, step: Duration) -> Self {
        let model = ScriptedModel::new(SLOTS, step);
        let passes = model.passes();
        let entropy = AtomicU64::new(1);
        let config = RuntimeConfig {
            compile_cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")),
            ..RuntimeConfig::default()
        };
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let inside = tokio.enter();
        let entropy = Arc::new(move || entropy.fetch_add(1, Ordering::Relaxed));
        let engine = model.engine(EngineLimits::default());
        let runtime = Runtime::new(config, engine, Arc::new(SystemClock::default()), entropy).unwrap();
        let program = tokio.block_on(runtime.load(&component(language))).unwrap_or_else(|error| panic!("{error}"));
        drop(inside);
        Self { runtime, program, passes, tokio }
    }

    /// Its name, description and arguments.
    pub(crate) fn description(&self) -> Value {
        let Description { name, description, arguments } = self.program.description();
        json!({ "name": name, "description": description, "arguments": arguments })
    }

    /// Runs a part of the program, or `all`, in some limits, with a seed.
    pub(crate) fn run(&self, part: &str, limits: RunLimits) -> End {
        let arguments = json!({ "topic": "tea", "part": part, "words": ["a", "b"] }).to_string();
        let request = RunRequest {
            tenant: TenantId::local(),
            arguments,
            defaults: SamplingParams::default(),
            priority: 0,
            limits: Some(limits),
            seed: Some(1),
        };
        self.tokio.block_on(async {
            let mut run = self.runtime.start(&self.program, request);
            let (mut log, mut emitted) = (String::new(), Vec::new());
            loop {
                match run.events.recv().await.unwrap() {
                    Event::Log { text, .. } => log += &text,
                    Event::Emit { channel, data } => emitted.push((channel, data)),
                    Event::RunFinished { result, .. } => {
                        let result = result.map(|result| serde_json::from_str(&result).unwrap());
                        return End { result, log, emitted };
                    }
                    _ => {}
                }
            }
        })
    }

    /// Passes of the model so far.
    pub(crate) fn passes(&self) -> usize {
        self.passes.load(Ordering::SeqCst)
    }

    /// Runs whose instance is still there.
    pub(crate) fn live_runs(&self) -> usize {
        self.runtime.live_runs()
    }
}
