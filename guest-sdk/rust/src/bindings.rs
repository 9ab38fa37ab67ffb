//! The contract of `wit/`, as Rust: generated, and private to this crate.
//!
//! All functions are bound blocking. That costs no overlap: the host starts a call at once and a program waits only
//! where it reads a result.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "generated code")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "program",
    sync: true,
    pub_export_macro: true,
    default_bindings_module: "sglhost_guest::bindings",
});

/// Standard output and error. Only what is needed of WASI is declared, so that a component imports nothing else.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub(crate) mod wasi {
    wit_bindgen::generate!({
        inline: r"
            package sglhost:output;

            world output {
                import wasi:cli/stdout@0.2.0;
                import wasi:cli/stderr@0.2.0;
            }

            package wasi:io@0.2.0 {
                interface error {
                    resource error;
                }
                interface streams {
                    use error.{error};
                    variant stream-error { last-operation-failed(error), closed }
                    resource output-stream {
                        blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
                    }
                }
            }

            package wasi:cli@0.2.0 {
                interface stdout {
                    use wasi:io/streams@0.2.0.{output-stream};
                    get-stdout: func() -> output-stream;
                }
                interface stderr {
                    use wasi:io/streams@0.2.0.{output-stream};
                    get-stderr: func() -> output-stream;
                }
            }
        ",
        world: "sglhost:output/output",
        generate_all,
    });
}
