//! What a run's events become on the user's side: text that streams, JSON, lines of events, figures.

mod harmless;
mod lanes;
mod stats;
mod table;
mod terminal;

pub(crate) use harmless::{harmless, note, one_line, print};
pub(crate) use lanes::{Lanes, Piece, Tone};
pub(crate) use stats::{Stats, Timeline};
pub(crate) use table::Table;
pub(crate) use terminal::{Screen, Terminal};
