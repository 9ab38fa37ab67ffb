//! The figures of `--stats`.

use std::{fmt, time::Duration};

use sglhost_core::{Event, Usage};

use crate::units::display_duration;

/// When things happened, on one clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeline {
    first_delta: Option<Duration>,
    last_delta: Option<Duration>,
}

impl Timeline {
    /// Takes in an event that came `at` so long after the start of the run.
    pub(crate) fn take(&mut self, event: &Event, at: Duration) {
        if matches!(event, Event::CallDelta { .. }) {
            self.first_delta.get_or_insert(at);
            self.last_delta = Some(at);
        }
    }

    /// Takes in another run's, on the same clock.
    pub(crate) fn merge(&mut self, other: Self) {
        self.first_delta = [self.first_delta, other.first_delta].into_iter().flatten().min();
        self.last_delta = self.last_delta.max(other.last_delta);
    }
}

/// What was used and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stats {
    /// Runs, when there were several.
    pub(crate) runs: Option<usize>,
    /// Sum over the runs.
    pub(crate) usage: Usage,
    /// Of the first run that generated.
    pub(crate) timeline: Timeline,
    /// From the start of the (first) run to the end of the (last) one.
    pub(crate) wall: Duration,
    /// Before the run: opening the model and compiling the program, side by side. None if the model was fetched first,
    /// which says nothing about the next start.
    pub(crate) startup: Option<Duration>,
}

impl Stats {
    /// Output tokens per second: from the first piece of text to the last where there is one run, over all the time
    /// where there are several.
    fn tokens_per_second(&self) -> Option<f64> {
        let (tokens, time) = match (self.runs, self.timeline) {
            // The first piece of text ends the wait for it; what came with it took no time of this interval.
            (None, Timeline { first_delta: Some(first), last_delta: Some(last) }) => {
                (self.usage.completion_tokens.saturating_sub(1), last.saturating_sub(first))
            }
            (None, _) => return None,
            (Some(_), _) => (self.usage.completion_tokens, self.wall),
        };
        #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
        (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = self.usage;
        if let Some(runs) = self.runs {
            writeln!(f, "runs                 {runs}")?;
        }
        writeln!(f, "prompt tokens        {prompt_tokens} ({cached_tokens} cached)")?;
        writeln!(f, "completion tokens    {completion_tokens}")?;
        if let Some(first) = self.timeline.first_delta {
            writeln!(f, "time to first token  {}", display_duration(first))?;
        }
        if let Some(rate) = self.tokens_per_second() {
            writeln!(f, "tokens per second    {rate:.1}")?;
        }
        write!(f, "wall time            {}", display_duration(self.wall))?;
        if let Some(startup) = self.startup {
            write!(f, "\nstartup              {}", display_duration(startup))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sglhost_core::{CallId, ContextId};

    use super::*;

    #[test]
    fn the_figures() {
        let delta = Event::CallDelta { call: CallId(0), context: ContextId(0), text: "x".to_owned() };
        let mut timeline = Timeline::default();
        for milliseconds in [250, 400, 1250] {
            timeline.take(&delta, Duration::from_millis(milliseconds));
        }
        let usage = Usage { prompt_tokens: 31, cached_tokens: 8, completion_tokens: 101 };
        let stats = Stats {
            runs: None,
            usage,
            timeline,
            wall: Duration::from_millis(1300),
            startup: Some(Duration::from_millis(90)),
        };
        let expect = "\
prompt tokens        31 (8 cached)
completion tokens    101
time to first token  250 ms
tokens per second    100.0
wall time            1.30 s
startup              90 ms";
        assert_eq!(stats.to_string(), expect);
        let nothing = Stats { usage: Usage::default(), timeline: Timeline::default(), ..stats };
        assert!(!nothing.to_string().contains("per second"));
    }
}
