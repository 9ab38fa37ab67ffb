//! What is kept, as plain values.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sglhost_core::limits::LISTED_MESSAGE_BYTES_MAX;
use sglhost_core::{Error, ProgramId, Quotas, RunId, TenantId, Usage};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRecord {
    /// Its name.
    pub id: TenantId,
    /// What it may use.
    pub quotas: Quotas,
    /// When it was made.
    pub created_ms: u64,
    /// Its keys, the oldest first.
    pub keys: Vec<KeyRecord>,
}

/// A key, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Names it within its tenant: the key's first characters, which are no secret.
    pub id: String,
    /// What people call it.
    pub label: String,
    /// SHA-256 of the key's text.
    pub sha256: [u8; 32],
    /// When it was made.
    pub created_ms: u64,
}

/// A key to add.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Whose.
    pub tenant: TenantId,
    /// See [`KeyRecord`].
    pub key: KeyRecord,
}

/// A program to keep.
#[derive(Clone, Debug)]
pub struct NewProgram {
    /// Whose.
    pub tenant: TenantId,
    /// Its name; checked by the caller.
    pub name: String,
    /// Its content's digest.
    pub digest: ProgramId,
    /// What it says of itself: `name`, `description`, `arguments`.
    pub description: Value,
    /// A tag to point at it.
    pub tag: Option<String>,
    /// Now.
    pub created_ms: u64,
    /// Versions that the tenant may keep.
    pub programs_max: u32,
    /// Bytes that the tenant may keep.
    pub program_bytes_max: u64,
}

/// One version of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramVersion {
    /// Its name.
    pub name: String,
    /// Counts from 1; a number is never used twice.
    pub version: u32,
    /// Its content's digest.
    pub digest: ProgramId,
    /// Bytes of the component.
    pub size_bytes: u64,
    /// What it says of itself.
    pub description: Value,
    /// Tags that point at it, sorted.
    pub tags: Vec<String>,
    /// When it was uploaded.
    pub created_ms: u64,
}

/// What became of a program that was put.
#[derive(Clone, Debug, PartialEq)]
pub struct PutProgram {
    /// The latest version now.
    pub version: ProgramVersion,
    /// Whether it is a new one; else it was there.
    pub is_new: bool,
}

/// Names a program, or a version of it: `NAME`, `NAME@3`, `NAME@stable`, `NAME@sha256:DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramReference {
    /// The program.
    pub name: String,
    /// Which version; the latest if it is not said.
    pub selector: Option<VersionSelector>,
}

/// Which version of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionSelector {
    /// By number.
    Version(u32),
    /// By a tag.
    Tag(String),
    /// By its content.
    Digest(ProgramId),
}

/// What was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Versions.
    pub versions: u32,
}

/// What a tenant keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Versions of programs.
    pub programs: u32,
    /// Their bytes; content that is there twice counts twice.
    pub program_bytes: u64,
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What comes after this, in the list's order.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// A run that begins.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// Whose.
    pub tenant: TenantId,
    /// What runs.
    pub program: String,
    /// Its version.
    pub version: u32,
    /// Its content.
    pub digest: ProgramId,
    /// When it began.
    pub started_ms: u64,
    /// The caller's key, and SHA-256 of what it asked for.
    pub idempotency: Option<(String, [u8; 32])>,
}

/// What became of a run that was to begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Started {
    /// It is taken down.
    New,
    /// The tenant used that idempotency key before: for this run, which was asked for with the request of this digest.
    Before {
        /// That run.
        run: Box<RunRow>,
        /// SHA-256 of what was asked for then.
        request_sha256: [u8; 32],
    },
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Under way.
    Running,
    /// It ended with a result.
    Succeeded,
    /// It ended with an error.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// The server stopped while it ran.
    Interrupted,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// Anything but [`RunStatus::Running`].
    pub status: RunStatus,
    /// When.
    pub finished_ms: u64,
    /// Result or error, variables, usage: a [`RunRecord`](sglhost_core::RunRecord) as JSON.
    pub record: Arc<str>,
    /// Why it has no result.
    pub error: Option<Error>,
    /// What is added to its tenant's usage. (Of cancelled and failed runs too.)
    pub usage: Usage,
    /// CPU time of the program's own code.
    pub cpu_time_us: u64,
}

/// A run as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// What runs.
    pub program: String,
    /// Its version.
    pub version: u32,
    /// Its content.
    pub digest: ProgramId,
    /// Where it stands.
    pub status: RunStatus,
    /// When it began.
    pub started_ms: u64,
    /// When it ended.
    pub finished_ms: Option<u64>,
    /// What came of it, once it has ended, as JSON: see [`RunEnd::record`]. It may be megabytes, so nothing reads it
    /// again on its way to whoever asks; in a list of runs there is none.
    pub record: Option<Arc<str>>,
    /// Why it has no result; the beginning of a long message only.
    pub error: Option<Error>,
    /// What it used, once it has ended.
    pub usage: Usage,
    /// CPU time of the program's own code, once it has ended.
    pub cpu_time_us: u64,
}

/// A tenant's usage of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageDay {
    /// The day's first millisecond, UTC.
    pub day_ms: u64,
    /// Runs that ended.
    pub runs: u64,
    /// Tokens.
    pub usage: Usage,
    /// CPU time.
    pub cpu_time_us: u64,
    /// Sum of the runs' times from start to end.
    pub wall_time_ms: u64,
}

/// Why a text is no reference to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a program is named by 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit; a version follows as \
     NAME@3, NAME@TAG or NAME@sha256:DIGEST"
)]
pub struct NotAReference;

/// Whether programs and tags may be called so: 1 to 64 of a-z, 0-9, `-`, `_`, beginning with a letter or digit. A tag of
/// digits alone would be a version, and is none.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| allowed(&byte))
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

impl fmt::Display for ProgramReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.selector {
            None => Ok(()),
            Some(VersionSelector::Version(version)) => write!(f, "@{version}"),
            Some(VersionSelector::Tag(tag)) => write!(f, "@{tag}"),
            Some(VersionSelector::Digest(digest)) => write!(f, "@sha256:{digest}"),
        }
    }
}

impl FromStr for ProgramReference {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, NotAReference> {
        let (name, selector) = match text.split_once('@') {
            None => (text, None),
            Some((name, selector)) => (name, Some(VersionSelector::from_str(selector)?)),
        };
        if is_name(name) { Ok(Self { name: name.to_owned(), selector }) } else { Err(NotAReference) }
    }
}

impl FromStr for VersionSelector {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, NotAReference> {
        if let Some(digest) = text.strip_prefix("sha256:") {
            let right = digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            return if right { Ok(Self::Digest(ProgramId(digest.into()))) } else { Err(NotAReference) };
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Version).map_err(|_| NotAReference);
        }
        if is_name(text) { Ok(Self::Tag(text.to_owned())) } else { Err(NotAReference) }
    }
}

impl RunStatus {
    /// Every status there is.
    const ALL: [Self; 5] = [Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Interrupted];

    /// The status as it is written in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// The status that is written so, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// An error as lists of runs have it, so that a thousand of them are a short answer: with the beginning of its message.
#[must_use]
pub fn shortened(error: &Error) -> Error {
    let cut = error.message.floor_char_boundary(LISTED_MESSAGE_BYTES_MAX);
    let beginning = &error.message[..cut];
    let message = if cut < error.message.len() { format!("{beginning}…") } else { beginning.to_owned() };
    Error { code: error.code, message }
}
