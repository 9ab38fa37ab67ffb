//! Several contexts that grow at once, told as one text that can be read.
//!
//! One context is *in front*: what it gains is shown at once. All others gather what they gain. The front stays while
//! its context has a call under way; then, when another's call has something to show, it passes on: to forks
//! before what they were forked from, which may well go on from them, and else in the order of opening. That one's text
//! so far comes as a labelled block, which goes on live. So something always streams, no two contexts are ever mixed within a call, and a program with one context reads
//! without a single label.
//!
//! What is left at the end is shown too, but for what a fork that was told gained after its last call: nothing came of
//! that, and it is mostly the end of a message.
//!
//! *Invariant*: the pieces of one context, labels left out, are its own text in order, each character at most once.

use std::{cmp::Reverse, collections::BTreeMap};

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
    /// 0 for a context that was not forked, one more than its parent's for a fork.
    depth: u32,
    was_in_front: bool,
    gathered: Vec<Piece>,
    calls_under_way: u32,
    /// A call of it has begun that is not shown yet.
    waits: bool,
}

/// The contexts of a run and which of them is in front.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<ContextId, Lane>,
    front: Option<ContextId>,
    forks: u32,
}

impl Lanes {
    /// Takes an event and gives what is to be shown now.
    pub(crate) fn take(&mut self, event: &Event) -> Vec<Piece> {
        let mut shown = Vec::new();
        match event {
            Event::ContextOpened { context, parent } => self.open(*context, *parent),
            Event::ContextText { context, text } => self.add(*context, Tone::Prompt, text, &mut shown),
            Event::CallStarted { context, .. } => {
                let lane = self.lanes.entry(*context).or_default();
                lane.calls_under_way += 1;
                lane.waits = self.front != Some(*context);
            }
            Event::CallDelta { context, text, .. } => {
                self.add(*context, Tone::Generated, text, &mut shown);
                self.pass_on(*context, &mut shown);
            }
            Event::CallFinished { context, .. } | Event::CallFailed { context, .. } => {
                if let Some(lane) = self.lanes.get_mut(context) {
                    lane.calls_under_way = lane.calls_under_way.saturating_sub(1);
                }
                self.pass_on(*context, &mut shown);
            }
            Event::RunFinished { .. } => self.show_rest(&mut shown),
            _ => {}
        }
        shown
    }

    fn open(&mut self, context: ContextId, parent: Option<ContextId>) {
        let depth = parent.map_or(0, |parent| self.lanes.get(&parent).map_or(1, |lane| lane.depth.saturating_add(1)));
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
        self.lanes.insert(context, Lane { label, depth, ..Lane::default() });
        if self.front.is_none() {
            self.bring_to_front(context, &mut Vec::new());
        }
    }

    fn add(&mut self, context: ContextId, tone: Tone, text: &str, shown: &mut Vec<Piece>) {
        let piece = Piece { tone, text: text.to_owned() };
        if self.front == Some(context) {
            shown.push(piece);
        } else {
            self.lanes.entry(context).or_default().gathered.push(piece);
        }
    }

    /// After something happened on `context`: if that is not in front and the front has no call under way, those that
    /// wait come to the front, until one that still has a call under way is there.
    fn pass_on(&mut self, context: ContextId, shown: &mut Vec<Piece>) {
        // What the front gains right after its call still belongs there; the others' next piece is soon enough.
        if self.front == Some(context) {
            return;
        }
        let under_way = |lane: &Lane| lane.calls_under_way > 0;
        while !self.front.and_then(|front| self.lanes.get(&front)).is_some_and(under_way) {
            let waiting = self.lanes.iter().filter(|(_, lane)| lane.waits);
            let next = waiting.min_by_key(|(context, lane)| (Reverse(lane.depth), **context)).map(|it| *it.0);
            let Some(next) = next else { return };
            self.bring_to_front(next, shown);
        }
    }

    fn show_rest(&mut self, shown: &mut Vec<Piece>) {
        let untold = |lane: &Lane| !lane.gathered.is_empty() && (lane.waits || lane.depth == 0 || !lane.was_in_front);
        let rest: Vec<_> = self.lanes.iter().filter(|(_, lane)| untold(lane)).map(|(context, _)| *context).collect();
        for context in rest {
            self.bring_to_front(context, shown);
        }
    }

    fn bring_to_front(&mut self, context: ContextId, shown: &mut Vec<Piece>) {
        let Some(lane) = self.lanes.get_mut(&context) else { return };
        lane.waits = false;
        lane.was_in_front = true;
        // The first context needs no label to begin with.
        if self.front.replace(context).is_some_and(|before| before != context) {
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
                forced_tokens: 0,
            },
            _ => Event::RunFinished { result: Ok("null".to_owned()), usage: Usage::default(), cpu_time_us: 0 },
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
    fn forks_come_in_order_and_the_first_is_live() {
        check(
            &[
                "o0", "t0 a", "o1<0", "t1 b", "o2<0", "t2 c", "s2", "s1", "d2 y", "d1 x", "d1 x", "f1", "t1 end",
                "d2 y", "f2", "t0 sum", "s0", "d0 z", "f0", "end",
            ],
            "|a|||||||[fork 1]b|X|X||end|[fork 2]cYY||||[main]sumZ|||",
        );
    }

    #[test]
    fn a_fork_that_ends_first_waits_for_the_one_in_front() {
        check(
            &["o0", "o1<0", "s1", "o2<0", "s2", "d1 x", "d2 y", "f2", "d1 x", "f1", "end"],
            "|||||[fork 1]X|||X||[fork 2]Y|",
        );
        check(
            &["o0", "o1<0", "s1", "o2<0", "s2", "d1 x", "d2 y", "f2", "f1", "t0 sum", "s0", "d0 z", "f0", "end"],
            "|||||[fork 1]X||||||[fork 2]Y[main]sumZ|||",
        );
    }

    #[test]
    fn a_select_shows_when_it_is_decided() {
        check(&["o0", "o1<0", "t1 a", "s1", "f1", "t1 b", "end"], "||||[fork 1]a|b||");
    }

    #[test]
    fn text_without_a_call_comes_at_the_end_unless_nothing_came_of_it() {
        check(&["o0", "t0 a", "o1<0", "t1 b", "o2", "t2 c", "end"], "|a|||||[fork 1]b[context 2]c|");
        check(
            &["o0", "o1<0", "s1", "o2<0", "s2", "d1 x", "f1", "d2 y", "t1 rest", "f2", "t0 b", "end"],
            "|||||[fork 1]X||[fork 2]Y||||[main]b|",
        );
    }

    #[test]
    fn a_fork_of_a_fork_says_so() {
        check(&["o0", "o1<0", "o2<1", "s2", "d2 x", "f2", "end"], "||||[fork 2 of fork 1]X|||");
    }
}
