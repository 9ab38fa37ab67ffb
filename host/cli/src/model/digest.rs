//! SHA-256 of files, and of bytes on their way to one.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::{ModelStoreError, progress::Progress};
use crate::interrupt::Interrupt;

/// Bytes between two looks at the interrupt and two moves of the progress bar.
const COPY_BUFFER_BYTES: usize = 256 << 10;

/// A digest in lower-case hexadecimal.
fn hexadecimal(digest: impl AsRef<[u8]>) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest.as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Copies all of `from` to `to` while hashing it: the digest in lower-case hexadecimal. `path` is for errors.
pub(crate) fn copy_hashed(
    from: &mut dyn Read,
    to: &mut dyn Write,
    path: &Path,
    progress: &Progress,
    interrupt: &Interrupt,
) -> Result<String, ModelStoreError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    loop {
        if interrupt.is_requested() {
            return Err(ModelStoreError::Interrupted);
        }
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(hexadecimal(hash.finalize())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ModelStoreError::io(path)(error)),
        };
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(ModelStoreError::io(path))?;
        progress.advance(read as u64);
    }
}

/// The SHA-256 of a file in lower-case hexadecimal.
pub(crate) fn sha256_of_file(path: &Path, interrupt: &Interrupt) -> Result<String, ModelStoreError> {
    let mut file = File::open(path).map_err(ModelStoreError::io(path))?;
    let bytes = file.metadata().map_err(ModelStoreError::io(path))?.len();
    let progress = Progress::quiet("checking", bytes);
    copy_hashed(&mut file, &mut io::sink(), path, &progress, interrupt)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

    use super::*;

    #[test]
    fn the_digest_is_sha256_and_the_bytes_arrive() {
        let mut copy = Vec::new();
        let digest = copy_hashed(
            &mut &b"abc"[..],
            &mut copy,
            Path::new("memory"),
            &Progress::quiet("test", 3),
            &Interrupt::never(),
        );
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest.unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(copy, b"abc");
    }
}
