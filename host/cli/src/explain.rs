//! Errors of the runtime and the engine in the words of the command line.
//!
//! Neither knows who set a limit: a message names the field of `RunLimits`. Here the user set it with a flag, or cannot
//! set it; and a context is as short as `--kv-tokens` made it, or as the model is. Messages are what there is to go by:
//! an error that went through a program, which may pass it on as its own, has lost all else.

use sglhost_core::{Error, ErrorCode, Event};

/// The limits that a flag sets.
const FLAGS: [(&str, &str); 4] = [
    ("memory_max_bytes", "--memory"),
    ("cpu_budget", "--cpu-budget"),
    ("wall_deadline", "--deadline"),
    ("tokens_max", "--max-total-tokens"),
];

/// How messages name the last way out, a limit's name behind it.
const WAYS_OUT: [&str; 2] = [", or run with a higher ", ", or run the host with a higher "];

/// The event with its error, if it has one, as the user of the command line should read it.
pub(crate) fn event(event: Event) -> Event {
    explained(event, &FLAGS)
}

/// The same for a run on a server, whose limits no flag sets.
pub(crate) fn remote_event(event: Event) -> Event {
    explained(event, &[])
}

fn explained(mut event: Event, flags: &[(&str, &str)]) -> Event {
    match &mut event {
        Event::RunFinished { result: Err(error), .. } | Event::CallFailed { error, .. } => with_flags(error, flags),
        _ => {}
    }
    event
}

/// Names flags in place of limits; a limit without a flag is no way out.
pub(crate) fn limit(error: &mut Error) {
    with_flags(error, &FLAGS);
}

/// [`limit`] for a message that is no error yet.
pub(crate) fn in_flags(message: &str) -> String {
    name_flags(message, &FLAGS)
}

/// [`limit`] for a run on a server.
pub(crate) fn remote_limit(error: &mut Error) {
    with_flags(error, &[]);
}

fn with_flags(error: &mut Error, flags: &[(&str, &str)]) {
    if matches!(error.code, ErrorCode::LimitExceeded | ErrorCode::DeadlineExceeded) {
        error.message = name_flags(&error.message, flags);
    }
}

fn name_flags(message: &str, flags: &[(&str, &str)]) -> String {
    let mut text = message.to_owned();
    for way_out in WAYS_OUT {
        while let Some(start) = text.find(way_out) {
            let name = start + way_out.len();
            let end = text[name..].find(|c: char| !is_name(c)).map_or(text.len(), |length| name + length);
            match flags.iter().find(|(limit, _)| *limit == &text[name..end]) {
                Some((_, flag)) => text.replace_range(start..end, &format!(", or raise {flag}")),
                None => text.replace_range(start..end, ""),
            }
        }
    }
    for (limit, flag) in flags {
        text = text.replace(&format!("({limit})"), &format!("({flag})"));
    }
    text
}

fn is_name(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

/// A prompt that is too long only because of the KV memory, which holds `kv_tokens`: the model itself takes
/// `context_length`.
pub(crate) fn too_long(mut error: Error, kv_tokens: usize, context_length: usize) -> Error {
    if error.code == ErrorCode::TooLong && kv_tokens < context_length {
        error.message += &format!(
            ", or raise --kv-tokens: the KV memory holds {kv_tokens} tokens, the model itself takes {context_length}"
        );
    }
    error
}

/// A model that is too large for the GPU: other devices' memory has no end that is known.
pub(crate) fn no_room(reason: &str) -> String {
    let reason = reason.replace("(memory_fraction)", "(--mem-fraction)");
    format!("{reason}; choose a smaller model, or compute on the CPU with --device cpu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: ErrorCode, message: &str, expect: &str) {
        let mut error = Error::new(code, message);
        limit(&mut error);
        assert_eq!(error.message, expect);
    }

    #[test]
    fn limits_with_a_flag_are_named_by_it() {
        check(
            ErrorCode::LimitExceeded,
            "the run used its 0.3 s of CPU time (cpu_budget); make the program do less between its calls, or run with a \
             higher cpu_budget",
            "the run used its 0.3 s of CPU time (--cpu-budget); make the program do less between its calls, or raise \
             --cpu-budget",
        );
        check(
            ErrorCode::DeadlineExceeded,
            "the run took longer than its 2 s (wall_deadline); ask less of it, or run with a higher wall_deadline",
            "the run took longer than its 2 s (--deadline); ask less of it, or raise --deadline",
        );
    }

    #[test]
    fn limits_without_a_flag_are_no_way_out() {
        check(
            ErrorCode::LimitExceeded,
            "the run has 256 contexts open, as many as it may (contexts_max); drop some before opening more, or run \
             with a higher contexts_max",
            "the run has 256 contexts open, as many as it may (contexts_max); drop some before opening more",
        );
        check(
            ErrorCode::LimitExceeded,
            "the run used its 9 bytes of stack (stack_max_bytes); make the program recurse less, or run the host with a \
             higher stack_max_bytes",
            "the run used its 9 bytes of stack (stack_max_bytes); make the program recurse less",
        );
    }

    #[test]
    fn on_a_server_no_limit_has_a_flag() {
        let message = "the run used its 0.3 s of CPU time (cpu_budget); make the program do less between its calls, or \
                       run with a higher cpu_budget";
        let mut error = Error::limit(message);
        remote_limit(&mut error);
        assert_eq!(error.message, message.split(", or").next().unwrap_or_default());
    }

    #[test]
    fn a_programs_own_words_stay() {
        let words = "the cpu_budget is spent, or run with a higher cpu_budget";
        check(ErrorCode::Program, words, words);
    }

    #[test]
    fn what_is_too_long_for_the_model_is_not_blamed_on_the_memory() {
        let error = || Error::new(ErrorCode::TooLong, "too long; shorten it");
        assert_eq!(too_long(error(), 100, 100), error());
        assert_eq!(
            too_long(error(), 64, 100).message,
            "too long; shorten it, or raise --kv-tokens: the KV memory holds 64 tokens, the model itself takes 100"
        );
    }

    #[test]
    fn a_model_that_is_too_large_for_a_gpu_is_sent_to_the_cpu() {
        assert_eq!(
            no_room("no room: 9 of 10 MB are taken, and a fraction of 0.88 may be (memory_fraction)"),
            "no room: 9 of 10 MB are taken, and a fraction of 0.88 may be (--mem-fraction); choose a smaller model, or \
             compute on the CPU with --device cpu"
        );
    }
}
