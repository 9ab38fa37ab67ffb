//! A process that compiles, for `isolation.rs`: as `sglhost` starts it, or misbehaving as its first argument asks.

#![allow(clippy::unwrap_used, reason = "a panic is how it fails")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use sglhost_core::limits::{CompileLimits, HostLimits};
use sglhost_engine::SystemClock;
use sglhost_runtime::{Runtime, RuntimeConfig, compile_child, confine};
use sglhost_tests::scripted::ScriptedEngine;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match &*arguments[1] {
        "compile" => return compile_child(&arguments[2]),
        "attempt" => attempt(&arguments[2]),
        "lie" => lie(&arguments[2]),
        "make-runtime" => make_runtime(arguments[2].parse().unwrap()),
        other => panic!("{other:?}"),
    }
    ExitCode::SUCCESS
}

/// Tries, confined, what code that escaped its sandbox would; says what came of it.
fn attempt(what: &str) {
    let thread_is_wanted = what == "write-elsewhere";
    let elsewhere = thread_is_wanted.then(|| std::io::pipe().unwrap());
    confine(&CompileLimits::default()).unwrap();
    match what {
        "nothing" => println!("confined"),
        "read-file" => println!("{:?}", fs::read("/etc/passwd").unwrap_err().kind()),
        "write-file" => println!("{:?}", fs::write("/tmp/written-by-a-compile-child", "x").unwrap_err().kind()),
        "write-elsewhere" => {
            let _ = elsewhere.unwrap().1.write(b"x");
        }
        "socket" => drop(TcpListener::bind("127.0.0.1:0")),
        "execute" => drop(Command::new("/bin/true").spawn()),
        "thread" => drop(std::thread::Builder::new().spawn(|| {})),
        "signal" => {
            let server = rustix::process::getppid().unwrap();
            let _ = rustix::process::kill_process(server, rustix::process::Signal::USR1);
        }
        "duplicate" => println!("{:?}", std::io::stdout().as_fd().try_clone_to_owned().unwrap_err().kind()),
        "memory" => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(vec![1; 1 << 20]);
            }
        }
        other => panic!("{other:?}"),
    }
}

/// Says what keeps a runtime of 1024 places from being made where address space is short.
fn make_runtime(address_space: u64) {
    use rustix::process::{Resource, Rlimit, setrlimit};

    setrlimit(Resource::As, Rlimit { current: Some(address_space), maximum: Some(address_space) }).unwrap();
    let host_limits = HostLimits { concurrent_runs_max: 1024, ..HostLimits::default() };
    let config = RuntimeConfig { host_limits, ..RuntimeConfig::default() };
    match Runtime::new(config, ScriptedEngine::new(), Arc::new(SystemClock::default()), Arc::new(|| 1)) {
        Ok(_) => println!("made"),
        Err(error) => println!("{error}"),
    }
}

/// Answers as no honest process would.
fn lie(how: &str) {
    let mut component = Vec::new();
    let mut answer = std::io::stdout().lock();
    let mut frame = |kind: u8, length: u64, content: &[u8]| {
        answer.write_all(&[kind]).unwrap();
        answer.write_all(&length.to_le_bytes()).unwrap();
        answer.write_all(content).unwrap();
        answer.flush().unwrap();
    };
    let wait = || loop {
        std::thread::park();
    };
    match how {
        "deaf" => wait(),
        "dead" => return,
        _ => {}
    }
    std::io::stdin().read_to_end(&mut component).unwrap();
    match how {
        "mute" => wait(),
        "describes-first" => frame(2, 2, b"{}"),
        "no-such-frame" => frame(9, 0, b""),
        "cut-short" => frame(1, 100, b"code"),
        "too-long" => frame(1, u64::MAX, b"code"),
        "long-description" => {
            frame(1, 4, b"code");
            frame(2, u64::MAX, b"{");
        }
        "not-text" => {
            frame(1, 4, b"code");
            frame(2, 4, &[0xff; 4]);
        }
        "not-code" => {
            frame(1, 4, b"code");
            let json = br#"{"name": "liar"}"#;
            frame(2, json.len() as u64, json);
        }
        "aborts" => std::process::abort(),
        other => panic!("{other:?}"),
    }
}
