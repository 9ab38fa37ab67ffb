//! `sglhost push`: a component becomes a program on a server.

use std::{
    io::{self, Read},
    path::Path,
};

use super::{ask, check_tag, plain_name};
use crate::{
    client::Client,
    component::read_component,
    failure::Failure,
    flags::PushFlags,
    interrupt::Interrupt,
    model::Progress,
    render::{note, print},
    units::display_bytes,
};

/// Bytes of one step of the progress bar.
const STEP_BYTES: usize = 64 << 10;

/// Uploads a component and says what it is called there.
///
/// # Errors
/// The file is no component, or the server does not take it: its reason is shown whole.
pub(super) async fn push(client: Client, flags: PushFlags, interrupt: &Interrupt) -> Result<(), Failure> {
    let component = read_component(&flags.file)?;
    let name = match flags.name {
        Some(name) => plain_name(&name)?,
        None => name_of(&flags.file)?,
    };
    let tag = flags.tag.as_deref().map(check_tag).transpose()?;
    let (pushed, is_new) = ask(&client, interrupt, move |client| {
        let progress = Progress::quiet(&format!("pushing {name}"), component.len() as u64);
        let mut upload = Upload { rest: &component, progress: &progress, name: &name };
        client.push(&name, tag.as_deref(), &mut upload, component.len())
    })
    .await?;
    let tags = pushed.tags.iter().map(|tag| format!("  {tag}")).collect::<String>();
    let (name, version) = (&pushed.name, pushed.version);
    print(&format!("{name}@{version}  {}  {}{tags}\n", pushed.digest, display_bytes(pushed.size_bytes)))?;
    if !is_new {
        note(&format!("{name} has that very content already: it stays version {version}"));
    }
    Ok(())
}

/// The name of a file, without its end, if a program may be called so.
fn name_of(file: &Path) -> Result<String, Failure> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    plain_name(&stem).map_err(|_| {
        Failure::Usage(format!(
            "no program can be called {stem:?}; give another name, of a-z, 0-9, '-' and '_', with --name"
        ))
    })
}

/// A component on its way.
struct Upload<'a> {
    rest: &'a [u8],
    progress: &'a Progress,
    name: &'a str,
}

impl Read for Upload<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let step = buffer.len().min(STEP_BYTES).min(self.rest.len());
        let (now, later) = self.rest.split_at(step);
        buffer[..step].copy_from_slice(now);
        self.rest = later;
        self.progress.advance(step as u64);
        if later.is_empty() {
            self.progress.wait(&format!("{} is there; the server compiles it", self.name));
        }
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_called_as_its_file_is() {
        let check = |file: &str, expect: Option<&str>| {
            assert_eq!(name_of(Path::new(file)).ok().as_deref(), expect, "{file}");
        };
        check("target/basic_qa.wasm", Some("basic_qa"));
        check("2-step", Some("2-step"));
        check("Basic.wasm", None);
        check("a.component.wasm", None);
        check("_x.wasm", None);
    }
}
