//! The server's side: starts the process, feeds it, takes what it answers, ends it, and says why it died.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sglhost_core::limits::CompileLimits;
use tokio::sync::oneshot;

use crate::artifacts::Draft;
use crate::config::RuntimeConfig;
use crate::description::Description;
use crate::error::{CompileEnd, RuntimeError};
use crate::isolation::Isolation;
use crate::isolation::frame::{self, DESCRIPTION_FRAME_MAX, Kind, Order, REFUSAL_BYTES_MAX, Refusal};

/// Bytes of what the process wrote to standard error that are looked at: a panic's message or an allocator's.
const LAST_WORDS_MAX: u64 = 4 << 10;

/// A component's native code, kept as a draft, and its description as the program returned it.
pub(crate) struct Compiled {
    pub(crate) draft: Draft,
    pub(crate) json: String,
    pub(crate) description: Description,
}

/// Compiles `component` in a process of its own and asks it there to describe itself. Dropping the future ends it.
///
/// # Errors
/// What is wrong with the component, or how the process ended; [`RuntimeError::Setup`] where none can be started.
pub(crate) async fn compile(
    isolation: &Isolation,
    config: &RuntimeConfig,
    component: Vec<u8>,
    draft: Draft,
) -> Result<Compiled, RuntimeError> {
    let setup = |error: &dyn std::fmt::Display| RuntimeError::Setup(format!("the process that compiles: {error}"));
    let limits = isolation.limits.clone();
    let order = serde_json::to_string(&Order::new(config, &limits)).map_err(|error| setup(&error))?;
    let mut command = Command::new(&isolation.program);
    command.args(&isolation.arguments).arg(order).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        // Ctrl-C is the server's to understand.
        command.process_group(0);
    }
    let process = Arc::new(Process::default());
    let _end = EndOnDrop(Arc::clone(&process));
    let (sender, ended) = oneshot::channel();
    let watched = Arc::clone(&process);
    let deadline = limits.compile_deadline;
    // A thread of its own, which lives as long as the process: that dies with the thread that started it.
    let thread = std::thread::Builder::new().name("sglhost-compile".to_owned()).spawn(move || {
        let _ = sender.send(attend(&watched, command, &component, draft, &limits));
    });
    thread.map_err(|error| setup(&error))?;
    let failed = |_| RuntimeError::Setup("the thread that watches over a compilation failed".to_owned());
    tokio::pin!(ended);
    tokio::select! {
        biased;
        compiled = &mut ended => return compiled.map_err(failed)?,
        () = tokio::time::sleep(deadline) => process.end(true),
    }
    ended.await.map_err(failed)?
}

/// The process, for those who end it from outside.
#[derive(Debug, Default)]
struct Process(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    /// Until it was waited for; its number may be another's from then on.
    child: Option<Child>,
    /// It is to end, or is not to start any more.
    ended: bool,
    /// Because it took too long.
    too_long: bool,
}

impl Process {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, too_long: bool) {
        let mut watched = self.watched();
        watched.ended = true;
        watched.too_long |= too_long;
        if let Some(child) = &mut watched.child {
            // Fails where it has ended by itself.
            let _ = child.kill();
        }
    }

    /// Ends it unless it has ended, and tells how: how it ended by itself, if it did.
    fn wait(&self) -> io::Result<(ExitStatus, bool)> {
        let mut watched = self.watched();
        let Some(mut child) = watched.child.take() else { return Err(io::ErrorKind::NotFound.into()) };
        // It closed its output: there is nothing more to come. A kill does not change how it died already.
        let _ = child.kill();
        Ok((child.wait()?, watched.too_long))
    }
}

/// Ends the process when nobody waits for what it does any more.
struct EndOnDrop(Arc<Process>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(false);
    }
}

/// What the process answered before its output ended.
#[derive(Default)]
struct Answer {
    /// All of the native code is here.
    compiled: bool,
    said: Option<Said>,
}

enum Said {
    Description(String),
    Refusal(Refusal),
    /// The native code is larger than it may be.
    TooMuchCode,
    /// The draft cannot be written.
    NotKept(RuntimeError),
}

fn attend(
    process: &Process,
    mut command: Command,
    component: &[u8],
    mut draft: Draft,
    limits: &CompileLimits,
) -> Result<Compiled, RuntimeError> {
    let setup = |error: io::Error| RuntimeError::Setup(format!("the process that compiles: {error}"));
    let (stdin, mut stdout, mut stderr) = {
        let mut watched = process.watched();
        if watched.ended {
            return Err(RuntimeError::Setup("nobody waits for the program any more".to_owned()));
        }
        let mut child = command.spawn().map_err(|error| {
            let program = command.get_program().display();
            RuntimeError::Setup(format!("the process that compiles: {program} cannot be started: {error}"))
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        watched.child = Some(child);
        pipes
    };
    feed(stdin, component);
    let mut answer = Answer::default();
    // Where it stops to speak sense, how it ended says more.
    let _ = stdout.as_mut().map(|stdout| listen(stdout, &mut draft, &mut answer, limits));
    drop(stdout);
    let mut last_words = Vec::new();
    let (status, too_long) = if answer.said.is_some() {
        process.wait().map_err(setup)?
    } else {
        // While it lives it may still write; its death, by the deadline at the latest, ends this.
        let _ = stderr.as_mut().map(|stderr| stderr.take(LAST_WORDS_MAX).read_to_end(&mut last_words));
        process.wait().map_err(setup)?
    };
    let end = |end| RuntimeError::Ended { describing: answer.compiled, end };
    let memory = || CompileEnd::Memory { max: limits.compile_memory_max_bytes };
    match answer.said {
        Some(Said::Description(json)) if answer.compiled => {
            let description = Description::parse(&json)?;
            Ok(Compiled { draft, json, description })
        }
        Some(Said::Refusal(refusal)) if refusal.is_out_of_memory() => Err(end(memory())),
        Some(Said::Refusal(refusal)) => Err(refusal.into_error()),
        Some(Said::TooMuchCode) => Err(end(CompileEnd::Code { max: limits.compiled_bytes_max })),
        Some(Said::NotKept(error)) => Err(error),
        _ if too_long => Err(end(CompileEnd::Deadline { max: limits.compile_deadline })),
        _ => {
            let words = String::from_utf8_lossy(&last_words);
            if words.contains("memory allocation of") {
                return Err(end(memory()));
            }
            Err(end(death(status, &words, limits)))
        }
    }
}

/// Gives it the component. One that dies meanwhile is no error here: how it ended is what counts.
fn feed(stdin: Option<ChildStdin>, component: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(component);
    }
}

fn listen(from: &mut impl io::Read, draft: &mut Draft, answer: &mut Answer, limits: &CompileLimits) -> io::Result<()> {
    while let Some((kind, length)) = frame::read_head(from)? {
        match kind {
            Kind::Artifact if !answer.compiled => {
                if length > limits.compiled_bytes_max {
                    answer.said = Some(Said::TooMuchCode);
                    return Ok(());
                }
                match draft.take(from, length) {
                    Ok(whole) => answer.compiled = whole,
                    Err(error) => answer.said = Some(Said::NotKept(error)),
                }
                if !answer.compiled {
                    return Ok(());
                }
            }
            Kind::Description if answer.compiled => {
                let content = frame::read_content(from, length, DESCRIPTION_FRAME_MAX)?;
                let text = String::from_utf8(content).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                answer.said = Some(Said::Description(text));
                return Ok(());
            }
            Kind::Refusal => {
                let content = frame::read_content(from, length, REFUSAL_BYTES_MAX)?;
                answer.said = Some(Said::Refusal(serde_json::from_slice(&content)?));
                return Ok(());
            }
            Kind::Artifact | Kind::Description => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

/// Why a process that said nothing ended.
#[cfg(unix)]
fn death(status: ExitStatus, words: &str, limits: &CompileLimits) -> CompileEnd {
    use std::os::unix::process::ExitStatusExt as _;

    use rustix::process::Signal;

    let signal = status.signal().unwrap_or(0);
    if signal == Signal::XCPU.as_raw() {
        CompileEnd::CpuTime { max: limits.compile_cpu_budget }
    } else if signal == Signal::SYS.as_raw() {
        CompileEnd::Forbidden
    } else if signal == Signal::KILL.as_raw() {
        CompileEnd::Killed
    } else {
        CompileEnd::Crashed { how: crash(status, words) }
    }
}

#[cfg(not(unix))]
fn death(status: ExitStatus, words: &str, _limits: &CompileLimits) -> CompileEnd {
    CompileEnd::Crashed { how: crash(status, words) }
}

/// How it ended, and the first line that it left.
fn crash(status: ExitStatus, words: &str) -> String {
    match words.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!("{status}, {line:?}"),
        None => status.to_string(),
    }
}
