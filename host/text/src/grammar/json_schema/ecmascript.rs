//! A schema's expressions are ECMAScript's; `llguidance` reads them as Rust's.

/// An expression of ECMAScript's in Rust's syntax.
///
/// # Errors
/// What it has that means something else there.
pub(super) fn in_rust(pattern: &str) -> Result<String, String> {
    // With U+FEFF and without U+0085, which is Unicode's.
    const SPACES: &str =
        "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";
    let mut out = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                let Some(escaped) = rest.chars().next() else { return Err("`\\` at its end".to_owned()) };
                rest = &rest[escaped.len_utf8()..];
                match escaped {
                    's' => out.extend(["[", SPACES, "]"]),
                    'S' => out.extend(["[^", SPACES, "]"]),
                    'b' if in_class => out.push_str(r"\x08"),
                    // The beginning or the end of a word in Rust's.
                    '<' | '>' => out.push(escaped),
                    'a' | 'A' | 'z' | 'Z' | 'G' | 'U' | 'Q' | 'E' | 'h' | 'H' | 'R' | 'X' | 'K' => {
                        return Err(format!("`\\{escaped}` is not ECMAScript's"));
                    }
                    'b' | 'B' | 'x' | 'p' | 'P' if rest.starts_with('{') != "pP".contains(escaped) => {
                        return Err(format!(
                            "`\\{escaped}{}` is not ECMAScript's",
                            if rest.starts_with('{') { "{" } else { "" }
                        ));
                    }
                    // A name or a number in braces.
                    'p' | 'P' | 'u' if rest.starts_with('{') => {
                        let end = rest.find('}').ok_or("a `{` without `}`")?;
                        out.extend(['\\', escaped]);
                        out.push_str(&rest[..=end]);
                        rest = &rest[end + 1..];
                    }
                    _ => out.extend(['\\', escaped]),
                }
            }
            '[' if in_class => out.push_str(r"\["),
            '[' if rest.starts_with("^]") => {
                out.push_str(r"[\x{0}-\x{10FFFF}]");
                rest = &rest[2..];
            }
            '[' if rest.starts_with(']') => return Err("`[]` matches nothing".to_owned()),
            '[' => {
                in_class = true;
                out.push('[');
                if let Some(after) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = after;
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', character]),
            '-' if in_class && rest.starts_with('-') => return Err("`--` in a class; write `\\-`".to_owned()),
            _ if in_class => out.push(character),
            '.' => out.push_str(r"[^\n\r\x{2028}\x{2029}]"),
            '(' if rest.starts_with('?') => {
                let known = ["?:", "?=", "?!", "?<"];
                if !known.iter().any(|group| rest.starts_with(group)) {
                    return Err("a group that begins with `(?` and is none of `(?:`, `(?=`, `(?!` and `(?<`".to_owned());
                }
                out.push('(');
            }
            '{' => {
                let counts = rest.split_once('}').map(|(counts, _)| counts.split_once(',').unwrap_or((counts, "")));
                let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
                if !counts.is_some_and(|(least, most)| !least.is_empty() && digits(least) && digits(most)) {
                    return Err("a `{` that begins no repetition; write `\\{`".to_owned());
                }
                out.push('{');
            }
            _ => out.push(character),
        }
    }
    Ok(out)
}
