//! What `describe` does instead of describing. It takes no arguments: tests write another name into the component.

use std::hint::black_box;

/// Padded with dots to its length, which tests keep.
static DESCRIBE: [u8; 24] = *b"describe=well...........";

/// The description, or no end of it; none where it is to be as it should.
pub(crate) fn harm() -> Option<String> {
    let name = std::str::from_utf8(black_box(&DESCRIBE)).unwrap_or_default();
    match name.trim_end_matches('.').trim_start_matches("describe=") {
        "spin" => loop {
            black_box(());
        },
        "allocate" => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(black_box(vec![1; 1 << 20]));
            }
        }
        "recurse" => Some(recurse(black_box(0)).to_string()),
        "trap" => panic!("on purpose"),
        "sleep" => {
            crate::wasi::sleep();
            None
        }
        "print" => {
            for _ in 0..1000 {
                crate::wasi::print(&"x".repeat(1000));
            }
            None
        }
        "long" => Some(format!("{{\"name\": \"{}\"}}", "x".repeat(1 << 20))),
        "huge" => Some("x".repeat(20 << 20)),
        "deep" => Some("[".repeat(10_000)),
        "text" => Some("not JSON".to_owned()),
        "array" => Some("[]".to_owned()),
        "nameless" => Some("{}".to_owned()),
        _ => None,
    }
}

fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX { 1 } else { recurse(depth + 1).rotate_left(7) ^ depth }
}
