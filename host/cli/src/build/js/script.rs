//! Puts a script into the runtime's module, behind all that is in its memory: `guest-sdk/js/runtime/main.c` looks
//! there.

/// By what the runtime's own place for it is found: the address and the length of the script follow.
const MARK: &[u8] = b"sglhost:script1\0";
/// Bytes of a page of memory.
const PAGE: usize = 64 << 10;
/// Sections of a module.
const MEMORIES: u8 = 5;
const DATA_COUNT: u8 = 12;
const DATA: u8 = 11;

/// The module with the script in it.
///
/// # Errors
/// It is not the runtime's.
pub(super) fn put(module: &[u8], script: &[u8]) -> Result<Vec<u8>, String> {
    put_in(module, script).ok_or_else(|| "the runtime of JavaScript has no place for a script".to_owned())
}

fn put_in(module: &[u8], script: &[u8]) -> Option<Vec<u8>> {
    let (header, mut rest) = module.split_at_checked(8)?;
    let mut made = header.to_vec();
    let (mut address, mut written) = (None, false);
    while let Some((&section, mut after)) = rest.split_first() {
        let size = take_number(&mut after)?;
        let (content, next) = after.split_at_checked(size)?;
        rest = next;
        let content = match section {
            MEMORIES => {
                let (content, end) = grown(content, script.len() + 1)?;
                address = Some(end);
                content
            }
            DATA => {
                written = true;
                with_script(content, script, address?)?
            }
            // How many segments there are would have to be told here, too.
            DATA_COUNT => return None,
            _ => content.to_vec(),
        };
        made.push(section);
        push_number(&mut made, content.len());
        made.extend(content);
    }
    written.then_some(made)
}

/// The memory, which has no maximum, with room for so many bytes more; and where they begin.
fn grown(content: &[u8], bytes: usize) -> Option<(Vec<u8>, usize)> {
    let mut pages = content.strip_prefix(&[1, 0])?;
    let end = take_number(&mut pages)?;
    let mut grown = vec![1, 0];
    push_number(&mut grown, end + bytes.div_ceil(PAGE));
    Some((grown, end * PAGE))
}

/// The data with the script's place filled in, and a segment more: the script, with a NUL behind it.
fn with_script(mut content: &[u8], script: &[u8], address: usize) -> Option<Vec<u8>> {
    let count = take_number(&mut content)?;
    let mut made = Vec::with_capacity(content.len() + script.len() + 32);
    push_number(&mut made, count + 1);
    let mark = made.len() + content.windows(MARK.len()).position(|bytes| bytes == MARK)?;
    made.extend(content);
    for (at, value) in [(0, address), (4, script.len())] {
        let place = mark + MARK.len() + at;
        made.get_mut(place..place + 4)?.copy_from_slice(&u32::try_from(value).ok()?.to_le_bytes());
    }
    // Active, in the first memory, at a constant.
    made.extend([0, 0x41]);
    push_signed(&mut made, i32::from_ne_bytes(u32::try_from(address).ok()?.to_ne_bytes()));
    made.push(0x0b);
    push_number(&mut made, script.len() + 1);
    made.extend(script);
    made.push(0);
    Some(made)
}

/// A number in LEB128, from the front.
fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn push_number(into: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        into.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    into.push(number as u8);
}

fn push_signed(into: &mut Vec<u8>, mut number: i32) {
    while !(-0x40..0x40).contains(&number) {
        into.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    into.push((number & 0x7f) as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 127, 128, 300, 65_536, 1 << 31] {
            let mut bytes = Vec::new();
            push_number(&mut bytes, number);
            assert_eq!(take_number(&mut &bytes[..]), Some(number));
        }
        let signed = |number| {
            let mut bytes = Vec::new();
            push_signed(&mut bytes, number);
            bytes
        };
        assert_eq!(signed(63), [63]);
        assert_eq!(signed(64), [0xc0, 0]);
        assert_eq!(signed(-1), [0x7f]);
        assert_eq!(signed(1_179_648), [0x80, 0x80, 0xc8, 0]);
    }

    #[test]
    fn a_script_lies_behind_all_else() {
        let module = wat::parse_str(
            r#"(module (memory (export "memory") 2)
                (data (i32.const 16) "before" "sglhost:script1\00" "\00\00\00\00\00\00\00\00" "after"))"#,
        );
        let script = vec![b'x'; PAGE];
        let made = put(&module.unwrap(), &script).unwrap();
        // Two pages of script, with its NUL, and their address and length.
        let contains = |bytes: &[u8]| made.windows(bytes.len()).any(|window| window == bytes);
        assert!(contains(&[MEMORIES, 3, 1, 0, 4]));
        assert!(contains(&[MARK, &[0, 0, 2, 0], &[0, 0, 1, 0], b"after"].concat()));
        assert!(made.ends_with(b"x\0"));
        assert!(put(&wat::parse_str("(module (memory 1))").unwrap(), b"").is_err());
        assert!(put(b"no module", b"").is_err());
    }
}
