//! Server-sent events as they come over a connection, by the rules of the HTML standard, of which a server here uses
//! `id`, `event`, `data` and comments.

use std::io::{self, BufRead, Read as _};

/// Bytes of one line. A run's result and its calls' outputs are far below it; what is longer is no server of ours.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Its number, if it has one.
    pub(super) id: Option<u64>,
    /// What it says.
    pub(super) data: String,
}

/// Reads events until the connection ends.
pub(super) struct SentEvents<R>(pub(super) R);

impl<R: BufRead> Iterator for SentEvents<R> {
    type Item = io::Result<Sent>;

    fn next(&mut self) -> Option<io::Result<Sent>> {
        let (mut sent, mut has_data) = (Sent::default(), false);
        loop {
            let line = match self.line() {
                // What has no empty line behind it is not whole.
                Ok(None) => return None,
                Ok(Some(line)) => line,
                Err(error) => return Some(Err(error)),
            };
            if line.is_empty() {
                if has_data {
                    return Some(Ok(sent));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => sent.id = value.parse().ok(),
                "data" => {
                    if has_data {
                        sent.data.push('\n');
                    }
                    has_data = true;
                    sent.data.push_str(value);
                }
                // The type is in the data; a comment keeps the connection alive.
                _ => {}
            }
        }
    }
}

impl<R: BufRead> SentEvents<R> {
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let read = self.0.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return String::from_utf8(line).map(Some).map_err(|_| io::ErrorKind::InvalidData.into());
        }
        if read as u64 == LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line of over {LINE_BYTES_MAX} bytes")));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[(Option<u64>, &str)]) {
        let events: Vec<_> = SentEvents(text.as_bytes()).map(|event| event.unwrap_or_default()).collect();
        let expect: Vec<_> = expect.iter().map(|(id, data)| Sent { id: *id, data: (*data).to_owned() }).collect();
        assert_eq!(events, expect, "{text:?}");
    }

    #[test]
    fn events_end_with_an_empty_line() {
        check("id: 1\nevent: a\ndata: {}\n\nid: 2\ndata: x\ndata:y\n\n", &[(Some(1), "{}"), (Some(2), "x\ny")]);
        check(": hello\n\n:\n\ndata: x\r\n\r\n", &[(None, "x")]);
        check("id: 1\ndata: whole\n\nid: 2\ndata: torn", &[(Some(1), "whole")]);
        check("id: 1\ndata: torn\n", &[]);
        check("", &[]);
    }
}
