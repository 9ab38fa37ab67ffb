//! The text of a run on the terminal, or in a file or pipe: standard output for text, standard error for the rest.

use std::io::{self, Write};

use sglhost_core::{Event, event::LogStream};

use super::{Lanes, Piece, Tone, harmless};

/// Dim, for what the program wrote.
const PROMPT: &str = "\x1b[2m";
/// Bold, for what the model wrote.
const GENERATED: &str = "\x1b[1m";
/// Cyan, for labels and what the program says beside the text.
const LABEL: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// Where text goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Screen {
    /// With colours.
    pub(crate) color: bool,
    /// Standard output is a terminal.
    pub(crate) output: bool,
    /// Standard error is one: the same, then, so that a message must not land in the middle of a line of text.
    pub(crate) error: bool,
}

/// Writes a run's text as it grows. What is written on a terminal does nothing to it: a program, and a model that read
/// who knows what, have a say in the text.
#[derive(Debug)]
pub(crate) struct Terminal<O, E> {
    output: O,
    error: E,
    lanes: Lanes,
    screen: Screen,
    at_line_start: bool,
    /// The beginning of a line that the program has not ended yet.
    log: String,
    /// Something was written to standard output.
    written: bool,
}

/// A longer line of a program's log is shown in parts.
const LOG_LINE_BYTES_MAX: usize = 64 << 10;

impl<O: Write, E: Write> Terminal<O, E> {
    /// Writes text to `output` and messages to `error`.
    pub(crate) fn new(output: O, error: E, screen: Screen) -> Self {
        Self { output, error, lanes: Lanes::default(), screen, at_line_start: true, log: String::new(), written: false }
    }

    /// Shows what an event adds.
    pub(crate) fn take(&mut self, event: &Event) -> io::Result<()> {
        let pieces = self.lanes.take(event);
        for piece in &pieces {
            self.piece(piece)?;
        }
        if !pieces.is_empty() {
            self.output.flush()?;
        }
        match event {
            Event::Emit { channel, data } => self.message(&format!("{channel}: {data}")),
            Event::Log { stream: LogStream::Stdout | LogStream::Stderr, text } => self.log(text),
            Event::RunFinished { result: Ok(result), .. } if result != "null" => {
                self.end_log()?;
                self.piece(&Piece { tone: Tone::Label, text: "result".to_owned() })?;
                self.line(result)
            }
            Event::RunFinished { .. } => {
                self.end_log()?;
                self.end_line()
            }
            _ => Ok(()),
        }
    }

    /// Shows whole lines of what the program logs: languages write in pieces.
    fn log(&mut self, text: &str) -> io::Result<()> {
        self.log += text;
        if let Some(end) = self.log.rfind('\n') {
            let rest = self.log.split_off(end + 1);
            let lines = std::mem::replace(&mut self.log, rest);
            self.message(lines.trim_end_matches('\n'))?;
        }
        if self.log.len() > LOG_LINE_BYTES_MAX { self.end_log() } else { Ok(()) }
    }

    /// Shows the line that the program has not ended.
    fn end_log(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.log);
        if rest.is_empty() { Ok(()) } else { self.message(&rest) }
    }

    /// Writes a line of its own to standard output.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.end_line()?;
        if self.screen.output {
            writeln!(self.output, "{}", harmless(text))?;
        } else {
            writeln!(self.output, "{text}")?;
        }
        self.output.flush()
    }

    /// Ends the last line, so that what follows begins on one of its own.
    pub(crate) fn end_line(&mut self) -> io::Result<()> {
        if !self.at_line_start {
            self.output.write_all(b"\n")?;
            self.at_line_start = true;
        }
        self.output.flush()
    }

    fn piece(&mut self, piece: &Piece) -> io::Result<()> {
        if piece.text.is_empty() {
            return Ok(());
        }
        if piece.tone == Tone::Label {
            self.end_line()?;
            let gap = if self.written { "\n" } else { "" };
            self.styled(LABEL, &format!("{gap}── {} ──\n", piece.text))?;
        } else {
            self.styled(if piece.tone == Tone::Prompt { PROMPT } else { GENERATED }, &piece.text)?;
            self.at_line_start = piece.text.ends_with('\n');
        }
        self.written = true;
        Ok(())
    }

    fn styled(&mut self, style: &str, text: &str) -> io::Result<()> {
        let text = if self.screen.output { harmless(text) } else { text.into() };
        if self.screen.color {
            write!(self.output, "{style}{text}{RESET}")
        } else {
            self.output.write_all(text.as_bytes())
        }
    }

    /// A line on standard error. Who closed that does not want it: nothing is reported.
    fn message(&mut self, text: &str) -> io::Result<()> {
        if self.screen.output && self.screen.error {
            self.end_line()?;
        }
        let text = if self.screen.error { harmless(text) } else { text.into() };
        let _ = if self.screen.color {
            writeln!(self.error, "{LABEL}{text}{RESET}")
        } else {
            writeln!(self.error, "{text}")
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

    use sglhost_core::{CallId, ContextId, Usage};

    use super::*;

    fn events() -> Vec<Event> {
        let (call, context) = (CallId(0), ContextId(0));
        vec![
            Event::ContextOpened { context, parent: None },
            Event::ContextText { context, text: "<|user|>hi".to_owned() },
            Event::CallStarted { call, context, name: None },
            Event::CallDelta { call, context, text: "hel".to_owned() },
            Event::Log { stream: LogStream::Stdout, text: "noise\n".to_owned() },
            Event::CallDelta { call, context, text: "lo".to_owned() },
            Event::RunFinished { result: Ok("null".to_owned()), usage: Usage::default(), cpu_time_us: 0 },
        ]
    }

    /// Languages write a line in pieces.
    #[test]
    fn a_line_of_the_log_is_shown_whole() {
        let log = |text: &str| Event::Log { stream: LogStream::Stderr, text: text.to_owned() };
        let end = Event::RunFinished { result: Ok("null".to_owned()), usage: Usage::default(), cpu_time_us: 0 };
        let events = [log("pan"), log("ic: "), log("no\nway"), log("\n"), log("\nlast"), end];
        check_events(&events, PIPES, "", "panic: no\nway\n\nlast\n");
    }

    const PIPES: Screen = Screen { color: false, output: false, error: false };
    const TERMINAL: Screen = Screen { color: false, output: true, error: true };

    #[track_caller]
    fn check(screen: Screen, output: &str, error: &str) {
        check_events(&events(), screen, output, error);
    }

    #[track_caller]
    fn check_events(events: &[Event], screen: Screen, output: &str, error: &str) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut terminal = Terminal::new(&mut out, &mut err, screen);
        for event in events {
            terminal.take(event).unwrap();
        }
        assert_eq!(String::from_utf8(out).unwrap(), output);
        assert_eq!(String::from_utf8(err).unwrap(), error);
    }

    #[test]
    fn text_is_plain_in_a_pipe() {
        check(PIPES, "<|user|>hihello\n", "noise\n");
    }

    #[test]
    fn messages_get_lines_of_their_own_on_one_screen() {
        check(TERMINAL, "<|user|>hihel\nlo\n", "noise\n");
    }

    #[test]
    fn colours_tell_prompt_from_output() {
        check(
            Screen { color: true, ..PIPES },
            "\x1b[2m<|user|>hi\x1b[0m\x1b[1mhel\x1b[0m\x1b[1mlo\x1b[0m\n",
            "\x1b[36mnoise\x1b[0m\n",
        );
    }

    #[test]
    fn what_a_program_says_does_nothing_to_a_terminal() {
        let (call, context) = (CallId(0), ContextId(0));
        let events = [
            Event::ContextOpened { context, parent: None },
            Event::ContextText { context, text: "\x1b]0;title\x07".to_owned() },
            Event::CallDelta { call, context, text: "\x1b[2Jbye\n".to_owned() },
            Event::Emit { channel: "a\x1b[1m".to_owned(), data: "\u{9b}2J".to_owned() },
            Event::RunFinished { result: Ok("\x1bc".to_owned()), usage: Usage::default(), cpu_time_us: 0 },
        ];
        let seen = "␛]0;title␇␛[2Jbye\n\n── result ──\n␛c\n";
        check_events(&events, TERMINAL, seen, "a␛[1m: \u{fffd}2J\n");
        let told = "\x1b]0;title\x07\x1b[2Jbye\n\n── result ──\n\x1bc\n";
        check_events(&events, PIPES, told, "a\x1b[1m: \u{9b}2J\n");
    }
}
