//! This executable as the process that compiles one component for a server; see `sglhost_runtime::Isolation`.

use sglhost_runtime::Isolation;

/// The first argument of such a process. No command is called so.
const WORD: &str = "compile-for-server";

/// What the server that started this process wrote, if one did.
pub(crate) fn order() -> Option<String> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == WORD).then(|| arguments.next())??.into_string().ok()
}

/// How a server starts such processes.
///
/// # Errors
/// The system does not say which file this is.
pub(crate) fn isolation() -> std::io::Result<Isolation> {
    // On Linux the file that runs, even when another has taken its place.
    let program = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    Ok(Isolation { program, arguments: vec![WORD.into()], limits: sglhost_core::limits::CompileLimits::default() })
}
