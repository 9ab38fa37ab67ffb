//! Tenants are made beside a running server, which takes notice within two seconds.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;
use sglhost_tests::binary::{Ended, plugin};

use super::{Served, ended};

/// A revoked key lives at most so long.
const NOTICE_MAX: Duration = Duration::from_secs(2);

impl Served {
    fn as_tenant(&self, key: &str, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).env("SGLHOST_KEY", key))
    }

    /// Asks until the answer is as expected, for as long as it may take.
    #[track_caller]
    fn soon(&self, key: &str, expect: impl Fn(&Ended) -> bool) -> Ended {
        let start = Instant::now();
        loop {
            let asked = start.elapsed();
            let answer = self.as_tenant(key, &["ls"]);
            if expect(&answer) {
                return answer;
            }
            assert!(asked < NOTICE_MAX, "still {answer:?}");
        }
    }
}

#[test]
fn keys_are_made_shown_once_and_revoked() {
    let served = Served::start();
    let local = served.run(["tenant", "add", "local"]);
    assert!(local.code == Some(2) && local.stderr.contains("a server without keys"), "{}", local.stderr);
    let added = served.run(["tenant", "add", "acme", "--tokens-per-minute", "100000"]);
    assert!(added.stderr.contains("it is the first one"), "{}", added.stderr);
    let text = added.well();
    let key = text.trim();
    assert!(key.starts_with("sgl_") && text.lines().count() == 1, "the key alone: {text:?}");

    let refused = served.soon("", |answer| answer.code == Some(1));
    assert!(refused.stderr.contains("SGLHOST_KEY"), "{}", refused.stderr);
    served.soon(key, |answer| answer.code == Some(0));
    let file = served.folder.path().join("key");
    fs::write(&file, &text).unwrap();
    let file = file.to_str().unwrap();
    let pushed = ended(served.command(["push", "--key-file", file]).arg(plugin("text_qa"))).well();
    assert!(pushed.starts_with("text_qa@1 "), "{pushed}");
    let words = ["run", "text_qa", "--json", "--question", "Why?", "--max-tokens", "4", "--key-file", file];
    assert!(served.run(words).well().contains("\"answer\""));

    let other = served.run(["tenant", "add", "other"]).well();
    let nothing = served.soon(other.trim(), |answer| answer.code == Some(0));
    assert_eq!(nothing.stdout, "", "another tenant's programs are not there");

    let id = key.get(4..10).unwrap();
    let second = served.run(["tenant", "key", "add", "acme", "--label", "second"]).well();
    let _ = served.run(["tenant", "key", "rm", "acme", id]).well();
    served.soon(key, |answer| answer.code == Some(1) && answer.stderr.contains("SGLHOST_KEY"));
    served.soon(second.trim(), |answer| answer.stdout.contains("text_qa"));
    let keys = served.run(["tenant", "key", "ls", "acme"]).well();
    assert!(keys.contains("second") && !keys.contains(id), "{keys}");

    let listed: Value = serde_json::from_str(&served.run(["tenant", "ls", "--json"]).well()).unwrap();
    let acme = &listed["tenants"][0];
    assert_eq!((&acme["name"], &acme["quotas"]["tokens_per_minute"]), (&"acme".into(), &100_000.into()));
    assert_eq!((&acme["used"]["runs"], &acme["stored"]["programs"]), (&1.into(), &1.into()), "{acme}");

    let _ = served.run(["tenant", "set", "acme", "--tokens-per-minute", "0"]).well();
    let words = ["run", "text_qa", "--question", "Why?", "--max-tokens", "4"];
    let start = Instant::now();
    let refused = loop {
        let asked = start.elapsed();
        let answer = served.as_tenant(second.trim(), &words);
        if answer.code != Some(0) {
            break answer;
        }
        assert!(asked < NOTICE_MAX, "still {answer:?}");
    };
    assert!(refused.stderr.contains("tokens"), "{}", refused.stderr);

    let asked = served.run(["tenant", "rm", "acme"]);
    assert_eq!(asked.code, Some(2));
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    let _ = served.run(["tenant", "rm", "acme", "--yes"]).well();
    served.soon(second.trim(), |answer| answer.code == Some(1));
}
