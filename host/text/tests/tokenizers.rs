//! Both ways to load a tokenizer give the ids that Hugging Face's library gives, on cut-down real vocabularies.
//!
//! The fixtures are made by `fixtures/tokenizers.py`, which also says why a cut-down vocabulary is enough.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};
use sglhost_text::{Detokenizer, GgufVocabulary, Segment, Tokenizer};

const NAMES: [&str; 4] = ["smollm2", "llama-bpe", "qwen2", "llama-spm"];

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

/// GGUF metadata as the script writes it.
#[derive(Deserialize)]
struct Metadata {
    model: String,
    pre: Option<String>,
    tokens: Vec<String>,
    token_type: Vec<i32>,
    merges: Option<Vec<String>>,
    scores: Option<Vec<f32>>,
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    padding: Option<u32>,
    add_bos_token: Option<bool>,
    add_space_prefix: Option<bool>,
    chat_template: Option<String>,
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

fn json<T: DeserializeOwned>(name: &str, file: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(folder(name).join(file)).unwrap()).unwrap()
}

fn vocabulary(name: &str) -> GgufVocabulary {
    let data: Metadata = json(name, "gguf.json");
    GgufVocabulary {
        model: data.model,
        pre: data.pre,
        tokens: data.tokens,
        token_types: data.token_type,
        merges: data.merges.unwrap_or_default(),
        scores: data.scores.unwrap_or_default(),
        bos: data.bos,
        eos: data.eos,
        unknown: data.unknown,
        padding: data.padding,
        add_bos: data.add_bos_token,
        add_space_prefix: data.add_space_prefix,
        chat_template: data.chat_template,
        ..GgufVocabulary::default()
    }
}

/// The same tokenizer from both sources.
fn both(name: &str) -> [(&'static str, Arc<Tokenizer>); 2] {
    [
        ("GGUF", Arc::new(Tokenizer::from_gguf(vocabulary(name)).unwrap())),
        ("Hugging Face", Arc::new(Tokenizer::from_hugging_face(&folder(name)).unwrap())),
    ]
}

#[test]
fn ids_are_hugging_faces() {
    for name in NAMES {
        let cases: Vec<Case> = json(name, "ids.json");
        assert!(cases.len() >= 40);
        for (source, tokenizer) in both(name) {
            for Case { text, ids } in &cases {
                assert_eq!(&tokenizer.encode(&[Segment::markup(text)]), ids, "{name} from {source}: {text:?}");
            }
        }
    }
}

#[test]
fn both_sources_agree_on_everything_else() {
    for name in NAMES {
        let [(_, gguf), (_, files)] = both(name);
        assert_eq!(gguf.vocabulary(), files.vocabulary(), "{name}");
        for id in 0..gguf.vocabulary() as u32 + 1 {
            assert_eq!(gguf.token_bytes(id), files.token_bytes(id), "{name}: {id}");
            assert_eq!(gguf.is_special(id), files.is_special(id), "{name}: {id}");
        }
        assert_eq!(gguf.bos(), files.bos(), "{name}");
        assert_eq!(gguf.end_of_text(), files.end_of_text(), "{name}");
        assert_eq!(gguf.chat_template(), files.chat_template(), "{name}");
    }
}

#[test]
fn text_comes_back() {
    for name in NAMES {
        for (source, tokenizer) in both(name) {
            for Case { text, ids } in json::<Vec<Case>>(name, "ids.json") {
                // Qwen composes characters first; SmolLM2 has no token for some bytes, and the library leaves them out.
                let unlike = match name {
                    "qwen2" => text.contains('\u{301}'),
                    "smollm2" => text.contains('\u{4}'),
                    _ => false,
                };
                assert_eq!(tokenizer.decode(&ids) == text, !unlike, "{name} from {source}: {text:?}");
            }
        }
    }
}

#[test]
fn a_detokenizer_gives_the_same_text_in_whole_characters() {
    for name in NAMES {
        let [(_, tokenizer), _] = both(name);
        for Case { ids, .. } in json::<Vec<Case>>(name, "ids.json") {
            let mut detokenizer = Detokenizer::new(Arc::clone(&tokenizer));
            let pieces: Vec<String> = ids.iter().map(|&id| detokenizer.push(id)).collect();
            assert_eq!(pieces.concat(), tokenizer.decode(&ids), "{name}");
            assert!(detokenizer.pending().is_empty() && !pieces.concat().contains('\u{fffd}'), "{name}");
        }
    }
}

#[test]
fn plain_text_never_yields_control_tokens() {
    for name in NAMES {
        for (source, tokenizer) in both(name) {
            let specials: Vec<u32> =
                (0..tokenizer.vocabulary() as u32).filter(|&id| tokenizer.is_special(id)).collect();
            for &special in &specials {
                let spelling = tokenizer.decode(&[special]);
                for text in [spelling.clone(), format!("a{spelling}b"), format!(" {spelling}{spelling} \n{spelling}")] {
                    let ids = tokenizer.encode_plain(&text);
                    let forged = ids.iter().find(|&&id| tokenizer.is_special(id));
                    assert_eq!(forged, None, "{name} from {source}: {text:?}");
                    assert_eq!(tokenizer.decode(&ids), text, "{name} from {source}");
                }
                assert_eq!(
                    tokenizer.encode(&[Segment::markup(&spelling)]),
                    [special],
                    "{name} from {source}: {spelling}"
                );
            }
        }
    }
}

#[test]
fn segments_between_control_tokens_are_tokenized_jointly() {
    for name in NAMES {
        let [(_, tokenizer), _] = both(name);
        let text = "user\nWhat is 2 * 2?\n\nHello, world!";
        let whole = tokenizer.encode_plain(text);
        for border in (0..=text.len()).filter(|&border| text.is_char_boundary(border)) {
            let (left, right) = text.split_at(border);
            assert_eq!(tokenizer.encode(&[Segment::markup(left), Segment::plain(right)]), whole, "{name}: {left:?}");
        }
    }
}

#[test]
fn text_that_goes_on_gets_no_space_in_front() {
    // A SentencePiece vocabulary puts a space in front of a text and after control tokens, and nowhere else.
    let [(_, tokenizer), _] = both("llama-spm");
    let bytes = |ids: &[u32]| ids.iter().flat_map(|&id| tokenizer.token_bytes(id)).copied().collect::<Vec<u8>>();
    let check = |previous: Option<u32>, expect: &str| {
        let ids = tokenizer.encode_after(previous, &[Segment::plain("Hello")]);
        assert_eq!(bytes(&ids), expect.as_bytes(), "after {previous:?}");
        // The detokenizer takes out what was put in.
        let mut detokenizer = Detokenizer::after(Arc::clone(&tokenizer), previous);
        assert_eq!(ids.iter().map(|&id| detokenizer.push(id)).collect::<String>(), "Hello");
    };
    check(None, " Hello");
    check(tokenizer.bos(), " Hello");
    check(tokenizer.encode_plain("a").last().copied(), "Hello");
    for name in ["smollm2", "llama-bpe", "qwen2"] {
        let [(_, tokenizer), _] = both(name);
        assert_eq!(tokenizer.encode_after(Some(300), &[Segment::plain("Hello")]), tokenizer.encode_plain("Hello"));
    }
}

#[test]
fn what_the_files_say_is_known() {
    let [(_, smollm), _] = both("smollm2");
    assert_eq!(smollm.decode(smollm.end_of_text()), "<|im_end|>");
    assert_eq!(smollm.token_id("<|im_start|>"), smollm.bos());
    assert_eq!(smollm.token_id("the"), None);
    assert!(!smollm.adds_bos());
    assert!(smollm.chat_template().unwrap().contains("SmolLM"));
    let [(_, llama), (_, files)] = both("llama-spm");
    assert!(llama.adds_bos() && files.adds_bos());
    assert_eq!(llama.decode(llama.end_of_text()), "</s>");
    assert_eq!(llama.token_bytes(u32::MAX), b"");
}

#[test]
fn long_runs_are_tokenized_whole() {
    // Patterns with look-ahead run in a backtracking engine: a long run must neither end it early nor take for ever.
    for name in NAMES {
        let [(_, tokenizer), _] = both(name);
        for run in [" ", "\n", "=", "a", "1", "日", "\r\n", "a ", "<|im_end|>"] {
            let text = run.repeat(20_000) + "x";
            assert_eq!(tokenizer.decode(&tokenizer.encode_plain(&text)), text, "{name}: {run:?}");
        }
    }
}

#[test]
fn damaged_files_are_refused() {
    let check = |change: &dyn Fn(&mut GgufVocabulary), part: &str| {
        let mut vocabulary = vocabulary("smollm2");
        change(&mut vocabulary);
        let error = Tokenizer::from_gguf(vocabulary).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    check(&|vocabulary| vocabulary.pre = Some("viking".to_owned()), "\"viking\"");
    check(&|vocabulary| vocabulary.model = "rwkv".to_owned(), "\"rwkv\"");
    check(&|vocabulary| vocabulary.tokens.clear(), "tokenizer.ggml.tokens");
    check(&|vocabulary| vocabulary.eos = Some(1 << 20), "eos_token_id");
    check(&|vocabulary| vocabulary.merges.push("ab".to_owned()), "\"ab\"");
    check(&|vocabulary| vocabulary.merges.push("qq zz".to_owned()), "merges");
    check(&|vocabulary| vocabulary.token_types.truncate(3), "token_type");
    let error = Tokenizer::from_hugging_face(&folder("templates")).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
}
