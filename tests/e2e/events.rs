//! Runs told by their events, and what must hold of every run.

use std::collections::BTreeMap;

use sglhost_core::{CallId, ContextId, Event, FinishReason, Usage};
use sglhost_tests::binary::{plugin, run, sglhost};

/// A call that ended well.
#[derive(Debug)]
pub(crate) struct FinishedCall {
    pub(crate) context: ContextId,
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) finish_reason: FinishReason,
    pub(crate) usage: Usage,
    /// Places of its first and last event among all.
    pub(crate) started_at: usize,
    pub(crate) finished_at: usize,
}

/// A run that ended well.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) calls: Vec<FinishedCall>,
    /// What each context holds at the end; a fork's begins where it was forked.
    pub(crate) texts: BTreeMap<ContextId, String>,
    pub(crate) parents: BTreeMap<ContextId, Option<ContextId>>,
    pub(crate) result: String,
    pub(crate) usage: Usage,
}

impl Told {
    /// The one call of that name.
    #[track_caller]
    pub(crate) fn call(&self, name: &str) -> &FinishedCall {
        let mut calls = self.calls.iter().filter(|call| call.name == name);
        let call = calls.next().unwrap_or_else(|| panic!("no call {name}: {self:?}"));
        assert!(calls.next().is_none(), "two calls {name}");
        call
    }

    /// What the first context holds.
    pub(crate) fn text(&self) -> &str {
        &self.texts[&ContextId(0)]
    }
}

/// Runs an example program and reads its events; checks what holds of every run.
#[track_caller]
pub(crate) fn tell(name: &str, arguments: &[&str]) -> Told {
    let mut command = sglhost(["run", "--events"]);
    command.arg(plugin(name)).args(arguments);
    let lines = run(&mut command).well();
    let events: Vec<Event> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    read(&events)
}

#[track_caller]
fn read(events: &[Event]) -> Told {
    assert!(matches!(events.first(), Some(Event::RunStarted { .. })), "{:?}", events.first());
    let mut told = Told::default();
    let mut under_way: BTreeMap<CallId, (usize, String)> = BTreeMap::new();
    let mut ended = false;
    for (at, event) in events.iter().enumerate() {
        assert!(!ended, "after the end: {event:?}");
        match event {
            Event::RunStarted { .. } => assert_eq!(at, 0),
            Event::ContextOpened { context, parent } => {
                assert!(told.texts.insert(*context, String::new()).is_none(), "opened twice");
                told.parents.insert(*context, *parent);
            }
            Event::ContextText { context, text } => *told.texts.get_mut(context).unwrap() += text,
            Event::CallStarted { call, .. } => {
                assert!(under_way.insert(*call, (at, String::new())).is_none(), "started twice");
            }
            Event::CallDelta { call, context, text } => {
                under_way.get_mut(call).unwrap().1 += text;
                *told.texts.get_mut(context).unwrap() += text;
            }
            Event::CallFinished { call, context, name, text, finish_reason, usage, .. } => {
                let (started_at, streamed) = under_way.remove(call).unwrap();
                assert_eq!(&streamed, text, "the stream is the final text");
                told.calls.push(FinishedCall {
                    context: *context,
                    name: name.clone().unwrap_or_default(),
                    text: text.clone(),
                    finish_reason: *finish_reason,
                    usage: *usage,
                    started_at,
                    finished_at: at,
                });
            }
            Event::RunFinished { result, usage, .. } => {
                told.result = result.clone().unwrap();
                told.usage = *usage;
                ended = true;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(ended && under_way.is_empty(), "all calls end, then the run");
    let mut sum = Usage::default();
    told.calls.iter().for_each(|call| sum.add(call.usage));
    assert_eq!(sum, told.usage, "the run's usage is its calls'");
    told
}
