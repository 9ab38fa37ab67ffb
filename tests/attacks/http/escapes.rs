//! A program that speaks to the terminal of whoever looks at its runs: nothing of that arrives there.
//!
//! The real command line in a terminal of its own, which python's `pty` makes.

use std::process::Command;

use sglhost_tests::binary::sglhost;
use sglhost_tests::http::Request;

use crate::house::local;

/// What `sglhost` prints in a terminal, both streams.
fn in_a_terminal(server: &str, arguments: &[&str]) -> String {
    let inner = sglhost(arguments);
    let mut command = Command::new("python3");
    command.args(["-c", "import pty, sys; pty.spawn(sys.argv[1:])"]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("SGLHOST_SERVER", server).env("TERM", "dumb").env("NO_COLOR", "1").env_remove("SGLHOST_KEY");
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    // Its own colours are its own.
    String::from_utf8_lossy(&output.stdout).replace("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m", "error:")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_says_stays_text() {
    let server = local(|_| ()).await;
    let address = format!("http://{}", server.address);
    let run = server.attack("", "escapes").await;
    assert_eq!(run["error"]["message"].as_str().map(|message| message.contains("\u{1b}]52;")), Some(true), "{run}");
    let id = run["id"].as_str().unwrap().to_owned();
    // A name for a server's error to repeat.
    let wrong = Request::get("/v1/programs/%1b%5b2J").send(server.address).await;
    assert!(!wrong.text().contains('\u{1b}'), "{}", wrong.text());
    let calls: [&[&str]; 8] = [
        &["logs", &id],
        &["logs", "--json", &id],
        &["logs", "--events", &id],
        &["runs"],
        &["ls"],
        &["run", "attacks", "--server", &address, "--attack", "escapes"],
        &["run", "attacks", "--server", &address, "--attack", "escapes", "--events"],
        &["run", "attacks", "--server", &address, "--attack", "\u{1b}[2J\u{9b}31m"],
    ];
    for arguments in calls {
        let (address, owned) = (address.clone(), arguments.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let shown = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = owned.iter().map(String::as_str).collect();
            in_a_terminal(&address, &arguments)
        });
        let shown = shown.await.unwrap();
        assert!(shown.contains("owned") || arguments.len() == 1 || arguments[0] == "run", "{arguments:?}: {shown}");
        let harms = |c: &char| (c.is_control() && !"\r\n\t".contains(*c)) || ('\u{202a}'..='\u{202e}').contains(c);
        let harm: Vec<char> = shown.chars().filter(harms).collect();
        assert!(harm.is_empty(), "{arguments:?}: {harm:?} in {shown:?}");
    }
    server.stop().await;
}
