//! How a program's end is told to its author, whatever the end; and that nothing of it stays.

use std::time::Duration;

use sglhost_core::limits::RunLimits;

use crate::host::{End, Host};
use crate::in_every_language;

in_every_language! { every_end_is_told }

/// What a language makes of an end.
struct Told {
    /// The part of the program that ends so.
    part: &'static str,
    /// The error's code.
    code: &'static str,
    /// In the error's message.
    message: &'static str,
    /// In the log.
    log: &'static str,
}

fn every_end_is_told(language: &str) {
    let told = |part, code, message, log| Told { part, code, message, log };
    let mut ends = vec![
        told("own error", "program", "no tea left", ""),
        // Nobody read what could not be generated.
        told("unread", "invalid", "top_p", ""),
    ];
    ends.extend(match language {
        "rust" => vec![
            told("panic", "trap", "", "src/lib.rs:"),
            told("panic", "trap", "", "the tea is cold"),
            told("exit", "trap", "", ""),
            told("trap", "trap", "unreachable", ""),
            told("recurse", "trap", "stack", ""),
        ],
        "python" => vec![
            told("panic", "program", "ValueError: the tea is cold (program.py:", "ValueError: the tea is cold"),
            told("panic", "program", "", "File \"program.py\", line"),
            told("exit", "program", "the program exits with code 3 (program.py:", ""),
            told("trap", "trap", "unreachable", ""),
            told("recurse", "program", "RecursionError", ""),
        ],
        // Neither exits nor traps there: one waits for ever, and one leaves a failure that nobody looks at.
        "js" | "ts" => vec![
            told("panic", "program", "Error: the tea is cold (program.", "Error: the tea is cold\n    at "),
            told("panic", "program", "", " (program."),
            told("exit", "program", "awaits a promise that nothing will settle", ""),
            told("trap", "program", "RangeError: the tea is gone (program.", ""),
            told("recurse", "program", "RangeError: Maximum call stack size exceeded (program.", ""),
        ],
        "c" => vec![
            told("panic", "trap", "unreachable", "panic at program.c:"),
            told("panic", "trap", "", "the tea is cold"),
            told("assert", "trap", "unreachable", "Assertion failed: topic == part (program.c:"),
            told("abort", "trap", "unreachable", "abort() at program.c:"),
            told("exit", "trap", "exited with status", "exit(3) at program.c:"),
            told("trap", "trap", "unreachable", ""),
            told("recurse", "trap", "stack", ""),
        ],
        "go" => vec![
            told("panic", "program", "panic: the tea is cold (program.go:", "panic: the tea is cold"),
            told("panic", "program", "", "every_function/program.go:"),
            told("exit", "program", "the program exits with code 3 (program.go:", ""),
            told("trap", "trap", "unreachable", "panic: the tea boils over"),
            told("trap", "trap", "", "every_function/program.go:"),
            told("recurse", "limit-exceeded", "stack", ""),
        ],
        other => panic!("what does an end in {other} say?"),
    });
    let host = Host::new(language, Duration::ZERO);
    for Told { part, code, message, log } in ends {
        let End { result, log: logged, .. } = host.run(part, RunLimits::default());
        let error = result.unwrap_err();
        let line = format!("{language}, {part}: {}: {}\nlog: {logged}", error.code.as_str(), error.message);
        println!("{line}");
        assert!(error.code.as_str() == code && error.message.contains(message), "{line}");
        assert!(logged.contains(log), "{line}");
        while host.live_runs() > 0 {
            std::thread::yield_now();
        }
    }
    // After all of them the host does as before.
    assert!(host.run("one", RunLimits::default()).result.is_ok());
}
