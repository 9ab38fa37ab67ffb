//! Components that are meant to do harm when they are loaded, and what is measured afterwards.

use std::{fs, iter};

use crate::guests;

/// The program of attacks, whose `describe` does `harm`.
///
/// # Panics
/// If that program does not build.
#[must_use]
pub fn describing(harm: &str) -> Vec<u8> {
    const WELL: &[u8] = b"describe=well...........";
    let mut component = guests::component("tests/attacks/guests", "attacks");
    let at = component.windows(WELL.len()).position(|window| window == WELL).expect("the name is in the component");
    let name = format!("describe={harm}");
    let name = name.bytes().chain(iter::repeat(b'.')).take(WELL.len());
    component.splice(at..at + WELL.len(), name);
    component
}

/// A component of one function that does nothing `times` times, in a way that takes time and memory to compile.
///
/// # Panics
/// If it would be longer than four gigabytes.
#[must_use]
pub fn slow_to_compile(times: usize) -> Vec<u8> {
    /// A section or a body: its length before it, in five bytes.
    fn sized(content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let part = |index: usize| u8::try_from(length >> (7 * index) & 0x7f).unwrap();
        let mut bytes: Vec<u8> = (0..4).map(|index| part(index) | 0x80).chain([part(4)]).collect();
        bytes.extend(content);
        bytes
    }
    // One local; `block, local.get 0, br_if 0, local.get 0, i32.const 1, i32.add, local.set 0, end`.
    let mut body = vec![1, 1, 0x7f];
    for _ in 0..times {
        body.extend([0x02, 0x40, 0x20, 0, 0x0d, 0, 0x20, 0, 0x41, 1, 0x6a, 0x21, 0, 0x0b]);
    }
    body.push(0x0b);
    let mut code = vec![1];
    code.extend(sized(&body));
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (section, content) in [(1, vec![1, 0x60, 0, 0]), (3, vec![1, 0]), (10, code)] {
        module.push(section);
        module.extend(sized(&content));
    }
    let mut component = b"\0asm\x0d\0\x01\0\x01".to_vec();
    component.extend(sized(&module));
    component
}

/// Resident bytes of this process.
///
/// # Panics
/// Where there is no `/proc`.
#[must_use]
pub fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
