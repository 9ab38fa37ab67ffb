//! Text as it is generated, piece by piece.

use wit_bindgen::StreamReader;

/// Pieces of generated text, each as soon as the host has it: whole characters, never part of a stop string.
///
/// The iterator waits for the next piece and ends when the call does. Made by [`State::stream`](crate::State::stream).
pub struct Stream {
    reader: Option<StreamReader<String>>,
}

impl Stream {
    pub(crate) fn new(reader: StreamReader<String>) -> Self {
        Self { reader: Some(reader) }
    }

    pub(crate) fn empty() -> Self {
        Self { reader: None }
    }
}

impl Iterator for Stream {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let reader = self.reader.as_mut()?;
        let piece = wit_bindgen::block_on(reader.next());
        if piece.is_none() {
            self.reader = None;
        }
        piece
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("finished", &self.reader.is_none()).finish()
    }
}
