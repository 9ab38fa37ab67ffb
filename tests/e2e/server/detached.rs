//! A run that goes on by itself: its id, its text again and again, through a connection that breaks, and its end.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use sglhost_tests::binary::plugin;

use super::{Served, ended};
use crate::arguments::probe;

const WORDS: [&str; 8] = ["--question", "Tell me a story.", "--max-tokens", "24", "--temperature", "0", "--seed", "1"];

#[test]
fn a_detached_run_is_shown_as_often_as_it_is_asked_for() {
    let served = Served::start();
    served.push(&plugin("text_qa"));
    let attached = ended(served.command(["run", "text_qa"]).args(WORDS)).well();
    let detached = ended(served.command(["run", "text_qa", "--detach"]).args(WORDS));
    assert!(detached.stderr.contains("sglhost logs "), "{}", detached.stderr);
    let id = detached.well().trim().to_owned();
    assert_eq!(id.len(), 16);
    for _ in 0..2 {
        assert_eq!(served.run(["logs", &id]).well(), attached);
    }
    let record: Value = serde_json::from_str(&served.run(["logs", "--json", &id]).well()).unwrap();
    assert!(attached.contains(record["variables"]["answer"].as_str().unwrap()), "{record}");

    let breaking = Breaking::start(&served.address, 800);
    let direct = served.run(["logs", "--events", &id]).well();
    let through = ended(&mut served.command_at(&breaking.address, ["logs", "--events", &id])).well();
    assert_eq!(through, direct, "each event once, in order");
    assert!(breaking.connections.load(Ordering::Relaxed) > 1, "it broke");
}

#[test]
fn a_detached_run_is_cancelled_by_its_id() {
    let served = Served::start();
    served.push(&probe());
    let words = ["run", "probe", "--detach", "--numbers", "[]", "--endless"];
    let id = served.run(words).well().trim().to_owned();
    assert_eq!(served.run(["cancel", &id]).well(), format!("{id} cancelled\n"));
    let logs = served.run(["logs", &id]);
    assert_eq!(logs.code, Some(1));
    assert!(logs.stderr.contains("cancelled"), "{}", logs.stderr);
    let usage: Value = serde_json::from_str(&served.run(["usage", "--json"]).well()).unwrap();
    assert_eq!(usage["total"]["runs"], 1);
    let usage = served.run(["usage"]).well();
    assert!(usage.contains("\ntotal ") && usage.contains("any number of tokens a minute"), "{usage}");
}

/// Stands between a client and the server, and cuts each answer short.
struct Breaking {
    address: String,
    connections: Arc<AtomicUsize>,
}

impl Breaking {
    fn start(server: &str, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        // Ends with the process: connections come until the last test is over.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                pass_on(client.unwrap(), TcpStream::connect(&server).unwrap(), bytes);
            }
        });
        Self { address, connections }
    }
}

/// A request, and so many bytes of its answer.
fn pass_on(mut client: TcpStream, mut server: TcpStream, bytes: usize) {
    let (mut asks, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut asks, &mut asked));
    let mut buffer = [0; 64];
    let mut left = bytes;
    while left > 0 {
        let wanted = buffer.len().min(left);
        match server.read(&mut buffer[..wanted]) {
            Ok(0) | Err(_) => break,
            Ok(read) => {
                left -= read;
                if client.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
}
