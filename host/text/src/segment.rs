//! Text with its origin: the program's own words, or markup that may name control tokens.

/// A piece of text that is tokenized together with its neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The text.
    pub text: String,
    /// Whether control tokens are recognised in it.
    pub kind: SegmentKind,
}

/// Whether control tokens are recognised in a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// Never yields control tokens, whatever it says: user text cannot forge roles.
    Plain,
    /// The spelling of a control token becomes that token.
    Markup,
}

impl Segment {
    /// Text that never becomes control tokens.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: SegmentKind::Plain }
    }

    /// Text in which control tokens are recognised.
    pub fn markup(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: SegmentKind::Markup }
    }
}
