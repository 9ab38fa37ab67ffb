//! Reading little-endian values from bytes that may end anywhere.

use super::GgufError;

/// A place in a file's bytes. Nothing is read past their end.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Bytes of the whole file.
    pub(super) fn file_len(&self) -> usize {
        self.bytes.len()
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], GgufError> {
        let bytes = self.bytes[self.at..].get(..count).ok_or(GgufError::Truncated { what, at: self.at })?;
        self.at += count;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let (array, _) = self.bytes[self.at..].split_first_chunk().ok_or(GgufError::Truncated { what, at: self.at })?;
        self.at += N;
        Ok(*array)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Checks that `count` items of at least `item_bytes` each can follow, before anything is allocated for them.
    pub(super) fn check_count(&self, count: u64, item_bytes: usize, what: &'static str) -> Result<usize, GgufError> {
        let limit = (self.remaining() / item_bytes) as u64;
        if count > limit {
            return Err(GgufError::Length { what, at: self.at, length: count, limit });
        }
        Ok(count as usize)
    }

    /// A length and as many bytes of UTF-8.
    pub(super) fn string(&mut self, what: &'static str) -> Result<&'a str, GgufError> {
        let at = self.at;
        let length = self.u64(what)?;
        let length = self.check_count(length, 1, what)?;
        std::str::from_utf8(self.take(length, what)?).map_err(|_| GgufError::NotUtf8 { what, at })
    }
}
