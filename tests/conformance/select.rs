//! `select` is exact: its tokens, scores and choice are those of the definition, computed here on their own from the
//! model's full distributions.
//!
//! The definition: the context's text and each choice are tokenized jointly; what all of that has in common with the
//! context alone is the prompt; a choice's log-probabilities are those of its tokens after the prompt. What a method
//! makes of them is SGLang's (`lang/choices.py`), written here after its matrix of log-probabilities.

use std::sync::Arc;

use sglhost_core::{ChoicesMethod, limits::EngineLimits};
use sglhost_engine::{Context, Continuations, Engine, Model as ServedModel, Work};
use sglhost_text::{Segment, Tokenizer};

use crate::{
    compute,
    model::{self, Model, Sequence},
    serving::{finish, start, submit, try_submit},
};

/// Between scores in f32 and in f64, in nats.
const ERROR_MAX: f64 = 1e-4;

const METHODS: [ChoicesMethod; 3] = [
    ChoicesMethod::TokenLengthNormalized,
    ChoicesMethod::GreedyTokenSelection,
    ChoicesMethod::UnconditionalLikelihoodNormalized,
];

/// A step towards a context.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Plain text.
    Text(&'static str),
    /// Text with control tokens.
    Markup(&'static str),
    /// Text a token a character, as sampled tokens may fall: settled, and never tokenized anew.
    Sampled(&'static str),
    /// A whole turn.
    Turn(&'static str, &'static str),
    /// Opens the assistant's turn.
    Assistant,
    /// Goes on on a fork.
    Fork,
}

use Part::{Assistant, Fork, Markup, Sampled, Text, Turn};

type Case = (&'static [Part], &'static [&'static str]);

const TOOLS: [Part; 3] =
    [Turn("user", "What is 2 * 2?"), Assistant, Text("To answer this question: What is 2 * 2?. I need to use a ")];
const HOUSES: [&str; 4] = ["Gryffindor", "Slytherin", "Ravenclaw", "Hufflepuff"];
const CAPITAL: [Part; 3] = [Turn("user", "What is the capital of France?"), Assistant, Text("The answer is ")];

const CASES: &[Case] = &[
    // One token and many, choices of one length and of several.
    (&[Text("The capital of France is")], &[" Paris", " London", " Berlin"]),
    (&[Text("The capital of France is")], &[" Paris", " the city of London in England", " Rome"]),
    (&[Text("The capital of Japan is")], &[" Tokyo", " Kyoto", " Osaka", " Sapporo", " Nagoya"]),
    (&[Text("Two plus two is")], &[" four", " five", " 4", " 22"]),
    (&[Text("Is the sky blue? Answer:")], &[" yes", " no"]),
    (&[Text("Is the sky green? Answer:")], &[" yes", " no", " maybe", " I do not know"]),
    (&[Text("Is the sky blue? Answer:")], &[" Yes, it is.", " No, it is not."]),
    (&[Text("The opposite of hot is")], &[" cold"]),
    (&[Text("A cat is")], &[" an animal", " a plant", " a mineral", " a number"]),
    (&[Text("Roses are")], &[" red", " blue", " red, violets are blue, sugar is sweet and so are you"]),
    // A long word of many tokens against short ones: its last tokens are nearly certain (the long-token bias).
    (&[Text("She went to Paris and then to")], &[" Antidisestablishmentarianism", " Rome"]),
    (&[Text("The wizard's school is called")], &[" Hogwarts", " Oxford", " the University of Cambridge"]),
    (&[Text("My favourite lake is")], &[" Chargoggagogg", " Lake Geneva", " Como"]),
    // Shared beginnings, one choice the beginning of another, the same twice.
    (&[Text("I live in")], &[" New York", " New Jersey", " New Orleans"]),
    (&[Text("I live in")], &[" New", " New York", " New York City"]),
    (&[Text("I live in")], &[" New York City", " New York", " New"]),
    (&[Text("He counted: one, two,")], &[" three", " three, four", " three, four, five"]),
    (&[Text("The answer is")], &[" A", " B", " A", " B"]),
    (&[Text("She said")], &[" hello", " hello there", " help", " hell"]),
    (&[Text("def add(a, b):\n    return")], &[" a + b", " a - b", " a", " a + b + 1"]),
    (&[Text("It was the best of")], &[" times, it was the worst of times", " times, it was the best of times"]),
    // Where the context ends in a space, it belongs to the choice's first token.
    (&[Text("The capital of France is ")], &["Paris", "London", "Berlin"]),
    (&[Text("The capital of France is ")], &["Paris", "the city of London", "3"]),
    (&[Text("x = ")], &["1", "10", "100", "y"]),
    (&[Text("Name: ")], &["Alice", " Alice", "alice"]),
    (&[Text("Two spaces  ")], &["here", " here", "  here"]),
    (&[Text("A list:\n")], &["- one", "1. one", "\n", "* one"]),
    (&[Text("A list:\n\n")], &["- one", "\n- one"]),
    // Where it ends inside a word, that word is tokenized anew with each choice.
    (&[Text("The quick brown fox jump")], &["s", "ed", "ing"]),
    (&[Text("An elep")], &["hant", "hants", "isode"]),
    (&[Text("She is un")], &["happy", "believable", "til", "der"]),
    (&[Text("http")], &["s://example.org", "://example.org"]),
    (&[Text("H")], &["ello", "i", "owever"]),
    (&[Text("In 19")], &["84", "4", "39"]),
    (&[Text("def ma")], &["in():", "x(a, b):"]),
    // Hardly any context.
    (&[Text("A")], &[" b", " c"]),
    (&[Text(" ")], &["the", "a"]),
    (&[Text("\n")], &["Chapter", "\n", "The"]),
    (&[Text(".")], &[" The", "com", ".."]),
    (&[Fork, Text("The")], &[" cat", " dog"]),
    // Other scripts, and characters of several tokens.
    (&[Text("日本の首都は")], &["東京", "京都", "大阪です"]),
    (&[Text("„Guten Morgen“ heißt auf Englisch ")], &["“good morning”", "“good night”", "„straße“"]),
    (&[Text("I am happy 🙂 and you are")], &[" sad 🙁", " happy 🙂", " 🚂🌸"]),
    (&[Text("La réponse est")], &[" oui", " non", " peut-être", " éventuellement"]),
    (&[Text("Столица России —")], &[" Москва", " Париж"]),
    (&[Text("e\u{301}")], &["tude", "\u{301}", "cole"]),
    // Conversations; the template's own system message comes first, and control tokens stand once.
    (&TOOLS, &["calculator", "search engine"]),
    (&[Turn("system", "You sort pupils."), Turn("user", "Harry Potter"), Assistant], &HOUSES),
    (&[Turn("user", "Draco Malfoy's house?"), Assistant, Text("It is ")], &HOUSES),
    (&CAPITAL, &["Paris", "London", "Paris, of course", "The capital of France is Paris."]),
    (&[Turn("user", "Say yes."), Assistant], &["yes", "Yes", "Yes.", "no"]),
    (
        &[Turn("user", "Hi!"), Turn("assistant", "Hello!"), Turn("user", "Bye."), Assistant],
        &["Bye", "Hello", "Goodbye!"],
    ),
    (&[Markup("<|im_start|>user\nIs 7 prime?<|im_end|>\n<|im_start|>assistant\n")], &["Yes", "No", "7"]),
    (&[Turn("user", "<|im_end|> is a token."), Assistant], &["Yes", "No", "<|im_end|>"]),
    // After sampled tokens, which stay as they fell.
    (&[Text("The capital of"), Sampled(" France is")], &[" Paris", " London"]),
    (&[Text("The capital of"), Sampled(" Fra")], &["nce", "nkfurt", "me"]),
    (&[Text("One,"), Sampled(" two,"), Text(" three, ")], &["four", "five", "fo"]),
    (&[Turn("user", "A or B?"), Assistant, Sampled("I say"), Text(": "), Fork], &["A", "B", "neither"]),
    (&[Sampled("abc")], &["def", "xyz", "d"]),
];

/// The context, as a program makes it.
fn context(model: &Arc<ServedModel>, parts: &[Part]) -> Context {
    let mut context = Context::new(Arc::clone(model));
    for part in parts {
        match *part {
            Text(text) => context.append(text),
            Markup(text) => context.append_markup(text),
            Sampled(text) => context.append_tokens(&characters(&model.tokenizer, text)).unwrap(),
            Turn(role, text) => {
                context.begin_role(role).unwrap();
                context.append(text);
                context.end_role().unwrap();
            }
            Assistant => context.begin_role("assistant").unwrap(),
            Fork => context = context.clone(),
        }
    }
    context
}

/// A token, or several, a character.
fn characters(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    text.chars().flat_map(|character| tokenizer.encode_plain(&character.to_string())).collect()
}

const DEFAULT_SYSTEM: &str = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

/// All tokens of the context with `more` text at its end, from the template as people read it.
fn tokens(tokenizer: &Tokenizer, parts: &[Part], more: &str) -> Vec<u32> {
    let (mut settled, mut pending): (Vec<u32>, Vec<Segment>) = (Vec::new(), Vec::new());
    let mut first_turn = true;
    for part in parts {
        match *part {
            Text(text) => pending.push(Segment::plain(text)),
            Markup(text) => pending.push(Segment::markup(text)),
            Sampled(text) => {
                settled.extend(tokenizer.encode_after(settled.last().copied(), &pending));
                settled.extend(characters(tokenizer, text));
                pending.clear();
            }
            Turn(role, text) => {
                if first_turn && role != "system" {
                    pending.push(Segment::markup(format!("<|im_start|>system\n{DEFAULT_SYSTEM}<|im_end|>\n")));
                }
                first_turn = false;
                pending.push(Segment::markup(format!("<|im_start|>{role}\n")));
                pending.push(Segment::plain(text));
                pending.push(Segment::markup("<|im_end|>\n"));
            }
            Assistant => pending.push(Segment::markup("<|im_start|>assistant\n")),
            Fork => {}
        }
    }
    pending.push(Segment::plain(more));
    settled.extend(tokenizer.encode_after(settled.last().copied(), &pending));
    settled
}

/// The prompt and the choices' tokens, by the definition.
fn continuations(tokenizer: &Tokenizer, (parts, choices): &Case) -> Continuations {
    let alone = tokens(tokenizer, parts, "");
    let whole: Vec<Vec<u32>> = choices.iter().map(|choice| tokens(tokenizer, parts, choice)).collect();
    let common = (0..alone.len()).take_while(|&at| whole.iter().all(|tokens| tokens.get(at) == Some(&alone[at])));
    match common.count() {
        // Nothing would be left to condition on: context and choices are tokenized apart.
        0 => Continuations {
            prompt: alone.into(),
            tokens: choices.iter().map(|choice| tokenizer.encode_plain(choice)).collect(),
        },
        common => Continuations {
            prompt: alone[..common].into(),
            tokens: whole.iter().map(|tokens| tokens[common..].to_vec()).collect(),
        },
    }
}

/// The logarithm of each token's probability: of `choices[i]` after `prompt`.
fn logprobs(model: &mut Model, prompt: &[u32], choices: &[Vec<u32>]) -> Vec<Vec<f64>> {
    let vocabulary = model.vocabulary();
    let mut sequence = Sequence::default();
    let before = model.extend(&mut sequence, prompt);
    let last = &before[before.len() - vocabulary..];
    choices
        .iter()
        .map(|choice| [vec![log_softmax(last, choice[0])], inner_logprobs(model, prompt, choice)].concat())
        .collect()
}

/// The logarithm of the probability of each token of `choice` but its first, after `prompt`, which may be empty.
fn inner_logprobs(model: &mut Model, prompt: &[u32], choice: &[u32]) -> Vec<f64> {
    let vocabulary = model.vocabulary();
    let mut sequence = Sequence::default();
    let logits = model.extend(&mut sequence, &[prompt, choice].concat());
    let rows = logits.chunks_exact(vocabulary).skip(prompt.len());
    rows.zip(&choice[1..]).map(|(logits, &token)| log_softmax(logits, token)).collect()
}

fn log_softmax(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(max)).exp()).sum();
    f64::from(logits[token as usize]) - f64::from(max) - sum.ln()
}

fn mean(row: &[f64]) -> f64 {
    row.iter().sum::<f64>() / row.len() as f64
}

/// The first of the highest.
fn argmax(scores: &[f64]) -> usize {
    (0..scores.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap()
}

/// What a method takes, with what it compares. The unconditional first terms are 0.
fn choose(method: ChoicesMethod, conditional: &[Vec<f64>], unconditional: &[Vec<f64>]) -> (usize, Vec<f64>) {
    let means: Vec<f64> = conditional.iter().map(|row| mean(row)).collect();
    match method {
        ChoicesMethod::TokenLengthNormalized => (argmax(&means), means),
        ChoicesMethod::GreedyTokenSelection => {
            let columns = conditional.iter().map(Vec::len).max().unwrap();
            // A row that has ended goes on with its mean.
            let matrix: Vec<Vec<f64>> = conditional
                .iter()
                .zip(&means)
                .map(|(row, &mean)| row.iter().copied().chain(std::iter::repeat(mean)).take(columns).collect())
                .collect();
            let mut remaining: Vec<usize> = (0..matrix.len()).collect();
            (0..columns).for_each(|column| {
                let max = remaining.iter().map(|&row| matrix[row][column]).fold(f64::NEG_INFINITY, f64::max);
                remaining.retain(|&row| matrix[row][column] == max);
            });
            (remaining[0], means)
        }
        ChoicesMethod::UnconditionalLikelihoodNormalized => {
            let difference = |(row, base): (&Vec<f64>, &Vec<f64>)| {
                mean(&row.iter().zip(base).map(|(conditional, base)| conditional - base).collect::<Vec<_>>())
            };
            let scores: Vec<f64> = conditional.iter().zip(unconditional).map(difference).collect();
            (argmax(&scores), scores)
        }
    }
}

/// What the engine answered to a case, by method.
struct Answered {
    continuations: Continuations,
    outcomes: Vec<(usize, Vec<f32>)>,
}

fn answer_all() -> (Arc<ServedModel>, Vec<Answered>) {
    let engine = start(2048, EngineLimits::default());
    let model = Arc::clone(&engine.models()[0]);
    let answers = CASES.iter().map(|(parts, choices)| {
        let context = context(&model, parts);
        let choices: Vec<String> = choices.iter().map(|&choice| choice.to_owned()).collect();
        let continuations = context.choices(&choices).unwrap();
        // All at once: a select is exact beside others, too.
        let calls = METHODS.map(|method| {
            let choices = continuations.tokens.clone();
            submit(&engine, "local", &continuations.prompt, Work::Select { choices, method })
        });
        let outcomes = calls.map(|call| {
            let outcome = finish(call);
            (outcome.choice.unwrap(), outcome.scores)
        });
        Answered { continuations, outcomes: outcomes.into() }
    });
    let answers = answers.collect();
    (model, answers)
}

#[test]
fn select_is_what_the_definition_says() {
    let _turn = compute::turn();
    assert!(CASES.len() >= 50);
    let (served, answers) = answer_all();
    let tokenizer = &served.tokenizer;
    assert!(!tokenizer.adds_bos(), "the unconditional terms below start from nothing");
    let mut model = model::served();
    let (mut largest, mut disagreements, mut boundaries) = (0_f64, 0, 0);
    for (case, answered) in CASES.iter().zip(&answers) {
        let expect = continuations(tokenizer, case);
        assert_eq!(answered.continuations, expect, "{case:?}");
        boundaries += usize::from(expect.prompt.len() < tokens(tokenizer, case.0, "").len());
        let conditional = logprobs(&mut model, &expect.prompt, &expect.tokens);
        let unconditional: Vec<Vec<f64>> =
            expect.tokens.iter().map(|choice| [vec![0.0], inner_logprobs(&mut model, &[], choice)].concat()).collect();
        for (method, (choice, scores)) in METHODS.into_iter().zip(&answered.outcomes) {
            let (expect, expected) = choose(method, &conditional, &unconditional);
            assert_eq!(scores.len(), expected.len(), "{case:?}");
            for (score, expected) in scores.iter().zip(&expected) {
                let error = (f64::from(*score) - expected).abs();
                assert!(error <= ERROR_MAX, "{case:?} by {method:?}: {scores:?}, expected {expected:?}");
                largest = largest.max(error);
            }
            assert_eq!(*choice, expect, "{case:?} by {method:?}: {scores:?}, expected {expected:?}");
        }
        let choices: Vec<usize> = answered.outcomes.iter().map(|(choice, _)| *choice).collect();
        disagreements += usize::from(choices.iter().any(|choice| *choice != choices[0]));
    }
    // The methods are told apart, and tokens do merge across the end of the context.
    assert!(disagreements >= 5 && boundaries >= 10, "{disagreements} disagreements, {boundaries} boundaries");
    println!(
        "{} cases, {disagreements} on which the methods disagree, {boundaries} that merge with the context; largest \
         error {largest:.1e}",
        CASES.len()
    );
}

/// What a context cannot be made of is an error, and no crash.
#[test]
fn an_empty_context_or_choice_is_refused() {
    let _turn = compute::turn();
    let engine = start(64, EngineLimits::default());
    let model = &engine.models()[0];
    let check = |text: &str, choices: &[&str], expect: &str| {
        let mut context = Context::new(Arc::clone(model)).clone();
        context.append(text);
        let choices: Vec<String> = choices.iter().map(|&choice| choice.to_owned()).collect();
        let error = context.choices(&choices).and_then(|found| {
            let work = Work::Select { choices: found.tokens, method: ChoicesMethod::default() };
            try_submit(&engine, "local", &found.prompt, work)
        });
        let message = error.map(|_| ()).map_err(|error| error.message);
        assert_eq!(message, Err(expect.to_owned()), "{text:?} {choices:?}");
    };
    check("", &["a", "b"], "the context is empty; append some text first");
    check("a", &[], "a select needs at least one choice");
    check("a", &["b", ""], "choice 1 is empty");
}
