//! What a run's events become on the user's side: text that streams, JSON, lines of events, figures.

mod lanes;
mod stats;
mod terminal;

pub(crate) use lanes::{Lanes, Piece, Tone};
pub(crate) use stats::{Stats, Timeline};
pub(crate) use terminal::Terminal;
