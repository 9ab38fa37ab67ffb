//! Strangers' components are compiled, and describe themselves, in a process of their own: it ends as it must, the error
//! says why, and the server's own memory is back after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use sglhost_core::limits::{CompileLimits, HostLimits};
use sglhost_core::{Error, ErrorCode};
use sglhost_engine::SystemClock;
use sglhost_runtime::{Isolation, Runtime, RuntimeConfig, RuntimeError};
use sglhost_tests::hostile::{describing, resident_bytes, slow_to_compile};
use sglhost_tests::scripted::ScriptedEngine;

use crate::host::{component, finish, limits};

const CHILD: &str = env!("CARGO_BIN_EXE_compile_child");

/// A runtime that compiles in a process of its own, which is started with `arguments`. Its cache is the test's own.
pub(crate) fn isolated(test: &str, arguments: &[&str], compile: CompileLimits) -> Runtime {
    let compile_cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("isolation").join(test);
    let _ = fs::remove_dir_all(&compile_cache);
    isolated_at(compile_cache, arguments, compile)
}

fn isolated_at(compile_cache: PathBuf, arguments: &[&str], compile: CompileLimits) -> Runtime {
    let config = RuntimeConfig {
        run_limits: limits(),
        host_limits: HostLimits { concurrent_runs_max: 8, ..HostLimits::default() },
        compile_cache: Some(compile_cache),
        isolation: Some(Isolation {
            program: CHILD.into(),
            arguments: arguments.iter().map(Into::into).collect(),
            limits: compile,
        }),
        guests: None,
    };
    Runtime::new(config, ScriptedEngine::new(), Arc::new(SystemClock::default()), Arc::new(|| 1)).unwrap()
}

async fn error_of(runtime: &Runtime, component: &[u8]) -> RuntimeError {
    runtime.load(component).await.map(|program| panic!("it loads: {program:?}")).unwrap_err()
}

/// What a load ends in, and with which code for a client.
async fn check(runtime: &Runtime, component: &[u8], code: ErrorCode, expect: &str) {
    let error = error_of(runtime, component).await;
    assert_eq!(error.to_string(), expect);
    assert_eq!(Error::from(error).code, code, "{expect}");
}

fn quick() -> CompileLimits {
    CompileLimits {
        describe_cpu_budget: Duration::from_millis(300),
        describe_deadline: Duration::from_secs(10),
        ..CompileLimits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_is_compiled_elsewhere_and_runs_here() {
    let runtime = isolated("well", &["compile"], quick());
    let component = component();
    let program = runtime.load(&component).await.unwrap();
    assert_eq!(program.description().name, "attacks");
    assert_eq!(program.size_bytes(), component.len());
    assert!(runtime.loaded(program.id()).is_some());
    let request = sglhost_runtime::RunRequest {
        tenant: sglhost_core::TenantId::local(),
        arguments: r#"{"attack": "answer"}"#.to_owned(),
        defaults: sglhost_core::SamplingParams::default(),
        priority: 0,
        limits: None,
        seed: None,
    };
    assert_eq!(finish(runtime.start(&program, request)).await.result.unwrap(), "\"<13>\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_compiled_before_starts_no_process() {
    let runtime = isolated("warm", &["compile"], quick());
    let id = runtime.load(&component()).await.unwrap().id().clone();
    drop(runtime);
    // This one could compile nothing.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("isolation/warm");
    let runtime = isolated_at(folder.clone(), &["lie", "dead"], quick());
    assert!(runtime.loaded(&id).is_none());
    let program = runtime.kept(&id).await.unwrap();
    assert_eq!((program.description().name.as_str(), program.size_bytes()), ("attacks", component().len()));
    assert!(runtime.loaded(&id).is_some());
    let runtime = isolated_at(folder.clone(), &["lie", "dead"], quick());
    assert_eq!(runtime.load(&component()).await.unwrap().id(), &id);
    // A description that is not whole is asked for again.
    let inner = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    fs::write(inner.join(format!("{id}.json")), "{").unwrap();
    let runtime = isolated_at(folder, &["compile"], quick());
    assert!(runtime.kept(&id).await.is_none());
    assert_eq!(runtime.load(&component()).await.unwrap().id(), &id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_describe_does_instead_is_told() {
    let runtime = isolated("describe", &["compile"], quick());
    let check = async |harm: &str, code, expect: &str| check(&runtime, &describing(harm), code, expect).await;
    check(
        "spin",
        ErrorCode::Invalid,
        "the program's describe failed: limit-exceeded: the run used its 0.3 s of CPU time (cpu_budget); make the \
         program do less between its calls, or run with a higher cpu_budget",
    )
    .await;
    let error = error_of(&runtime, &describing("allocate")).await.to_string();
    assert!(error.starts_with("the program's describe failed: limit-exceeded: the run needs "), "{error}");
    check(
        "recurse",
        ErrorCode::Invalid,
        "the program's describe failed: limit-exceeded: the run used its 1048576 bytes of stack (stack_max_bytes); make \
         the program recurse less, or run the host with a higher stack_max_bytes",
    )
    .await;
    check(
        "trap",
        ErrorCode::Invalid,
        "the program's describe failed: trap: the program trapped: wasm `unreachable` instruction executed (a panic or \
         an abort ends so; its message is in the program's output)",
    )
    .await;
    check(
        "long",
        ErrorCode::Invalid,
        "the program's description is wrong: it has 1048588 bytes; the limit is 65536 (DESCRIPTION_BYTES_MAX)",
    )
    .await;
    check(
        "deep",
        ErrorCode::Invalid,
        "the program's description is wrong: it is not JSON: recursion limit exceeded at line 1 column 128",
    )
    .await;
    check(
        "text",
        ErrorCode::Invalid,
        "the program's description is wrong: it is not JSON: expected ident at line 1 column 2",
    )
    .await;
    check("array", ErrorCode::Invalid, "the program's description is wrong: it is an array, not an object").await;
    check("nameless", ErrorCode::Invalid, "the program's description is wrong: \"name\" is missing").await;
    let error = error_of(&runtime, &describing("huge")).await.to_string();
    assert!(error.starts_with("the program's describe failed: trap: the program was stopped: "), "{error}");
    // What it prints is dropped.
    runtime.load(&describing("print")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_describe_that_sleeps_is_ended() {
    let limits = CompileLimits { describe_deadline: Duration::from_millis(200), ..quick() };
    let runtime = isolated("sleep", &["compile"], limits);
    let expect = "the program's describe failed: deadline-exceeded: it took longer than 200ms (wall_deadline)";
    check(&runtime, &describing("sleep"), ErrorCode::Invalid, expect).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_program_is_refused_as_without_isolation() {
    let runtime = isolated("refused", &["compile"], quick());
    let check = async |bytes: &[u8], expect: &str| {
        let error = error_of(&runtime, bytes).await.to_string();
        assert!(error.starts_with(expect), "{error:?}, not {expect:?}");
    };
    check(b"", "this is not a WebAssembly component: it is empty").await;
    check(b"\x7fELF", "this is not a WebAssembly component: it is native code").await;
    check(b"\0asm\x0d\0\x01\0", "the component is not a prompt program (world sgl:program/program): ").await;
    let mut cut = component();
    cut.truncate(cut.len() / 2);
    check(&cut, "the component cannot be compiled: ").await;
    // Bytes by a fixed rule that look like nothing, behind the head of a component.
    let noise = (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]);
    let noise: Vec<u8> = b"\0asm\x0d\0\x01\0".iter().copied().chain(noise).collect();
    check(&noise, "the component cannot be compiled: ").await;
    check(&vec![0; (64 << 20) + 1], "the component has 67108865 bytes; the limit is 67108864").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compiling_has_limits() {
    let compile_memory_max_bytes = 100 << 20;
    let runtime = isolated("memory", &["compile"], CompileLimits { compile_memory_max_bytes, ..quick() });
    check(
        &runtime,
        &slow_to_compile(300_000),
        ErrorCode::LimitExceeded,
        "compiling the component needs more than 104857600 bytes of memory (compile_memory_max_bytes); make the \
         component smaller, its largest functions above all, or run the host with a higher compile_memory_max_bytes",
    )
    .await;
    let compile_cpu_budget = Duration::from_secs(1);
    let runtime = isolated("cpu", &["compile"], CompileLimits { compile_cpu_budget, ..quick() });
    check(
        &runtime,
        &slow_to_compile(300_000),
        ErrorCode::LimitExceeded,
        "compiling the component needs more than 1 s of CPU time (compile_cpu_budget); make the component smaller, or \
         run the host with a higher compile_cpu_budget",
    )
    .await;
    let compile_deadline = Duration::from_millis(500);
    let runtime = isolated("deadline", &["compile"], CompileLimits { compile_deadline, ..quick() });
    check(
        &runtime,
        &slow_to_compile(300_000),
        ErrorCode::DeadlineExceeded,
        "compiling the component took longer than 0.5 s (compile_deadline); try again when the host is less busy, or \
         run the host with a higher compile_deadline",
    )
    .await;
    let runtime = isolated("code", &["compile"], CompileLimits { compiled_bytes_max: 10_000, ..quick() });
    check(
        &runtime,
        &component(),
        ErrorCode::LimitExceeded,
        "compiling the component gives more than 10000 bytes of native code (compiled_bytes_max); make the component \
         smaller, or run the host with a higher compiled_bytes_max",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_lies_is_not_believed() {
    let deadline = CompileLimits { compile_deadline: Duration::from_secs(1), ..quick() };
    let component = component();
    let lie = async |how: &str, code, expect: &str| {
        let runtime = isolated(&format!("lie-{how}"), &["lie", how], deadline.clone());
        check(&runtime, &component, code, expect).await;
    };
    let late = "took longer than 1 s (compile_deadline); try again when the host is less busy, or run the host with a \
        higher compile_deadline";
    lie("deaf", ErrorCode::DeadlineExceeded, &format!("compiling the component {late}")).await;
    lie("mute", ErrorCode::DeadlineExceeded, &format!("compiling the component {late}")).await;
    for how in ["dead", "describes-first", "no-such-frame", "cut-short"] {
        lie(how, ErrorCode::Invalid, "compiling the component crashed (exit status: 0)").await;
    }
    for how in ["long-description", "not-text"] {
        lie(how, ErrorCode::Invalid, "the program's describe crashed (exit status: 0)").await;
    }
    let crashed = if cfg!(target_os = "linux") { "signal: 6 (SIGABRT)" } else { "signal: 6" };
    lie("aborts", ErrorCode::Invalid, &format!("compiling the component crashed ({crashed})")).await;
    let runtime = isolated("lie-too-long", &["lie", "too-long"], deadline.clone());
    assert!(error_of(&runtime, &component).await.to_string().starts_with("compiling the component gives more than "));
    let runtime = isolated("lie-not-code", &["lie", "not-code"], deadline);
    let error = error_of(&runtime, &component).await.to_string();
    assert!(error.contains("what was just compiled is not what this version can run"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compilations_beyond_the_limit_wait_and_then_are_refused() {
    let limits = CompileLimits {
        compiles_max: 1,
        compiles_queued_max: 1,
        compile_deadline: Duration::from_secs(2),
        ..CompileLimits::default()
    };
    let runtime = isolated("busy", &["lie", "mute"], limits);
    let load = |harm: &'static str| {
        let runtime = runtime.clone();
        tokio::spawn(async move { error_of(&runtime, &describing(harm)).await })
    };
    let others: Vec<_> = ["spin", "trap", "text"].map(load).into();
    let mut refused = 0;
    for other in others {
        match other.await.unwrap() {
            RuntimeError::Busy { queued: 1 } => refused += 1,
            RuntimeError::Ended { .. } => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(refused, 1, "one compiled, one waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_ends_the_process() {
    let runtime = isolated("gone", &["lie", "mute"], CompileLimits { compiles_max: 1, ..quick() });
    let component = component();
    let waited = tokio::time::timeout(Duration::from_millis(300), runtime.load(&component)).await;
    assert!(waited.is_err());
    while children() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Processes of this test's threads that are called as the one that compiles is with `gone`.
fn children() -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let own = format!("{CHILD}\0lie\0mute\0");
    lines.filter(|line| line.starts_with(own.as_bytes())).count()
}

/// Runs an ignored test in a process of its own: what other tests hold meanwhile would be measured too.
pub(crate) fn alone(test: &str) {
    let test = Command::new(std::env::current_exe().unwrap()).args(["--exact", test, "--ignored"]).output().unwrap();
    let said = String::from_utf8_lossy(&test.stdout);
    assert!(test.status.success(), "{said}{}", String::from_utf8_lossy(&test.stderr));
    assert!(said.contains("1 passed"), "{test:?}");
}

#[test]
fn the_servers_memory_is_back_after() {
    alone("isolation::alone_the_servers_memory_is_back_after");
}

#[ignore = "the test above runs it"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_the_servers_memory_is_back_after() {
    let runtime =
        isolated("memory-back", &["compile"], CompileLimits { compile_memory_max_bytes: 100 << 20, ..quick() });
    let attacks = [describing("allocate"), describing("huge"), describing("long"), slow_to_compile(300_000)];
    let mut rounds = Vec::new();
    for _ in 0..6 {
        for attack in &attacks {
            error_of(&runtime, attack).await;
        }
        rounds.push(resident_bytes());
    }
    let growth = rounds[5].saturating_sub(rounds[1]);
    assert!(growth < 16 << 20, "resident bytes after each round: {rounds:?}");
}

/// What a confined process does when it tries `what`.
fn attempt(what: &str) -> Output {
    Command::new(CHILD).args(["attempt", what]).output().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_confined_process_gets_at_nothing() {
    use std::os::unix::process::ExitStatusExt as _;

    const SIGSYS: i32 = 31;
    let said = |what: &str| {
        let output = attempt(what);
        assert!(output.status.success(), "{what}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said("nothing"), "confined\n");
    assert_eq!(said("read-file"), "PermissionDenied\n");
    assert_eq!(said("write-file"), "PermissionDenied\n");
    assert_eq!(said("duplicate"), "PermissionDenied\n");
    for what in ["write-elsewhere", "socket", "execute", "thread", "signal"] {
        let output = attempt(what);
        assert_eq!(output.status.signal(), Some(SIGSYS), "{what}: {output:?}");
    }
    let output = attempt("memory");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains("memory allocation of"), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_machine_with_little_address_space_says_so() {
    let output = Command::new(CHILD).args(["make-runtime", "1000000000000"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "the sandbox cannot be set up: failed to create memory pool mapping: mmap failed to reserve 0x81206000000 bytes: \
         Cannot allocate memory (os error 12); 1024 runs at once take about 8200 GiB of address space, though not of \
         memory, and 16400 mappings; let the process have them (`ulimit -v unlimited`, sysctl vm.max_map_count), or \
         lower concurrent_runs_max\n"
    );
}
