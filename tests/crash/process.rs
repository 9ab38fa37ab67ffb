//! The server's process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use sglhost_tests::binary::sglhost;
use sglhost_tests::golden;

/// A server that is, or was.
pub(crate) struct Process(Child);

impl Process {
    /// Starts one.
    pub(crate) fn start(data: &Path) -> Self {
        let model = golden::folder().join("tiny-f32");
        let mut command = sglhost(["serve", "--port", "0", "--threads", "1", "--log-level", "error"]);
        command.arg("--model").arg(model).arg("--data").arg(data);
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until it is ready; says where it listens.
    pub(crate) async fn ready(&mut self) -> SocketAddr {
        let stdout = self.0.stdout.take().unwrap();
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).unwrap();
            line
        });
        let line = line.await.unwrap();
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        address.unwrap_or_else(|| panic!("it is not ready: {line:?}")).parse().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
