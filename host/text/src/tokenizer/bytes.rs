//! What bytes a token stands for: the two spellings in which vocabularies write bytes as text.

/// How a vocabulary spells bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// GPT-2's: each byte is a printable character.
    ByteLevel,
    /// SentencePiece's: text with `▁` for a space, and `<0x0A>` for a byte that is no text.
    SentencePiece,
}

impl Spelling {
    /// The bytes that `token` stands for.
    pub(crate) fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => byte_level(token),
            Self::SentencePiece => match byte_token(token) {
                Some(byte) => vec![byte],
                None => token.replace('▁', " ").into_bytes(),
            },
        }
    }
}

/// Undoes GPT-2's `bytes_to_unicode`. A token with a character outside its alphabet stands for itself.
fn byte_level(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The byte that `character` stands for: printable Latin-1 stands for itself, the other 68 bytes are the characters
/// from U+0100 on, in their order.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The byte of a token spelled `<0x0A>`.
pub(crate) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GPT-2's own definition, to check the closed form against.
    fn bytes_to_unicode() -> Vec<(u8, char)> {
        let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let mut next = 0x100;
        (0..=255u8)
            .map(|byte| {
                if printable(byte) {
                    return (byte, char::from(byte));
                }
                next += 1;
                (byte, char::from_u32(next - 1).unwrap_or('?'))
            })
            .collect()
    }

    #[test]
    fn every_byte_has_its_character() {
        for (byte, character) in bytes_to_unicode() {
            assert_eq!(byte_of(character), Some(byte), "{character}");
        }
        assert_eq!(byte_of('\u{144}'), None);
    }

    #[test]
    fn tokens_stand_for_bytes() {
        let check = |spelling: Spelling, token: &str, expect: &[u8]| {
            assert_eq!(spelling.bytes(token), expect, "{token}");
        };
        check(Spelling::ByteLevel, "Ġthe", b" the");
        check(Spelling::ByteLevel, "ĊĊ", b"\n\n");
        check(Spelling::ByteLevel, "Ã©", "é".as_bytes());
        check(Spelling::ByteLevel, "日", "日".as_bytes());
        check(Spelling::SentencePiece, "▁the", b" the");
        check(Spelling::SentencePiece, "<0x0A>", b"\n");
        check(Spelling::SentencePiece, "<0xZZ>", b"<0xZZ>");
    }
}
