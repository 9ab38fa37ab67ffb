//! Tells the options of `sglhost run` from the arguments of the program it runs.
//!
//! A program's argument names are in its description, which is known only once it is loaded; a user's typing mistake in
//! an option should not wait for that. So the words after `run` are sorted by what the *host* knows: its options, with
//! their values, are its own wherever they stand; all else after the program's path is the program's; after `--`
//! everything is. What comes out is a line that clap parses: `run OPTIONS PROGRAM -- ARGUMENTS`.

use std::ffi::OsString;

use clap::{
    ArgAction, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Sorts a command line, its first word being the binary. Lines of other commands are given back as they are.
pub(crate) fn split_run_line(run: &Command, line: Vec<OsString>) -> Vec<OsString> {
    if line.get(1).is_none_or(|word| word != "run") {
        return line;
    }
    let mut words = line.into_iter();
    let mut host: Vec<OsString> = words.by_ref().take(2).collect();
    let mut program = None;
    let mut arguments = Vec::new();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == "--" {
            if program.is_none() {
                program = words.next();
            }
            arguments.extend(words);
            break;
        }
        let takes_value = option_takes_value(run, &text);
        if takes_value.is_some() || (program.is_none() && looks_like_option(&text)) {
            // An option before the program is the host's even if the host does not know it: clap says so.
            host.push(word);
            if takes_value == Some(true) {
                host.extend(words.next());
            }
        } else if program.is_none() {
            program = Some(word);
        } else {
            arguments.push(word);
        }
    }
    if let Some(program) = program {
        host.push(program);
        if !arguments.is_empty() {
            host.push("--".into());
            host.extend(arguments);
        }
    }
    host
}

/// Whether `word` is an option of the host, and if so whether its value is the next word.
fn option_takes_value(run: &Command, word: &str) -> Option<bool> {
    let (name, has_value) = match word.split_once('=') {
        Some((name, _)) => (name, true),
        None => (word, false),
    };
    let argument = run.get_arguments().find(|argument| match name.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => {
            let mut letters = name.strip_prefix('-').unwrap_or_default().chars();
            matches!((letters.next(), letters.next()), (Some(letter), None) if argument.get_short() == Some(letter))
        }
    })?;
    Some(!has_value && matches!(argument.get_action(), ArgAction::Set | ArgAction::Append))
}

/// Mends clap's tip for an option that it does not know and cannot guess. It proposes to put `--` in front of it; what
/// was meant is an argument of the program, which follows the program.
pub(crate) fn explain(mut error: clap::Error) -> clap::Error {
    let guessed = error.get(ContextKind::SuggestedArg).is_some();
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return error };
    if error.kind() == ErrorKind::UnknownArgument && !guessed {
        let tip = format!("a program's own arguments follow it: `sglhost run PROGRAM {unknown} …`");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn looks_like_option(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-')
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;
    use crate::flags::RunFlags;

    #[track_caller]
    fn check(line: &str, expect: &str) {
        let run = RunFlags::augment_args(Command::new("run"));
        let words = line.split(' ').map(OsString::from).collect();
        let sorted: Vec<_> =
            split_run_line(&run, words).iter().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(sorted.join(" "), expect);
    }

    #[test]
    fn options_are_the_hosts_wherever_they_stand() {
        check("sglhost run p.wasm", "sglhost run p.wasm");
        check("sglhost run p.wasm --question why --json", "sglhost run --json p.wasm -- --question why");
        check("sglhost run --seed 7 p.wasm --question why", "sglhost run --seed 7 p.wasm -- --question why");
        check("sglhost run p.wasm --question=why --seed=7", "sglhost run --seed=7 p.wasm -- --question=why");
        check("sglhost run p.wasm -m x --n -3 -h", "sglhost run -m x -h p.wasm -- --n -3");
        check("sglhost run --top-k -1 p.wasm", "sglhost run --top-k -1 p.wasm");
    }

    #[test]
    fn after_two_dashes_all_is_the_programs() {
        check("sglhost run p.wasm --a 1 -- --json --seed 7", "sglhost run p.wasm -- --a 1 --json --seed 7");
        check("sglhost run -- p.wasm --json", "sglhost run p.wasm -- --json");
    }

    #[test]
    fn what_clap_refuses_reaches_it() {
        check("sglhost run --nonsense p.wasm", "sglhost run --nonsense p.wasm");
        check("sglhost run --seed", "sglhost run --seed");
        check("sglhost inspect p.wasm --json", "sglhost inspect p.wasm --json");
        check("sglhost", "sglhost");
    }
}
