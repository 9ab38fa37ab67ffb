//! Constraints that are context-free: JSON Schema and Lark, through the `llguidance` crate.
//!
//! Chosen for JSON Schema because it implements the most keywords and refuses the others by name, parses exactly
//! (Earley's algorithm, lexed by derivatives) and limits its own work; a mask costs it some 50 µs.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use llguidance::{
    ParserFactory, TokenParser,
    api::{ParserLimits, StopReason, TopLevelGrammar},
    earley::{CGrammar, SlicedBiasComputer},
    toktrie::{ApproximateTokEnv, InferenceCapabilities, Recognizer, TokEnv, TokRxInfo, TokTrie},
};
use sglhost_core::{Error, ErrorCode, TokenId, TokenMask, limits};

use crate::Tokenizer;

/// A vocabulary as `llguidance` wants it; built once for a tokenizer, for its first grammar.
pub(crate) struct Vocabulary {
    factory: ParserFactory,
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").finish_non_exhaustive()
    }
}

impl Vocabulary {
    pub(crate) fn new(tokenizer: &Tokenizer) -> Self {
        // A token without bytes is none that a grammar could ask for. No text has the byte that `llguidance` marks
        // control tokens with.
        let marks = |bytes: &[u8]| bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER);
        let mut words: Vec<Vec<u8>> = (0..tokenizer.vocabulary() as TokenId)
            .map(|token| (tokenizer.is_special(token), tokenizer.token_bytes(token)))
            .map(|(special, bytes)| if special || marks(bytes) { Vec::new() } else { bytes.to_vec() })
            .collect();
        let mut ends = tokenizer.end_of_text().to_vec();
        if ends.is_empty() {
            // There has to be one: it is no token of the model's, and falls out of every mask.
            ends.push(words.len() as TokenId);
            words.push(Vec::new());
        }
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, ends[0]), &words).with_eos_tokens(&ends);
        // Forced text is cut into tokens by `super::forced`: no better tokenizer is asked for.
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        // Sets of tokens that are known to fit inside JSON strings are not walked each time.
        let slices = SlicedBiasComputer::json_slices();
        let factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices);
        let mut factory = factory.expect("the slices are regular expressions of the crate's own");
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            max_items_in_row: limits::GRAMMAR_ROW_ITEMS_MAX,
            initial_lexer_fuel: limits::GRAMMAR_COMPILE_FUEL_MAX,
            step_lexer_fuel: limits::GRAMMAR_MASK_FUEL_MAX,
            step_max_items: limits::GRAMMAR_MASK_ITEMS_MAX,
            max_lexer_states: limits::GRAMMAR_LEXER_STATES_MAX,
            max_grammar_size: limits::GRAMMAR_SYMBOLS_MAX,
            precompute_large_lexemes: true,
            verbose_errors: false,
        };
        Self { factory }
    }
}

/// A grammar, and the parser in its first state.
#[derive(Clone)]
pub(super) struct ContextFree {
    /// With the first mask.
    start: Arc<ContextFreeState>,
    grammar_bytes: usize,
    /// Bytes of the lexer before any output.
    first_lexer_bytes: usize,
    /// Bytes of the lexer, which all outputs share, when a mask was last built.
    lexer_bytes: Arc<AtomicUsize>,
    /// A panic may have left the lexer half changed.
    broken: Arc<AtomicBool>,
}

impl fmt::Debug for ContextFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextFree").finish_non_exhaustive()
    }
}

impl ContextFree {
    /// Compiles a grammar. `explain` puts a compiler's complaint into the author's words.
    ///
    /// # Errors
    /// A grammar that is wrong, too large, or admits no text.
    pub(super) fn new(
        grammar: TopLevelGrammar,
        tokenizer: &Arc<Tokenizer>,
        explain: impl Fn(&str) -> Error,
    ) -> Result<Self, Error> {
        let parser = tokenizer.grammars().factory.create_parser(grammar);
        let mut parser = parser.map_err(|error| {
            failed_inside(&error).or_else(|| too_large(&error)).unwrap_or_else(|| explain(&message(&error)))
        })?;
        parser.start_without_prompt();
        let lexer_bytes = parser.parser.lexer_stats().num_bytes;
        let grammar_bytes = grammar_bytes(parser.parser.grammar());
        let shared_bytes = Arc::new(AtomicUsize::new(lexer_bytes));
        let broken = Arc::new(AtomicBool::new(false));
        let mut start = ContextFreeState {
            tokenizer: Arc::clone(tokenizer),
            parser,
            lexer_bytes: Arc::clone(&shared_bytes),
            broken: Arc::clone(&broken),
            mask: None,
            failure: None,
        };
        // The first mask is the slowest, and shows a grammar that is too ambiguous, or admits nothing.
        if start.mask().is_empty() {
            return Err(start.failure.unwrap_or_else(|| {
                Error::invalid("the constraint matches no text that the model's vocabulary can spell")
            }));
        }
        Ok(Self {
            start: Arc::new(start),
            grammar_bytes,
            first_lexer_bytes: lexer_bytes,
            lexer_bytes: shared_bytes,
            broken,
        })
    }

    /// Bytes that it takes before any output.
    pub(super) fn compiled_bytes(&self) -> usize {
        self.grammar_bytes + self.first_lexer_bytes
    }

    /// Bytes that it takes with what its lexer has learnt.
    pub(super) fn bytes(&self) -> usize {
        self.grammar_bytes + self.lexer_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) fn start(&self) -> ContextFreeState {
        (*self.start).clone()
    }
}

/// Where an output is within its grammar.
#[derive(Clone)]
pub(super) struct ContextFreeState {
    tokenizer: Arc<Tokenizer>,
    parser: TokenParser,
    lexer_bytes: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
    /// The mask of this place, once it is built.
    mask: Option<Arc<TokenMask>>,
    failure: Option<Error>,
}

impl fmt::Debug for ContextFreeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextFreeState").field("failure", &self.failure).finish_non_exhaustive()
    }
}

impl ContextFreeState {
    pub(super) fn mask(&mut self) -> Arc<TokenMask> {
        if let Some(mask) = &self.mask {
            return Arc::clone(mask);
        }
        let size = self.tokenizer.vocabulary();
        let mask = if self.is_finished() {
            let mut mask = TokenMask::none(size);
            self.tokenizer.end_of_text().iter().for_each(|&token| mask.allow(token));
            mask
        } else {
            let lexer_bytes = Arc::clone(&self.lexer_bytes);
            let mask = self.guarded(|parser| {
                let mask = parser.compute_mask();
                lexer_bytes.store(parser.parser.lexer_stats().num_bytes, Ordering::Relaxed);
                mask
            });
            mask.map_or_else(|| TokenMask::none(size), |mask| TokenMask::from_words(mask.as_slice(), size))
        };
        Arc::clone(self.mask.insert(Arc::new(mask)))
    }

    pub(super) fn known_mask(&self) -> Option<Arc<TokenMask>> {
        self.mask.clone()
    }

    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    pub(super) fn advance(&mut self, token: TokenId) -> bool {
        if self.failure.is_some() || self.parser.stopped() {
            return false;
        }
        let advanced = self.guarded(|parser| {
            let valid = parser.validate_token(token)?;
            if valid {
                parser.consume_token(token)?;
                parser.check_stop()?;
            }
            Ok(valid)
        });
        match advanced {
            Some(true) => self.mask = None,
            // The lexer stopped at its limit, which no error tells of.
            Some(false) if self.mask.as_ref().is_some_and(|mask| mask.allows(token)) => {
                self.failure = Some(too_ambiguous());
            }
            _ => {}
        }
        advanced == Some(true)
    }

    pub(super) fn is_accepting(&mut self) -> bool {
        self.failure.is_none()
            && (self.parser.stopped() || self.guarded(|parser| Ok(parser.is_accepting())) == Some(true))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.failure.is_none() && self.parser.stopped()
    }

    /// The bytes that must come next, and which may follow them.
    pub(super) fn forced(&mut self) -> (Vec<u8>, [bool; 256]) {
        if self.failure.is_some() || self.parser.stopped() {
            return (Vec::new(), [false; 256]);
        }
        let forced = self.guarded(|parser| {
            let mut bytes = parser.force_bytes();
            let mut next = [false; 256];
            if bytes.len() > limits::FORCED_BYTES_MAX {
                next[usize::from(bytes[limits::FORCED_BYTES_MAX])] = true;
                bytes.truncate(limits::FORCED_BYTES_MAX);
            } else if !bytes.is_empty() {
                parser.parser.with_recognizer(|recognizer| {
                    recognizer.trie_started("forced");
                    (0..=u8::MAX).for_each(|byte| next[usize::from(byte)] = recognizer.byte_allowed(byte));
                    recognizer.trie_finished();
                });
            }
            Ok((bytes, next))
        });
        forced.unwrap_or((Vec::new(), [false; 256]))
    }

    /// Has the parser do something. What it refuses, because it ran into a limit or into itself, is this state's failure.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut TokenParser) -> anyhow::Result<T>) -> Option<T> {
        if self.failure.is_some() {
            return None;
        }
        let parser = &mut self.parser;
        match catch_unwind(AssertUnwindSafe(|| act(parser))) {
            Ok(Ok(done)) => Some(done),
            Ok(Err(error)) => {
                self.failure = Some(match parser.stop_reason() {
                    StopReason::LexerTooComplex | StopReason::ParserTooComplex => too_ambiguous(),
                    StopReason::NoExtensionBias => Error::invalid(
                        "the constraint has come to a place where the model's vocabulary cannot go on; loosen it",
                    ),
                    _ => failed_inside(&error)
                        .unwrap_or_else(|| Error::invalid(format!("the constraint cannot go on: {}", message(&error)))),
                });
                None
            }
            Err(_) => {
                self.broken.store(true, Ordering::Relaxed);
                self.failure = Some(Error::unavailable("the constraint failed inside the host"));
                None
            }
        }
    }
}

/// About how many bytes a grammar takes: its symbols with their rules.
fn grammar_bytes(grammar: &CGrammar) -> usize {
    /// A symbol of a rule: its index, its parameter, and the way back to the rule.
    const ELEMENT_BYTES: usize = 32;
    let (mut seen, mut open, mut bytes) = (vec![false; usize::from(u16::MAX) + 1], vec![grammar.start()], 0);
    while let Some(index) = open.pop() {
        if std::mem::replace(&mut seen[index.as_index()], true) {
            continue;
        }
        let symbol = grammar.sym_data(index);
        bytes += size_of_val(symbol) + symbol.name.len();
        for &rule in &symbol.rules {
            let (elements, ..) = grammar.rule_rhs(rule);
            bytes += (elements.len() + 1) * ELEMENT_BYTES;
            open.extend(elements);
        }
    }
    bytes
}

fn too_ambiguous() -> Error {
    Error::limit(format!(
        "the constraint is too complex: a mask takes more than {} parser items or {} lexer steps; use fewer alternatives \
         that begin alike, and smaller repetitions",
        limits::GRAMMAR_MASK_ITEMS_MAX,
        limits::GRAMMAR_MASK_FUEL_MAX
    ))
}

/// What a compiler complains of, without the state it was in, and not all of a line that it shows.
fn message(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let text = text.split("\n<").next().unwrap_or_default().trim();
    match text.char_indices().nth(MESSAGE_CHARACTERS_MAX) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

const MESSAGE_CHARACTERS_MAX: usize = 1000;

/// Refuses text that is longer than its limit, which is named, or has more references and definitions than a compiler may
/// have to follow one after another.
pub(super) fn check_text(text: &str, what: &str, (max, name): (usize, &str)) -> Result<(), Error> {
    if text.len() > max {
        return Err(Error::limit(format!("{what}: {} bytes; the limit is {max} ({name})", text.len())));
    }
    let references = text.matches("\"$ref\"").count();
    // A definition of Lark's is a name and a colon; in JSON there is a quotation mark between them.
    let names = |(at, _): &(usize, &str)| {
        let before = text[..*at].trim_end().bytes().next_back();
        before.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_]}".contains(&byte))
    };
    let definitions = text.match_indices(':').filter(names).count();
    let max = limits::GRAMMAR_DEFINITIONS_MAX;
    if references.max(definitions) > max {
        return Err(Error::limit(format!(
            "{what}: {references} references and {definitions} definitions; the limit is {max} of each (GRAMMAR_DEFINITIONS_MAX)"
        )));
    }
    Ok(())
}

/// Where the compiler fails and not the grammar: `llguidance` makes an error of its own panics.
fn failed_inside(error: &anyhow::Error) -> Option<Error> {
    error.chain().any(|cause| cause.to_string().starts_with("panic: ")).then(inside)
}

fn inside() -> Error {
    Error::unavailable("the constraint failed inside the host")
}

/// How the crates begin a complaint about size.
const SIZES: [&str; 16] = [
    "schema too large",
    "Schema intersection stack level exceeded",
    "Unable to determine if regex is empty",
    "can't determine if patternProperty regexes",
    "initial lexer configuration (grammar) too big",
    "grammar size (number of symbols) too big",
    "too many expressions constructed",
    "too many states",
    "fuel exhausted when checking relevance",
    "maximum relevance check fuel",
    "lexer precomputation failed",
    "Too many items",
    "DNF too large, fuel exhausted",
    "Token range end too large",
    // `regex-syntax`, of groups and of captures.
    "exceed the maximum number of",
    "exceeded the maximum number of",
];

/// Whether the complaint is about size, in words of our own.
fn too_large(error: &anyhow::Error) -> Option<Error> {
    // Elsewhere in a complaint is what it quotes of the author's, of which something may be called `limit`.
    let is_size = error.chain().any(|cause| {
        let text = cause.to_string();
        // Where in a Lark grammar.
        let text = text.strip_prefix("at ").and_then(|text| Some(text.split_once("): ")?.1)).unwrap_or(&text);
        let text = text.strip_prefix("failed to compile JSON schema: ").unwrap_or(text);
        let begins = |text: &str| {
            let number =
                text.strip_prefix("number ").map(|text| text.trim_start_matches(|digit: char| digit.is_ascii_digit()));
            number.is_some_and(|text| text.starts_with(" is too large"))
                || SIZES.iter().any(|size| text.starts_with(size))
        };
        // What is wrong with an expression comes after it.
        let is_of_expression = text.starts_with("invalid regex") || text.starts_with("regex parse error");
        begins(text) || (is_of_expression && text.split("error: ").any(begins))
    });
    is_size.then(|| {
        Error::new(
            ErrorCode::LimitExceeded,
            format!(
                "the constraint's grammar is too large to compile within {} lexer steps, {} symbols and {} lexer states; \
                 use fewer alternatives and smaller repetitions ({})",
                limits::GRAMMAR_COMPILE_FUEL_MAX,
                limits::GRAMMAR_SYMBOLS_MAX,
                limits::GRAMMAR_LEXER_STATES_MAX,
                message(error)
            ),
        )
    })
}
