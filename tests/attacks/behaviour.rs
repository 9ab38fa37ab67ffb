//! What the contract promises to a program that behaves.

use sglhost_core::Event;

use crate::host::{Host, finish, limits};

async fn check(program: &str, expect: &str) {
    let host = Host::new().await;
    assert_eq!(host.result(program).await, expect, "{program}");
    host.settle().await;
}

macro_rules! behaviours {
    ($($name:ident: $program:literal => $expect:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check($program, $expect).await;
        })*
    };
}

behaviours! {
    a_call_answers: "answer" => "\"<13>\"";
    operations_take_effect_in_order: "order" => "\"a<1>b<5>c\"";
    forks_overlap: "forks-overlap" => "4";
    a_fork_starts_from_its_parent: "fork-state" => r#"["p<1>1", "p<1>2"]"#;
    the_stream_is_the_text: "stream" => "\"<13>\"";
    an_unread_stream_holds_nothing_up: "unread" => "\"<13>\"";
    a_cancelled_call_keeps_what_was_delivered: "cancel" => "null";
    a_waiting_call_can_be_cancelled: "cancel-queued" => "null";
    a_dropped_call_is_cancelled: "drop-call" => "\"stalled\"";
    an_error_nobody_was_told_poisons: "poison" => r#"["invalid", "invalid", "invalid", "invalid"]"#;
    select_appends_the_choice: "select" => "\"choose: green\"";
    scores_and_next_tokens: "measure" => r#"["cd", 3, "a"]"#;
    a_regex_constrains: "constrain" => "\"aaaaa\"";
    options_are_checked: "options" => r#"["invalid", "invalid", "invalid", "limit-exceeded"]"#;
    what_is_not_there_says_so: "unsupported" => r#"["unsupported", "unsupported", "invalid", "invalid"]"#;
    a_program_sees_what_it_has_left: "left" => "[10000, 20]";
    contexts_are_counted_while_open: "many-contexts" => "null";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_add_up_to_each_context() {
    let host = Host::new().await;
    let end = host.run("fork-state").await;
    let mut texts = vec![String::new()];
    let mut opened = 0;
    for event in &end.events {
        match event {
            Event::ContextOpened { context, parent } => {
                assert_eq!(context.0, opened);
                opened += 1;
                if let Some(parent) = parent {
                    texts.push(texts[parent.0 as usize].clone());
                }
            }
            Event::ContextText { context, text } | Event::CallDelta { context, text, .. } => {
                texts[context.0 as usize].push_str(text);
            }
            _ => {}
        }
    }
    assert_eq!(texts, ["p<1>1", "p<1>2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_the_sum_over_the_calls() {
    let host = Host::new().await;
    let end = host.run("order").await;
    match end.events.last() {
        Some(Event::RunFinished { usage, .. }) => {
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), (1 + 5, 3 + 3));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_makes_a_run_reproducible() {
    let host = Host::new().await;
    let draws = async |seed| finish(host.start_with("draws", limits(), seed)).await.result.unwrap();
    let first = draws(Some(7)).await;
    assert_eq!(draws(Some(7)).await, first);
    assert_ne!(draws(Some(8)).await, first);
    assert_ne!(draws(None).await, draws(None).await);
    let seeds: Vec<String> = serde_json::from_str(&first).unwrap();
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2], "{seeds:?}");
}
