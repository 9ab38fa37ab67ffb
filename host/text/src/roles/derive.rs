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
    bos: &'a str,
    starts_with_bos: bool,
}

/// A rendering, cut at its sentinels: one piece more than there are messages.
type Gaps = Vec<String>;

impl Probe<'_> {
    /// Renders turns of `roles`. The error says what the template did, as the end of a sentence.
    fn render(&mut self, roles: &[&str], generation: bool) -> Result<Gaps, String> {
        // A quote and a line end, so that a template that writes the text as JSON does not pass for one that copies it.
        let contents: Vec<String> = (0..roles.len()).map(|index| format!("Q{index}\"\nZ{index}")).collect();
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
        let mut rest = text.as_str();
        if let Some(stripped) = rest.strip_prefix(self.bos).filter(|_| !self.bos.is_empty()) {
            self.starts_with_bos = true;
            rest = stripped;
        }
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

    /// The gap before the last of `roles`, when `followed` by more turns; without them where the template refuses.
    fn gap_before_last(&mut self, roles: &[&str], followed: &[&str]) -> Option<String> {
        let long: Vec<&str> = roles.iter().chain(followed).copied().collect();
        let gaps = self.render(&long, false).or_else(|_| self.render(roles, false)).ok()?;
        gaps.into_iter().nth(roles.len() - 1)
    }
}

/// Derives all markup of a template.
pub(super) fn derive(template: &Template<'_>, bos: &str) -> Result<Derived, TextError> {
    let mut probe = Probe { template, bos, starts_with_bos: false };
    let user = probe.render(&[USER], false).map_err(TextError::template)?;
    probe.render(&[USER, ASSISTANT, USER], false).map_err(TextError::template)?;

    let mut suffixes: BTreeMap<&str, String> = BTreeMap::new();
    suffixes.insert(USER, user_suffix(&mut probe, &user[1]));
    suffixes.insert(ASSISTANT, suffix(&mut probe, ASSISTANT).unwrap_or_default());
    if let Some(suffix) = system_suffix(&mut probe, &suffixes) {
        suffixes.insert(SYSTEM, suffix);
    }
    if let Some(suffix) = suffix(&mut probe, TOOL) {
        suffixes.insert(TOOL, suffix);
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
    let generation = probe.render(history, true).ok().and_then(|gaps| gaps.last().cloned());
    let generation = generation.as_deref().and_then(|gap| gap.strip_prefix(before)).unwrap_or(text);
    let prefix = common_prefix(text, generation);
    Some(RoleMarkup {
        prefix: prefix.to_owned(),
        before_text: text[prefix.len()..].to_owned(),
        before_generation: generation[prefix.len()..].to_owned(),
        suffix: String::new(),
    })
}

/// How a user's turn ends: what all renderings have in common after it.
fn user_suffix(probe: &mut Probe<'_>, alone: &str) -> String {
    let answered = probe.render(&[USER, ASSISTANT, USER], false).map(|gaps| gaps[1].clone());
    let opened = probe.render(&[USER], true).map(|gaps| gaps[1].clone());
    [answered, opened]
        .into_iter()
        .flatten()
        .fold(alone.to_owned(), |common, gap| common_prefix(&common, &gap).to_owned())
}

/// How a turn of `role` ends: what follows it at the end of a conversation and before a user's turn.
fn suffix(probe: &mut Probe<'_>, role: &str) -> Option<String> {
    let turns = history(Some(role));
    let followed: Vec<&str> = turns.iter().copied().chain([if role == TOOL { ASSISTANT } else { USER }]).collect();
    let between = probe.render(&followed, false).ok()?.into_iter().nth(turns.len())?;
    match probe.render(turns, false) {
        Ok(gaps) => Some(common_prefix(&gaps[turns.len()], &between).to_owned()),
        Err(_) => Some(between),
    }
}

/// How a system turn ends. Templates that fold it into the user's turn (Mistral, Llama 2) have no end for it: then what
/// is between the two belongs to the user's turn.
fn system_suffix(probe: &mut Probe<'_>, suffixes: &BTreeMap<&str, String>) -> Option<String> {
    let between = probe.render(&[SYSTEM, USER], false).ok()?.swap_remove(1);
    let user = opening(probe, USER, Some(ASSISTANT), &suffixes[ASSISTANT])?.prefix;
    if let Some(suffix) = between.strip_suffix(user.as_str()) {
        return Some(suffix.to_owned());
    }
    let alone = probe.render(&[SYSTEM], false).map(|gaps| gaps[1].clone()).unwrap_or_default();
    Some(common_prefix(&alone, &between).to_owned())
}

/// The longest beginning that both have, in whole characters.
fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let length = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    &a[..length]
}
