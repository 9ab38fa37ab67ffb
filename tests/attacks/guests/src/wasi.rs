//! Programs that try what WASI has.

use crate::{Error, json};

wit_bindgen::generate!({
    inline: r"
        package attacks:wasi;

        world wasi {
            import wasi:cli/stdout@0.2.0;
            import wasi:cli/stderr@0.2.0;
            import wasi:cli/environment@0.2.0;
            import wasi:cli/exit@0.2.0;
            import wasi:random/random@0.2.0;
            import wasi:clocks/wall-clock@0.2.0;
            import wasi:clocks/monotonic-clock@0.2.0;
            import wasi:filesystem/preopens@0.2.0;
        }

        package wasi:io@0.2.0 {
            interface error {
                resource error;
            }
            interface poll {
                resource pollable {
                    block: func();
                }
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
            interface environment {
                get-environment: func() -> list<tuple<string, string>>;
                get-arguments: func() -> list<string>;
            }
            interface exit {
                exit: func(status: result);
            }
        }

        package wasi:random@0.2.0 {
            interface random {
                get-random-bytes: func(len: u64) -> list<u8>;
            }
        }

        package wasi:clocks@0.2.0 {
            interface wall-clock {
                record datetime { seconds: u64, nanoseconds: u32 }
                now: func() -> datetime;
            }
            interface monotonic-clock {
                use wasi:io/poll@0.2.0.{pollable};
                type duration = u64;
                subscribe-duration: func(when: duration) -> pollable;
            }
        }

        package wasi:filesystem@0.2.0 {
            interface types {
                resource descriptor;
            }
            interface preopens {
                use types.{descriptor};
                get-directories: func() -> list<tuple<descriptor, string>>;
            }
        }
    ",
    world: "attacks:wasi/wasi",
    generate_all,
});

use self::wasi::cli::{environment, exit, stderr, stdout};
use self::wasi::clocks::{monotonic_clock, wall_clock};
use self::wasi::filesystem::preopens;
use self::wasi::random::random;

pub(crate) fn run(name: &str) -> Option<Result<String, Error>> {
    Some(match name {
        "log" => log(),
        "log-much" => log_much(),
        "random" => Ok(format!("{:?}", random::get_random_bytes(8))),
        "random-much" => Ok(random::get_random_bytes(1 << 40).len().to_string()),
        "wall-clock" => Ok(wall_clock::now().seconds.to_string()),
        "surroundings" => surroundings(),
        "sleep" => {
            sleep();
            Ok("null".to_owned())
        }
        "exit" => {
            exit::exit(Err(()));
            Ok(json("still here"))
        }
        _ => return None,
    })
}

fn log() -> Result<String, Error> {
    let written = stdout::get_stdout().blocking_write_and_flush("out ü\n".as_bytes());
    let written = written.and_then(|()| stderr::get_stderr().blocking_write_and_flush(b"err\n"));
    Ok(written.is_ok().to_string())
}

/// Prints, whether anybody reads it or not.
pub(crate) fn print(text: &str) {
    let _ = stdout::get_stdout().blocking_write_and_flush(text.as_bytes());
}

/// Sleeps for a day.
pub(crate) fn sleep() {
    monotonic_clock::subscribe_duration(86_400_000_000_000).block();
}

/// Twice the most that a run may write.
fn log_much() -> Result<String, Error> {
    let stream = stdout::get_stdout();
    let line = [b'x'; 4096];
    Ok((0..512).all(|_| stream.blocking_write_and_flush(&line).is_ok()).to_string())
}

/// What there is of the machine: environment, arguments, folders.
fn surroundings() -> Result<String, Error> {
    Ok(format!(
        "[{}, {}, {}]",
        environment::get_environment().len(),
        environment::get_arguments().len(),
        preopens::get_directories().len()
    ))
}
