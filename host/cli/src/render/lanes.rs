//! Several contexts that grow at once, told as one text that can be read.
//!
//! One context is *in front*: what it gains is shown at once. All others gather what they gain. The front stays while
//! its context has a call under way; then it passes to the context whose call began first and is still to be shown:
//! that one's text so far comes as a labelled block, which goes on live. So something always streams, no two contexts
//! are ever mixed within a call, and a program with one context reads without a single label.
//!
//! *Invariant*: the pieces of one context, labels left out, are its own text in order: each character once.

use std::collections::BTreeMap;

use sglhost_core::{ContextId, Event};

/// How a piece of text came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Written by the program or the chat template.
    Prompt,
    /// Written by the model.
    Generated,
    /// Written by neither: the name of the context that follows.
    Label,
}

/// Text to show next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Who wrote it.
    pub(crate) tone: Tone,
    /// For a label, the name alone.
    pub(crate) text: String,
}

#[derive(Debug, Default)]
struct Lane {
    label: String,
    gathered: Vec<Piece>,
    calls_under_way: u32,
    /// Of the text that waits: the place of its first call among all calls.
    waits_since: Option<u64>,
}

/// The contexts of a run and which of them is in front.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<ContextId, Lane>,
    front: Option<ContextId>,
    forks: u32,
    calls: u64,
}

impl Lanes {
    /// Takes an event and gives what is to be shown now.
    pub(crate) fn take(&mut self, event: &Event) -> Vec<Piece> {
        let mut shown = Vec::new();
        match event {
            Event::ContextOpened { context, parent } => self.open(*context, *parent),
            Event::ContextText { context, text } => self.add(*context, Tone::Prompt, text, &mut shown),
            Event::CallStarted { context, .. } => {
                self.calls += 1;
                let calls = self.calls;
                let lane = self.lanes.entry(*context).or_default();
                lane.calls_under_way += 1;
                lane.waits_since.get_or_insert(calls);
                self.pass_on(&mut shown);
            }
            Event::CallDelta { context, text, .. } => self.add(*context, Tone::Generated, text, &mut shown),
            Event::CallFinished { context, .. } | Event::CallFailed { context, .. } => {
                if let Some(lane) = self.lanes.get_mut(context) {
                    lane.calls_under_way = lane.calls_under_way.saturating_sub(1);
                }
                self.pass_on(&mut shown);
            }
            Event::RunFinished { .. } => {
                let rest: Vec<_> = self.lanes.keys().copied().collect();
                for context in rest {
                    if self.lanes.get(&context).is_some_and(|lane| !lane.gathered.is_empty()) {
                        self.bring_to_front(context, &mut shown);
                    }
                }
            }
            _ => {}
        }
        shown
    }

    fn open(&mut self, context: ContextId, parent: Option<ContextId>) {
        let label = match parent {
            None if self.lanes.is_empty() => "main".to_owned(),
            None => format!("context {context}"),
            Some(parent) => {
                self.forks += 1;
                let of = self.lanes.get(&parent).map_or("", |lane| lane.label.as_str());
                if of == "main" || of.is_empty() {
                    format!("fork {}", self.forks)
                } else {
                    format!("fork {} of {of}", self.forks)
                }
            }
        };
        self.lanes.insert(context, Lane { label, ..Lane::default() });
        self.front.get_or_insert(context);
    }

    fn add(&mut self, context: ContextId, tone: Tone, text: &str, shown: &mut Vec<Piece>) {
        let piece = Piece { tone, text: text.to_owned() };
        if self.front == Some(context) {
            shown.push(piece);
        } else {
            self.lanes.entry(context).or_default().gathered.push(piece);
        }
    }

    /// Lets the context that has waited longest come to the front, if the one there has no call under way.
    fn pass_on(&mut self, shown: &mut Vec<Piece>) {
        loop {
            let front = self.front.and_then(|context| self.lanes.get_mut(&context));
            if let Some(lane) = front {
                lane.waits_since = None;
                if lane.calls_under_way > 0 {
                    return;
                }
            }
            let waiting = self.lanes.iter().filter_map(|(context, lane)| Some((lane.waits_since?, *context))).min();
            let Some((_, context)) = waiting else { return };
            self.bring_to_front(context, shown);
        }
    }

    fn bring_to_front(&mut self, context: ContextId, shown: &mut Vec<Piece>) {
        let Some(lane) = self.lanes.get_mut(&context) else { return };
        lane.waits_since = None;
        if self.front.replace(context) != Some(context) {
            shown.push(Piece { tone: Tone::Label, text: lane.label.clone() });
        }
        shown.append(&mut lane.gathered);
    }
}

#[cfg(test)]
mod tests {
    use sglhost_core::{CallId, FinishReason, Usage};

    use super::*;

    /// Events in short: `o1<0` opens 1 as a fork of 0, `t1 x` adds text, `s1` starts a call on 1, `d1 x` is a delta,
    /// `f1` finishes, `end` ends.
    fn event(short: &str) -> Event {
        let (head, text) = short.split_once(' ').unwrap_or((short, ""));
        let (kind, rest) = head.split_at(1);
        let (number, parent) = rest.split_once('<').map_or((rest, None), |(number, parent)| (number, Some(parent)));
        let id = |digits: &str| ContextId(digits.parse().unwrap_or(0));
        let (context, call) = (id(number), CallId(0));
        match kind {
            "o" => Event::ContextOpened { context, parent: parent.map(id) },
            "t" => Event::ContextText { context, text: text.to_owned() },
            "s" => Event::CallStarted { call, context, name: None },
            "d" => Event::CallDelta { call, context, text: text.to_owned() },
            "f" => Event::CallFinished {
                call,
                context,
                name: None,
                text: String::new(),
                finish_reason: FinishReason::Stop,
                usage: Usage::default(),
            },
            _ => Event::RunFinished { result: Ok("null".to_owned()), usage: Usage::default() },
        }
    }

    #[track_caller]
    fn check(events: &[&str], expect: &str) {
        let mut lanes = Lanes::default();
        let mut shown = String::new();
        for short in events {
            for piece in lanes.take(&event(short)) {
                match piece.tone {
                    Tone::Prompt => shown.push_str(&piece.text),
                    Tone::Generated => shown.push_str(&piece.text.to_uppercase()),
                    Tone::Label => shown.push_str(&format!("[{}]", piece.text)),
                }
            }
            shown.push('|');
        }
        assert_eq!(shown, expect, "{events:?}");
    }

    #[test]
    fn one_context_streams_without_a_label() {
        check(&["o0", "t0 a", "s0", "d0 b", "d0 c", "f0", "t0 d", "end"], "|a||B|C||d||");
    }

    #[test]
    fn forks_come_one_after_the_other_and_the_first_is_live() {
        check(
            &[
                "o0", "t0 a", "o1<0", "t1 b", "s1", "o2<0", "t2 c", "s2", "d1 x", "d2 y", "d1 x", "f1", "d2 y", "f2",
                "t0 end", "s0", "d0 z", "f0", "end",
            ],
            "|a|||[fork 1]b||||X||X|[fork 2]cY|Y|||[main]end|Z|||",
        );
    }

    #[test]
    fn a_fork_that_ends_first_waits_for_the_one_in_front() {
        check(&["o0", "o1<0", "s1", "o2<0", "s2", "d2 y", "f2", "d1 x", "f1", "end"], "||[fork 1]|||||X|[fork 2]Y||");
    }

    #[test]
    fn text_without_a_call_comes_at_the_end() {
        check(&["o0", "t0 a", "o1<0", "t1 b", "o2", "t2 c", "end"], "|a|||||[fork 1]b[context 2]c|");
    }

    #[test]
    fn a_fork_of_a_fork_says_so() {
        check(&["o0", "o1<0", "o2<1", "s2", "d2 x", "f2", "end"], "|||[fork 2 of fork 1]|X|||");
    }
}
