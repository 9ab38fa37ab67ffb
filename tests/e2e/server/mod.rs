//! `sglhost serve` and the commands that speak to it: the real server with the real model, the real command line.

mod batch;
mod detached;
mod refusals;
mod runs;
mod tenants;

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::MutexGuard,
    thread::JoinHandle,
};

use sglhost_tests::binary::{Ended, binary, plugin, sglhost, turn};

use crate::arguments::probe;

/// A server of a test's own. It computes, and so has its turn to itself.
pub(crate) struct Served {
    child: Child,
    /// Its address.
    pub(crate) address: String,
    /// What its standard error says, kept from filling up.
    told: Option<JoinHandle<String>>,
    /// Where it keeps things, and where the test may.
    pub(crate) folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Served {
    /// Starts one on a folder of its own and waits until it says where it listens.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Built before the turn is taken: others may want theirs meanwhile.
        let _ = (plugin("text_qa"), probe());
        let turn = turn();
        let mut command = sglhost(["serve", "--port", "0", "--drain-timeout", "100ms"]);
        command.env("SGLHOST_DATA", folder.path().join("data")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let told = std::thread::spawn(move || {
            let mut told = String::new();
            let _ = stderr.read_to_string(&mut told);
            told
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_default().to_owned();
        let served = Self { child, address, told: Some(told), folder, _turn: turn };
        assert!(!served.address.is_empty(), "the server is not ready: {line:?}");
        served
    }

    /// A command for it.
    pub(crate) fn command<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        self.command_at(&self.address, arguments)
    }

    /// A command for whoever listens there instead.
    pub(crate) fn command_at<I: AsRef<OsStr>>(&self, address: &str, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = sglhost(arguments);
        command.env("SGLHOST_SERVER", address).env("SGLHOST_DATA", self.folder.path().join("data"));
        command.env_remove("SGLHOST_KEY");
        command
    }

    /// Runs a command for it to its end.
    pub(crate) fn run<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Ended {
        ended(&mut self.command(arguments))
    }

    /// Takes a program there; says what it is called now.
    pub(crate) fn push(&self, file: &Path) -> String {
        self.run([OsStr::new("push"), file.as_os_str()]).well()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(told) = self.told.take().and_then(|told| told.join().ok())
            && std::thread::panicking()
        {
            eprintln!("the server said: {told}");
        }
    }
}

/// Waits for the end of a command, within the turn of its server.
pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// As the terminal does it.
#[cfg(unix)]
pub(crate) fn interrupt(child: &Child) {
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

/// A call on this machine, within the turn of a server.
pub(crate) fn here<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let _ = binary();
    let mut command = sglhost(arguments);
    command.env_remove("SGLHOST_SERVER").env_remove("SGLHOST_KEY");
    command
}
