//! Standard output and error, panic messages included.
//!
//! On wasm32-unknown-unknown, Rust's own `println!` and panic messages go nowhere. The macros here, of the same names,
//! write to WASI's streams there, and to Rust's own everywhere else. `#[program]` brings them into its function; other
//! functions need `use sglhost_guest::println;` (a prelude cannot do it: the name would be ambiguous).

use std::fmt::{self, Write};

/// Which stream.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Writes formatted text. Output that cannot be written is lost: it is for people, not part of the result.
#[doc(hidden)]
pub fn write(output: Output, arguments: fmt::Arguments<'_>, end: &str) {
    let mut text = String::new();
    if text.write_fmt(arguments).is_ok() {
        text.push_str(end);
        write_bytes(output, text.as_bytes());
    }
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
fn write_bytes(output: Output, bytes: &[u8]) {
    use crate::bindings::wasi::wasi::cli::{stderr, stdout};

    /// WASI takes no more in one blocking write.
    const WRITE_BYTES_MAX: usize = 4096;

    let stream = match output {
        Output::Stdout => stdout::get_stdout(),
        Output::Stderr => stderr::get_stderr(),
    };
    for chunk in bytes.chunks(WRITE_BYTES_MAX) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
}

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
fn write_bytes(output: Output, bytes: &[u8]) {
    use std::io::Write;

    let _ = match output {
        Output::Stdout => std::io::stdout().write_all(bytes),
        Output::Stderr => std::io::stderr().write_all(bytes),
    };
}

/// Has panics write their message to standard error before they trap.
pub(crate) fn report_panics() {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    std::panic::set_hook(Box::new(|panic| write(Output::Stderr, format_args!("{panic}"), "\n")));
}

/// Like [`std::println`], on every target.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::__private::write($crate::__private::Output::Stdout, ::core::format_args!($($argument)*), "\n")
    };
}

/// Like [`std::print`], on every target.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {
        $crate::__private::write($crate::__private::Output::Stdout, ::core::format_args!($($argument)*), "")
    };
}

/// Like [`std::eprintln`], on every target.
#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => {
        $crate::__private::write($crate::__private::Output::Stderr, ::core::format_args!($($argument)*), "\n")
    };
}

/// Like [`std::eprint`], on every target.
#[macro_export]
macro_rules! eprint {
    ($($argument:tt)*) => {
        $crate::__private::write($crate::__private::Output::Stderr, ::core::format_args!($($argument)*), "")
    };
}
