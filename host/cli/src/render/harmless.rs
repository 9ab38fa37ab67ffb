//! Text that others have a say in, such as programs, models and servers, shown so that a terminal only shows it.

use std::{
    borrow::Cow,
    io::{IsTerminal, Write},
};

use crate::failure::Failure;

/// The text with every control character but line ends and tabs replaced by a picture of it: nothing moves the cursor,
/// renames the window, answers for the user, or shows text in another order than it has.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    // A line end of other systems is one here.
    let text = text.replace("\r\n", "\n");
    Cow::Owned(text.chars().map(|c| if is_control(c) { picture(c) } else { c }).collect())
}

/// The same in one line, for a cell of a table.
pub(crate) fn one_line(text: &str) -> String {
    harmless(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes to standard output; harmless, if that is a terminal.
///
/// # Errors
/// Standard output was closed.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let text = if out.is_terminal() { harmless(text) } else { text.into() };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::from_output)
}

/// Writes a line to standard error, for what is beside the matter. Who closed that does not want it.
pub(crate) fn note(text: &str) {
    let mut out = std::io::stderr().lock();
    let text = if out.is_terminal() { harmless(text) } else { text.into() };
    let _ = writeln!(out, "{text}");
}

fn is_control(c: char) -> bool {
    let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && !matches!(c, '\n' | '\t')) || reorders
}

/// Unicode has pictures of the old control characters; the newer ones, of which U+009B begins commands too, have none.
fn picture(c: char) -> char {
    match u32::from(c) {
        code @ 0..0x20 => char::from_u32(0x2400 + code).unwrap_or('\u{fffd}'),
        0x7f => '\u{2421}',
        _ => '\u{fffd}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_pictures() {
        let check = |text, expect: &str| assert_eq!(harmless(text), expect);
        check("plain ä 漢\n\tx", "plain ä 漢\n\tx");
        check("\x1b[31m\x07\x08\0", "␛[31m␇␈␀");
        check("a\r\nb\rc", "a\nb␍c");
        check("\u{9b}2J\x7f", "\u{fffd}2J␡");
        check("\u{202e}dnik eb\u{2066}", "\u{fffd}dnik eb\u{fffd}");
        assert_eq!(one_line("a\n  b\tc\x1b"), "a b c␛");
    }
}
