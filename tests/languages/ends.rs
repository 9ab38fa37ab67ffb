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
        "c" => vec![
            told("panic", "trap", "unreachable", "panic at program.c:"),
            told("panic", "trap", "", "the tea is cold"),
            told("exit", "trap", "exited with status", "exit(3) at program.c:"),
            told("trap", "trap", "unreachable", ""),
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
