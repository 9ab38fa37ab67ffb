//! A server that has lost its device starts itself again: a process does not get it back.
//!
//! The process is replaced by itself, so that whatever started it sees one process throughout. A device that is lost
//! again and again must not make it spin: between two beginnings there is a minute.

use std::time::Duration;

use crate::{environment::RESTARTED, failure::Failure};

/// The least time between two beginnings.
const PERIOD: Duration = Duration::from_secs(60);

/// How long to wait before starting again, `began` being when this process did so because of another loss.
pub(crate) fn pause(began: Option<Duration>, now: Duration) -> Duration {
    // A clock that was set back makes it wait a minute at most.
    began.map_or(Duration::ZERO, |began| PERIOD.saturating_sub(now.saturating_sub(began)))
}

/// Replaces this process by itself, with the same arguments. Comes back only if that fails.
#[cfg(unix)]
pub(crate) fn restart(now: Duration) -> Failure {
    use std::os::unix::process::CommandExt as _;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "sglhost".into());
    let program = if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
    let program = match program {
        Ok(program) => program,
        Err(error) => return Failure::Other(format!("the server cannot start itself again: {error}")),
    };
    let mut command = std::process::Command::new(program);
    command.arg0(name).args(arguments).env(RESTARTED, now.as_secs().to_string());
    Failure::Other(format!("the server cannot start itself again: {}", command.exec()))
}

/// Other systems do not replace a process: whoever started it starts it again.
#[cfg(not(unix))]
pub(crate) fn restart(_now: Duration) -> Failure {
    Failure::Other("the server must be started again".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_beginnings_there_is_a_minute() {
        let seconds = Duration::from_secs;
        assert_eq!(pause(None, seconds(1000)), seconds(0));
        assert_eq!(pause(Some(seconds(1000)), seconds(1001)), seconds(59));
        assert_eq!(pause(Some(seconds(1000)), seconds(1061)), seconds(0));
        assert_eq!(pause(Some(seconds(1000)), seconds(900)), seconds(60));
    }
}
