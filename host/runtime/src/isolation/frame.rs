//! What the two processes say to each other.
//!
//! The order goes to the child as its last argument. What it answers is frames: a byte for the kind, eight for the
//! length, the content.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sglhost_core::limits::{self, CompileLimits, RunLimits};
use sglhost_core::{Error, ErrorCode};

use crate::config::RuntimeConfig;
use crate::error::RuntimeError;

/// Bytes of a refusal.
pub(super) const REFUSAL_BYTES_MAX: u64 = 16 << 10;
/// Bytes of a refusal's message: what it quotes is a stranger's.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Native code, as wasmtime serializes it.
    Artifact = 1,
    /// What `describe` returned.
    Description = 2,
    /// Why there is nothing more: a [`Refusal`] as JSON.
    Refusal = 3,
}

/// Writes a frame.
pub(super) fn write(to: &mut impl Write, kind: Kind, content: &[u8]) -> io::Result<()> {
    to.write_all(&[kind as u8])?;
    to.write_all(&(content.len() as u64).to_le_bytes())?;
    to.write_all(content)?;
    to.flush()
}

/// Reads a frame's head: its kind and its length. None where the other side has ended.
pub(super) fn read_head(from: &mut impl Read) -> io::Result<Option<(Kind, u64)>> {
    let mut kind = [0];
    if from.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let kind = match kind[0] {
        1 => Kind::Artifact,
        2 => Kind::Description,
        3 => Kind::Refusal,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    Ok(Some((kind, u64::from_le_bytes(length))))
}

/// Reads the content of a frame that may have `max` bytes.
pub(super) fn read_content(from: &mut impl Read, length: u64, max: u64) -> io::Result<Vec<u8>> {
    if length > max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut content = Vec::new();
    // Not as many as were announced at once: it grows with what is there.
    from.take(length).read_to_end(&mut content)?;
    if content.len() as u64 == length { Ok(content) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// What the child is to do, and what it may use.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) memory_max_bytes: u64,
    pub(super) cpu_budget: Duration,
    pub(super) stack_max_bytes: usize,
    pub(super) describe_cpu_budget: Duration,
    pub(super) describe_deadline: Duration,
    pub(super) describe_memory_max_bytes: usize,
    pub(super) table_elements_max: usize,
}

impl Order {
    pub(super) fn new(config: &RuntimeConfig, limits: &CompileLimits) -> Self {
        let run = &config.run_limits;
        Self {
            memory_max_bytes: limits.compile_memory_max_bytes as u64,
            cpu_budget: limits.compile_cpu_budget,
            stack_max_bytes: config.host_limits.stack_max_bytes,
            describe_cpu_budget: limits.describe_cpu_budget.min(run.cpu_budget),
            describe_deadline: limits.describe_deadline.min(run.wall_deadline),
            describe_memory_max_bytes: run.memory_max_bytes,
            table_elements_max: run.table_elements_max,
        }
    }

    /// The limits of `describe`.
    pub(super) fn run_limits(&self) -> RunLimits {
        RunLimits {
            memory_max_bytes: self.describe_memory_max_bytes,
            table_elements_max: self.table_elements_max,
            cpu_budget: self.describe_cpu_budget,
            wall_deadline: self.describe_deadline,
            ..RunLimits::default()
        }
    }
}

/// A [`RuntimeError`] on its way from the child, where it has something to say of the component.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Refusal {
    what: What,
    message: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    NotAComponent,
    WrongWorld,
    DeclaresTooMuch,
    Compile,
    OutOfMemory,
    Describe(ErrorCode),
    Description,
    Setup,
}

impl Refusal {
    pub(super) fn new(error: RuntimeError) -> Self {
        let (what, mut message) = match error {
            RuntimeError::NotAComponent(message) => (What::NotAComponent, message),
            RuntimeError::WrongWorld(message) => (What::WrongWorld, message),
            RuntimeError::DeclaresTooMuch(message) => (What::DeclaresTooMuch, message),
            RuntimeError::Compile(message) => (What::Compile, message),
            RuntimeError::Describe(error) => (What::Describe(error.code), error.message),
            RuntimeError::Description(message) => (What::Description, message),
            other => (What::Setup, other.to_string()),
        };
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { what, message }
    }

    /// The system gave no more memory, in the words of whoever noticed.
    pub(super) fn out_of_memory(message: String) -> Self {
        Self { what: What::OutOfMemory, message }
    }

    pub(super) fn is_out_of_memory(&self) -> bool {
        matches!(self.what, What::OutOfMemory)
    }

    /// The error that it was. `None` for what has no error of its own.
    pub(super) fn into_error(mut self) -> RuntimeError {
        self.message.truncate(self.message.floor_char_boundary(MESSAGE_BYTES_MAX));
        match self.what {
            What::NotAComponent => RuntimeError::NotAComponent(self.message),
            What::WrongWorld => RuntimeError::WrongWorld(self.message),
            What::DeclaresTooMuch => RuntimeError::DeclaresTooMuch(self.message),
            What::Compile | What::OutOfMemory => RuntimeError::Compile(self.message),
            What::Describe(code) => RuntimeError::Describe(Error::new(code, self.message)),
            What::Description => RuntimeError::Description(self.message),
            What::Setup => RuntimeError::Setup(self.message),
        }
    }
}

/// Bytes that a description's frame may have; one that is longer is refused by the child, which can say how long it is.
pub(super) const DESCRIPTION_FRAME_MAX: u64 = limits::DESCRIPTION_BYTES_MAX as u64;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written() {
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Artifact, b"code").unwrap();
        write(&mut bytes, Kind::Description, b"").unwrap();
        let mut from = &*bytes;
        assert_eq!(read_head(&mut from).unwrap(), Some((Kind::Artifact, 4)));
        assert_eq!(read_content(&mut from, 4, 4).unwrap(), b"code");
        assert_eq!(read_head(&mut from).unwrap(), Some((Kind::Description, 0)));
        assert_eq!(read_content(&mut from, 0, 4).unwrap(), b"");
        assert_eq!(read_head(&mut from).unwrap(), None);
    }

    #[test]
    fn a_frame_that_lies_is_an_error() {
        let kind = |bytes: &[u8]| read_head(&mut &*bytes).unwrap_err().kind();
        assert_eq!(kind(b"\x09\0\0\0\0\0\0\0\0"), io::ErrorKind::InvalidData);
        assert_eq!(kind(b"\x01\0\0"), io::ErrorKind::UnexpectedEof);
        let content = |length, max| read_content(&mut &b"abc"[..], length, max).unwrap_err().kind();
        assert_eq!(content(4, 8), io::ErrorKind::UnexpectedEof);
        assert_eq!(content(u64::MAX, 8), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_refusal_is_the_error_that_it_was() {
        for error in [
            RuntimeError::NotAComponent("a".to_owned()),
            RuntimeError::WrongWorld("b".to_owned()),
            RuntimeError::DeclaresTooMuch("f".to_owned()),
            RuntimeError::Compile("c".to_owned()),
            RuntimeError::Describe(Error::limit("d")),
            RuntimeError::Description("e".to_owned()),
        ] {
            let expect = format!("{error:?}");
            let json = serde_json::to_string(&Refusal::new(error)).unwrap();
            assert_eq!(format!("{:?}", serde_json::from_str::<Refusal>(&json).unwrap().into_error()), expect);
        }
        let long = Refusal::new(RuntimeError::Compile("ü".repeat(MESSAGE_BYTES_MAX)));
        assert!(serde_json::to_vec(&long).unwrap().len() as u64 <= REFUSAL_BYTES_MAX);
    }
}
