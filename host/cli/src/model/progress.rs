//! How far a download is: a bar on a terminal, one line elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::units::display_bytes;

/// Between two redraws while nothing moves, so that the speed shown falls.
const TICK: Duration = Duration::from_millis(200);

/// A number of bytes that grows to a total. Removed from the terminal when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Announces `label` (as in "fetching NAME") on standard error.
    pub(crate) fn new(label: &str, total_bytes: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            eprintln!("{label} ({})", display_bytes(total_bytes));
        }
        Self::quiet(label, total_bytes)
    }

    /// The same without a line where there is no terminal: for what takes a moment at most.
    pub(crate) fn quiet(label: &str, total_bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total_bytes), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(
            "{msg} {bar:28.cyan/dim} {decimal_bytes:>9} / {decimal_total_bytes} {decimal_bytes_per_sec:>12}",
        );
        // A template that does not parse is this file's mistake and costs the user only the bar's looks.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        bar.set_message(label.to_owned());
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    /// Of what nobody knows the size beforehand.
    pub(crate) fn growing(label: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            eprintln!("{label}");
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {decimal_bytes:>9}  {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(label.to_owned());
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    /// So many more bytes.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// All bytes are there; what is waited for now, as in "compiling NAME", has no measure but time.
    pub(crate) fn wait(&self, label: &str) {
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg}  {elapsed}");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        self.bar.set_message(label.to_owned());
    }

    /// So many bytes in all, never above the total.
    pub(crate) fn set(&self, bytes: u64) {
        self.bar.set_position(bytes.min(self.bar.length().unwrap_or(bytes)));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
