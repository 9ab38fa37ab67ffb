//! A tokenizer from a Hugging Face folder.
//!
//! Read are `tokenizer.json` (required), `tokenizer_config.json`, `special_tokens_map.json`, `generation_config.json`
//! and `chat_template.jinja` (each optional). What a later one says about the same thing is used where an earlier one
//! is silent, in the order above; a chat template in a file of its own wins.

use std::{collections::HashMap, io::ErrorKind, path::Path};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use sglhost_core::TokenId;
use tokenizers::{Model, ModelWrapper, models::bpe::BPE};

use super::{Parts, Tokenizer, added::AddedToken, bytes::Spelling};
use crate::TextError;

/// The parts of `tokenizer.json` that matter here.
#[derive(Deserialize)]
struct TokenizerFile<'a> {
    #[serde(default)]
    added_tokens: Vec<AddedTokenEntry>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
    post_processor: Option<Value>,
    #[serde(borrow)]
    model: &'a RawValue,
}

#[derive(Deserialize)]
struct AddedTokenEntry {
    id: TokenId,
    content: String,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    special: bool,
}

impl Tokenizer {
    /// Loads from a folder of Hugging Face files.
    ///
    /// # Errors
    /// A file that is missing, unreadable or malformed, or a kind of tokenizer that is not known; the message names
    /// the file.
    pub fn from_hugging_face(folder: &Path) -> Result<Self, TextError> {
        let path = folder.join("tokenizer.json");
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|source| TextError::Read { path: name.clone(), source })?;
        let malformed = |error: serde_json::Error| TextError::malformed(&name, error);
        let file: TokenizerFile<'_> = serde_json::from_str(&text).map_err(malformed)?;
        let model = parse_model(file.model.get()).map_err(malformed)?;
        let spelling = spelling(&file).ok_or_else(|| {
            TextError::Unsupported(format!("{name}: neither a byte-level nor a SentencePiece-style tokenizer"))
        })?;

        let config = read_json(folder, "tokenizer_config.json")?;
        let special = read_json(folder, "special_tokens_map.json")?;
        let generation = read_json(folder, "generation_config.json")?;
        let ids: HashMap<&str, TokenId> =
            file.added_tokens.iter().map(|token| (token.content.as_str(), token.id)).collect();
        let token_id = |text: &str| ids.get(text).copied().or_else(|| model.token_to_id(text));
        let named = |key: &str| {
            let text = token_text(&config[key]).or_else(|| token_text(&special[key]));
            text.and_then(&token_id)
        };
        let numbered = |key: &str| numbers(&generation[key]);

        let other_eos = numbered("eos_token_id");
        let eos = named("eos_token").or_else(|| other_eos.first().copied());
        let bos = named("bos_token").or_else(|| numbered("bos_token_id").first().copied());
        let adds_bos = config["add_bos_token"]
            .as_bool()
            .unwrap_or_else(|| bos.is_some() && starts_with_special(file.post_processor.as_ref()));
        let unknown = named("unk_token");
        let padding = named("pad_token");
        let added = file.added_tokens.iter().map(|token| AddedToken {
            id: token.id,
            text: token.content.clone(),
            control: token.special || AddedToken::looks_like_markup(&token.content),
            strip_left: token.lstrip,
            strip_right: token.rstrip,
        });
        let added = added.collect();
        let chat_template = chat_template(folder, &config)?;
        Self::assemble(Parts {
            model,
            normalizer: file.normalizer,
            pre_tokenizer: file.pre_tokenizer,
            spelling,
            added,
            unused: Vec::new(),
            bos,
            eos,
            unknown,
            padding,
            adds_bos,
            other_eos,
            chat_template,
        })
    }
}

/// Parses the model without a detour over a generic value where it is a BPE: a large vocabulary is 10 MB of JSON.
fn parse_model(text: &str) -> Result<ModelWrapper, serde_json::Error> {
    #[derive(Deserialize)]
    struct Kind {
        r#type: Option<String>,
    }
    match serde_json::from_str::<Kind>(text)?.r#type.as_deref() {
        Some("BPE") => Ok(ModelWrapper::BPE(serde_json::from_str::<BPE>(text)?)),
        _ => serde_json::from_str(text),
    }
}

/// How the vocabulary spells bytes, told by its decoder or its pre-tokenizer.
fn spelling(file: &TokenizerFile<'_>) -> Option<Spelling> {
    let steps = [&file.decoder, &file.pre_tokenizer, &file.normalizer];
    let has = |kinds: &[&str]| steps.iter().any(|step| step.as_ref().is_some_and(|step| mentions(step, kinds)));
    if has(&["ByteLevel"]) {
        Some(Spelling::ByteLevel)
    } else if has(&["ByteFallback", "Metaspace", "Prepend", "Replace"]) {
        Some(Spelling::SentencePiece)
    } else {
        None
    }
}

/// Whether `step` is, or holds, a step of one of `kinds`.
fn mentions(step: &Value, kinds: &[&str]) -> bool {
    match step {
        Value::Object(fields) => {
            fields.get("type").and_then(Value::as_str).is_some_and(|kind| kinds.contains(&kind))
                || fields.values().any(|value| mentions(value, kinds))
        }
        Value::Array(values) => values.iter().any(|value| mentions(value, kinds)),
        _ => false,
    }
}

/// Whether the post-processor puts a special token in front of a single text.
fn starts_with_special(post_processor: Option<&Value>) -> bool {
    let Some(step) = post_processor else { return false };
    match step["type"].as_str() {
        Some("Sequence") => {
            step["processors"].as_array().into_iter().flatten().any(|step| starts_with_special(Some(step)))
        }
        Some("TemplateProcessing") => step["single"][0].get("SpecialToken").is_some(),
        _ => false,
    }
}

/// The text of a token that a configuration writes as a string or as an object.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

fn numbers(value: &Value) -> Vec<TokenId> {
    let number = |value: &Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
    match value {
        Value::Array(values) => values.iter().filter_map(number).collect(),
        value => number(value).into_iter().collect(),
    }
}

/// A JSON file of the folder; `null` where there is none.
fn read_json(folder: &Path, name: &str) -> Result<Value, TextError> {
    match read_text(folder, name)? {
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| TextError::malformed(folder.join(name).display().to_string(), error)),
        None => Ok(Value::Null),
    }
}

fn read_text(folder: &Path, name: &str) -> Result<Option<String>, TextError> {
    let path = folder.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Read { path: path.display().to_string(), source }),
    }
}

/// A file of its own, else the configuration's: one template, or several of which `default` is meant.
fn chat_template(folder: &Path, config: &Value) -> Result<Option<String>, TextError> {
    if let Some(template) = read_text(folder, "chat_template.jinja")? {
        return Ok(Some(template));
    }
    let named = |entry: &Value| entry["name"] == "default";
    Ok(match &config["chat_template"] {
        Value::String(template) => Some(template.clone()),
        Value::Array(list) => {
            list.iter().find(|entry| named(entry)).and_then(|entry| entry["template"].as_str()).map(str::to_owned)
        }
        _ => None,
    })
}
