//! Prompt programs in every language: each folder here holds the same program, which `sglhost build` builds. What it says
//! must be what `transcript.txt` says, and how it ends must be told as well. `README.md` says how to add a language.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod ends;
mod host;
mod transcript;

/// Makes a test of each language from functions that take its name.
macro_rules! in_every_language {
    ($($test:ident)*) => {$(
        mod $test {
            use super::$test;

            #[test]
            fn rust() {
                $test("rust");
            }

            #[test]
            fn python() {
                $test("python");
            }

            #[test]
            fn js() {
                $test("js");
            }

            #[test]
            fn ts() {
                $test("ts");
            }

            #[test]
            fn c() {
                $test("c");
            }

            #[test]
            fn go() {
                $test("go");
            }
        }
    )*};
}
pub(crate) use in_every_language;
