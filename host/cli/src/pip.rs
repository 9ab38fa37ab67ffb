//! The machine's own Python package client: models come through it, and tools that build programs.
//!
//! Going through the client means that its configuration counts: mirrors, proxies, credentials, certificates.

use std::process::{Command, Stdio};

/// Ways to call it, the likeliest first.
const CLIENTS: &[&[&str]] = &[&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];
/// What to tell those who have none.
pub(crate) const MISSING: &str = "neither `python3 -m pip` nor `pip` works here (Debian: apt install python3-pip)";
/// Lines of its output that are shown when it fails: its last ones say why.
const ERROR_LINES_MAX: usize = 4;

/// A way to call the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pip(&'static [&'static str]);

impl Pip {
    /// The first way that works.
    pub(crate) fn find() -> Option<Self> {
        CLIENTS.iter().map(|client| Self(client)).find(|client| {
            let mut command = client.command();
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        })
    }

    /// It, without a question asked or a progress bar drawn.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.0[0]);
        command.args(&self.0[1..]).stdin(Stdio::null());
        command
    }
}

impl std::fmt::Display for Pip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// The end of a package client's output, errors alone if it has any: pip's, with why it could not connect, or npm's.
pub(crate) fn last_lines(output: &str) -> String {
    let tells = |line: &&str| {
        line.starts_with("ERROR:")
            || ["npm error code ", "npm error errno ", "npm error request to "]
                .iter()
                .any(|start| line.starts_with(start))
    };
    let mut errors: Vec<&str> = output.lines().filter(tells).collect();
    errors.extend(output.lines().rfind(|line| line.starts_with("WARNING: Retrying")).filter(|_| !errors.is_empty()));
    let lines = if errors.is_empty() { output.lines().filter(|line| !line.is_empty()).collect() } else { errors };
    let start = lines.len().saturating_sub(ERROR_LINES_MAX);
    lines[start..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_errors_are_told() {
        assert_eq!(last_lines("Looking\nERROR: no network\nnoise\n"), "  ERROR: no network");
        assert_eq!(last_lines("a\nb\n\nc\nd\ne\n"), "  b\n  c\n  d\n  e");
    }
}
