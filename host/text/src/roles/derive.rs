//! Finds out what markup a chat template puts around each turn, by rendering small conversations.
//!
//! Every message's text is a sentinel; what a rendering holds between two sentinels is what the template writes between
//! two turns. A gap is the end of one turn and the beginning of the next; where the border lies is told by renderings
//! that end after the first.

use std::collections::BTreeMap;

use super::{
    RoleMarkup,
    template::{Message, Template},
};
use crate::TextError;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Derived {
    /// By role, then by the role before it (none: the conversation's start).
    pub openings: BTreeMap<String, BTreeMap<Option<String>, RoleMarkup>>,
    /// Whether the template writes a begin-of-text token.
    pub starts_with_bos: bool,
}

pub(super) const SYSTEM: &str = "system";
pub(super) const USER: &str = "user";
pub(super) const ASSISTANT: &str = "assistant";
pub(super) const TOOL: &str = "tool";
/// In the order in which a conversation brings them.
pub(super) const ROLES: [&str; 4] = [SYSTEM, USER, ASSISTANT, TOOL];

/// The role whose turn a role's own turn ordinarily follows.
pub(super) fn usual_previous(role: &str) -> Option<&'static str> {
    match role {
        SYSTEM => None,
        ASSISTANT => Some(USER),
        _ => Some(ASSISTANT),
    }
}

/// The shortest ordinary conversation that ends with a turn of `role`.
fn history(role: Option<&str>) -> &'static [&'static str] {
    match role {
        None => &[],
        Some(SYSTEM) => &[SYSTEM],
        Some(USER) => &[USER],
        Some(ASSISTANT) => &[USER, ASSISTANT],
        Some(_) => &[USER, ASSISTANT, TOOL],
    }
}

struct Probe<'a> {
    template: &'a Template<'a>,
    bos: Bos<'a>,
    starts_with_bos: bool,
}

/// The begin-of-text token of the model.
#[derive(Clone, Copy)]
pub(super) struct Bos<'a> {
    /// How it is spelled; empty if there is none.
    pub text: &'a str,
    /// Whether the tokenizer puts it in front of every text. Then a template that spells it out, rather than naming the
    /// variable, means that one.
    pub added: bool,
}

/// What the template sees as the begin-of-text token: unlike the token itself (SmolLM2's is also the mark that opens
/// each turn) it cannot be mistaken for anything else.
pub(super) const BOS: &str = "\u{1}bos\u{1}";

/// A rendering, cut at its sentinels: one piece more than there are messages.
type Gaps = Vec<String>;

impl Probe<'_> {
    /// Renders turns of `roles`. The error says what the template did, as the end of a sentence.
    fn render(&mut self, roles: &[&str], generation: bool) -> Result<Gaps, String> {
        // A quote, a line end and both cases: a template that escapes or changes text does not pass for one that copies.
        let contents: Vec<String> = (0..roles.len()).map(|index| format!("Qa{index}\"\nZb{index}")).collect();
        let messages: Vec<Message<'_>> = roles
            .iter()
            .zip(&contents)
            .map(|(&role, content)| Message {
                role,
                content,
                // Some templates insist on nine letters and digits.
                tool_call: (role == TOOL).then_some(("lookup", "call00000")),
            })
            .collect();
        let text = self.template.render(&messages, generation).map_err(|error| {
            let place = error.line().map_or(String::new(), |line| format!(" (line {line})"));
            format!("fails{place}: {}", error.detail().map_or_else(|| error.to_string(), str::to_owned))
        })?;
        let spelled = if self.bos.added { self.bos.text } else { "" };
        let stripped = text.strip_prefix(BOS).or_else(|| text.strip_prefix(spelled).filter(|_| !spelled.is_empty()));
        self.starts_with_bos |= stripped.is_some();
        let text = stripped.unwrap_or(&text).replace(BOS, self.bos.text);
        let mut rest = text.as_str();
        let mut gaps = Vec::new();
        for (content, role) in contents.iter().zip(roles) {
            let (gap, after) = rest
                .split_once(content.as_str())
                .ok_or_else(|| format!("does not show the {role}'s text as it is, in its place"))?;
            gaps.push(gap.to_owned());
            rest = after;
        }
        gaps.push(rest.to_owned());
        Ok(gaps)
    }

    /// The last gap of a rendering.
    fn tail(&mut self, roles: &[&str], generation: bool) -> Option<String> {
        self.render(roles, generation).ok()?.pop()
    }

    /// The gap before the last of `roles`, when `followed` by more turns; without them where the template refuses.
    fn gap_before_last(&mut self, roles: &[&str], followed: &[&str]) -> Option<String> {
        let long: Vec<&str> = roles.iter().chain(followed).copied().collect();
        let gaps = self.render(&long, false).or_else(|_| self.render(roles, false)).ok()?;
        gaps.into_iter().nth(roles.len() - 1)
    }
}

/// Derives all markup of a template.
pub(super) fn derive(template: &Template<'_>, bos: Bos<'_>) -> Result<Derived, TextError> {
    let mut probe = Probe { template, bos, starts_with_bos: false };
    let first = probe.render(&[USER], false).map_err(TextError::template)?.swap_remove(0);
    probe.render(&[USER, ASSISTANT, USER], false).map_err(TextError::template)?;
    let mut suffixes: BTreeMap<&str, String> = BTreeMap::new();
    for role in ROLES {
        if let Some(suffix) = suffix(&mut probe, role, &first) {
            suffixes.insert(role, suffix);
        }
    }

    let mut openings: BTreeMap<String, BTreeMap<Option<String>, RoleMarkup>> = BTreeMap::new();
    for (&role, suffix) in &suffixes {
        let by_previous = openings.entry(role.to_owned()).or_default();
        for previous in std::iter::once(None).chain(suffixes.keys().map(|&role| Some(role))) {
            let before = previous.map_or("", |previous| suffixes[previous].as_str());
            if let Some(mut markup) = opening(&mut probe, role, previous, before) {
                markup.suffix.clone_from(suffix);
                by_previous.insert(previous.map(str::to_owned), markup);
            }
        }
    }
    Ok(Derived { openings, starts_with_bos: probe.starts_with_bos })
}

/// How a turn of `role` begins after one of `previous`, whose end is `before`.
fn opening(probe: &mut Probe<'_>, role: &str, previous: Option<&str>, before: &str) -> Option<RoleMarkup> {
    let history = history(previous);
    let turns: Vec<&str> = history.iter().copied().chain([role]).collect();
    // What a template writes about the last turn may differ (Qwen3 shows where its thoughts would be): all turns but
    // the user's are looked at from later on.
    let followed: &[&str] = if role == USER { &[] } else { &[USER] };
    let gap = probe.gap_before_last(&turns, followed)?;
    let text = gap.strip_prefix(before)?;
    if role != ASSISTANT || history.is_empty() {
        return Some(RoleMarkup { prefix: text.to_owned(), ..RoleMarkup::default() });
    }
    let generation = probe.tail(history, true);
    let generation = generation.as_deref().and_then(|gap| gap.strip_prefix(before)).unwrap_or(text);
    let prefix = common_prefix(text, generation);
    Some(RoleMarkup {
        prefix: prefix.to_owned(),
        before_text: text[prefix.len()..].to_owned(),
        before_generation: generation[prefix.len()..].to_owned(),
        suffix: String::new(),
    })
}

/// How a turn of `role` ends; none if the template has no such role. `first` is how a first user turn begins.
fn suffix(probe: &mut Probe<'_>, role: &str, first: &str) -> Option<String> {
    let turns = history(Some(role));
    let followed = |next: &[&'static str]| -> Vec<&str> { turns.iter().chain(next).copied().collect() };
    let gap = |gaps: Result<Gaps, String>| gaps.ok()?.into_iter().nth(turns.len());
    let to_user = gap(probe.render(&followed(&[USER]), false));
    // The surest sign of where a turn ends is that a user's begins there as one does at the start.
    if let Some(suffix) = to_user.as_ref().and_then(|gap| gap.strip_suffix(first)) {
        return Some(suffix.to_owned());
    }
    let to_assistant = gap(probe.render(&followed(&[ASSISTANT, USER]), false));
    let opened = probe.tail(turns, true);
    let followers: Vec<String> = [to_user, to_assistant, opened].into_iter().flatten().collect();
    let alone = probe.tail(turns, false);
    match alone {
        Some(alone) if followers.iter().all(|gap| gap.starts_with(&alone)) => Some(alone),
        _ => followers.into_iter().chain(alone).reduce(|common, gap| common_prefix(&common, &gap).to_owned()),
    }
}

/// The longest beginning that both have, in whole characters.
fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let length = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    &a[..length]
}
