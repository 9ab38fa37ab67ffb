//! How text is split into words before merging, by the name that GGUF metadata gives (`tokenizer.ggml.pre`).
//!
//! The names are llama.cpp's; the patterns are those of each family's `tokenizer.json`, so that a GGUF file and the
//! Hugging Face folder it was made from give the same ids.

use serde_json::{Value, json};

use crate::TextError;

/// What a name stands for.
#[derive(Debug)]
pub(super) struct Rule {
    /// As `tokenizer.json` writes it.
    pub normalizer: Option<Value>,
    /// As `tokenizer.json` writes it.
    pub pre_tokenizer: Value,
    /// A word that is itself a token is taken whole, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether the family starts a text with a begin-of-text token when the metadata does not say.
    pub adds_bos: bool,
}

/// A group of names that mean the same.
struct Family {
    names: &'static [&'static str],
    split: Split,
    /// Whether the text is brought to Unicode's composed form first.
    composes: bool,
    ignore_merges: bool,
    adds_bos: bool,
}

#[derive(Clone, Copy)]
enum Split {
    /// GPT-2's pattern.
    Gpt2,
    /// GPT-2's pattern, digits one by one first.
    Gpt2Digits,
    /// Patterns applied one after the other, each match a word of its own.
    Patterns(&'static [&'static str]),
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: [&str; 3] = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];

const FAMILIES: [Family; 11] = [
    Family {
        names: &["gpt-2", "default", "phi-2", "mpt", "olmo", "jais", "exaone4", "gigachat", "a.x-4.0", "mellum"],
        split: Split::Gpt2,
        composes: false,
        ignore_merges: false,
        adds_bos: false,
    },
    Family {
        names: &["smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"],
        split: Split::Gpt2Digits,
        composes: false,
        ignore_merges: false,
        adds_bos: false,
    },
    Family { names: &["command-r"], split: Split::Gpt2Digits, composes: true, ignore_merges: false, adds_bos: true },
    Family {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        split: Split::Patterns(&[LLAMA3]),
        composes: false,
        ignore_merges: true,
        adds_bos: true,
    },
    Family {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        split: Split::Patterns(&[LLAMA3]),
        composes: false,
        ignore_merges: false,
        adds_bos: false,
    },
    Family {
        names: &["glm4"],
        split: Split::Patterns(&[LLAMA3]),
        composes: false,
        ignore_merges: true,
        adds_bos: false,
    },
    Family {
        names: &["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"],
        split: Split::Patterns(&[QWEN2]),
        composes: true,
        ignore_merges: false,
        adds_bos: false,
    },
    Family {
        names: &["qwen35"],
        split: Split::Patterns(&[QWEN35]),
        composes: false,
        ignore_merges: false,
        adds_bos: false,
    },
    Family {
        names: &["tekken"],
        split: Split::Patterns(&[TEKKEN]),
        composes: false,
        ignore_merges: true,
        adds_bos: true,
    },
    Family {
        names: &["gpt-4o", "llama4"],
        split: Split::Patterns(&[GPT4O]),
        composes: false,
        ignore_merges: false,
        adds_bos: false,
    },
    Family {
        names: &["deepseek-v3"],
        split: Split::Patterns(&DEEPSEEK3),
        composes: false,
        ignore_merges: false,
        adds_bos: true,
    },
];

/// The rule of a name; none is an old file, which means `default`.
pub(super) fn by_name(name: Option<&str>) -> Result<Rule, TextError> {
    let name = name.unwrap_or("default");
    let family = FAMILIES.iter().find(|family| family.names.contains(&name)).ok_or_else(|| {
        let known: Vec<&str> = FAMILIES.iter().flat_map(|family| family.names).copied().collect();
        TextError::Unsupported(format!(
            "tokenizer.ggml.pre is {name:?}, a way to split words that is not known here; known are {}",
            known.join(", ")
        ))
    })?;
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex});
    let steps = match family.split {
        Split::Gpt2 => vec![byte_level(true)],
        Split::Gpt2Digits => vec![json!({"type": "Digits", "individual_digits": true}), byte_level(true)],
        Split::Patterns(patterns) => {
            let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
            patterns.iter().map(split).chain([byte_level(false)]).collect()
        }
    };
    Ok(Rule {
        normalizer: family.composes.then(|| json!({"type": "NFC"})),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": steps}),
        ignore_merges: family.ignore_merges,
        adds_bos: family.adds_bos,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_rule_parses() {
        for name in FAMILIES.iter().flat_map(|family| family.names) {
            let rule = by_name(Some(name)).unwrap();
            serde_json::from_value::<tokenizers::PreTokenizerWrapper>(rule.pre_tokenizer).unwrap();
        }
    }

    #[test]
    fn an_unknown_name_is_named() {
        let error = by_name(Some("viking")).unwrap_err().to_string();
        assert!(error.contains("\"viking\"") && error.contains("smollm"), "{error}");
    }
}
