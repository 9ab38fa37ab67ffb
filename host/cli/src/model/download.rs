//! One file over HTTP: resumed where an earlier attempt stopped, checked before it counts as whole.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use ureq::{Agent, http::StatusCode};

use super::{ModelStoreError, digest::copy_hashed, package::check_digest, progress::Progress, sha256_of_file};
use crate::interrupt::Interrupt;

/// A file to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Its name, for people.
    pub(super) name: String,
    /// Where from.
    pub(super) url: String,
    /// `Bearer …`, for the first host only: it is not sent on to where that redirects.
    pub(super) authorization: Option<String>,
    /// Its length, if the hub says.
    pub(super) bytes: Option<u64>,
    /// Its digest, if the hub says.
    pub(super) sha256: Option<String>,
}

/// Fetches `file` to `destination`; a `.part` file beside it is gone on with. Blocks.
///
/// # Errors
/// The server's or the network's, or a digest or length that differs.
pub(super) fn fetch_file(
    agent: &Agent,
    file: &RemoteFile,
    destination: &Path,
    progress: &Progress,
    interrupt: &Interrupt,
) -> Result<(), ModelStoreError> {
    let mut name = destination.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    let mut out = File::options().create(true).truncate(false).read(true).write(true).open(part);
    let out = out.as_mut().map_err(|error| ModelStoreError::io(part)(io::Error::from(error.kind())))?;
    let before = out.seek(SeekFrom::End(0)).map_err(ModelStoreError::io(part))?;
    // A part as long as the file has nothing left to ask for; its digest is checked below all the same.
    let complete = file.bytes.is_some_and(|bytes| bytes == before) && before > 0;
    if complete {
        progress.advance(before);
    } else {
        let failed = |reason: String| ModelStoreError::Fetch { what: file.name.clone(), reason };
        let mut request = agent.get(&file.url);
        if let Some(authorization) = &file.authorization {
            request = request.header("authorization", authorization);
        }
        if before > 0 {
            request = request.header("range", format!("bytes={before}-"));
        }
        let response = request.call().map_err(|error| failed(explain(&error)))?;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            progress.advance(before);
        } else {
            // The whole file comes: what was there is overwritten.
            out.set_len(0).map_err(ModelStoreError::io(part))?;
            out.seek(SeekFrom::Start(0)).map_err(ModelStoreError::io(part))?;
        }
        let mut body = response.into_body().into_reader();
        copy_hashed(&mut Named { body: &mut body, url: &file.url }, out, part, progress, interrupt)?;
        out.sync_all().map_err(ModelStoreError::io(part))?;
    }
    let length = out.metadata().map_err(ModelStoreError::io(part))?.len();
    let checked = check_length(file, length).and_then(|()| match &file.sha256 {
        Some(expected) => check_digest(&file.name, &sha256_of_file(part, interrupt)?, expected),
        None => Ok(()),
    });
    if let Err(ModelStoreError::Digest { .. }) = checked {
        // Wrong bytes are not worth resuming; a short file is.
        fs::remove_file(part).map_err(ModelStoreError::io(part))?;
    }
    checked?;
    fs::rename(part, destination).map_err(ModelStoreError::io(destination))
}

fn check_length(file: &RemoteFile, length: u64) -> Result<(), ModelStoreError> {
    match file.bytes {
        Some(expected) if expected != length => Err(ModelStoreError::Fetch {
            what: file.name.clone(),
            reason: format!("{length} of {expected} bytes came; the same command goes on from there"),
        }),
        _ => Ok(()),
    }
}

/// A response's body whose errors name where it came from.
struct Named<'a> {
    body: &'a mut dyn Read,
    url: &'a str,
}

impl Read for Named<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.url)))
    }
}

/// A request's error for people.
pub(super) fn explain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(401 | 403) => {
            "the hub does not show it without a token that may see it; set HF_TOKEN".to_owned()
        }
        ureq::Error::StatusCode(404) => "the hub does not have it; check the name and the revision".to_owned(),
        ureq::Error::StatusCode(429) => "the hub asks to come back later (429, too many requests)".to_owned(),
        ureq::Error::StatusCode(code) => format!("the hub answered with status {code}"),
        other => other.to_string(),
    }
}
