//! `model pull ORG/NAME` against a hub on this machine's loopback.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::json;
use sglhost_tests::binary::{Ended, run, sglhost};

/// SHA-256 of `weights`.
const WEIGHTS_SHA256: &str = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c";

/// A hub with one repository, and what it was asked.
struct Hub {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Serves `acme/tiny` at commit `abc`; the weights' digest is told to be `sha256`.
    fn start(sha256: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let metadata = json!({
            "sha": "abc",
            "siblings": [
                {"rfilename": "README.md", "size": 2},
                {"rfilename": "config.json", "size": 2},
                {"rfilename": "tokenizer.json", "size": 2},
                {"rfilename": "model.safetensors", "size": 7, "lfs": {"sha256": sha256}},
            ],
        });
        let files = BTreeMap::from([
            ("/api/models/acme/tiny/revision/main?blobs=true".to_owned(), metadata.to_string()),
            ("/api/models/acme/tiny/revision/v2?blobs=true".to_owned(), metadata.to_string()),
            ("/acme/tiny/resolve/abc/config.json".to_owned(), "{}".to_owned()),
            ("/acme/tiny/resolve/abc/tokenizer.json".to_owned(), "[]".to_owned()),
            ("/acme/tiny/resolve/abc/model.safetensors".to_owned(), "weights".to_owned()),
        ]);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        // Ends with the process: connections come until the last test is over.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &files, &log);
            }
        });
        Self { endpoint, asked }
    }

    fn pull(&self, cache: &Path, arguments: &[&str]) -> Ended {
        let mut command = sglhost(["model", "pull"]);
        command.args(arguments).env("HF_ENDPOINT", &self.endpoint).env("HF_TOKEN", "secret");
        run(command.env("SGLHOST_CACHE", cache))
    }

    fn asked(&self) -> String {
        self.asked.lock().unwrap().join("\n")
    }
}

/// Answers one request and closes the connection.
fn answer(mut stream: TcpStream, files: &BTreeMap<String, String>, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let (mut start, mut authorized) = (0, false);
    for header in lines.map(Result::unwrap).take_while(|line| !line.is_empty()) {
        let header = header.to_lowercase();
        if let Some(range) = header.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse().unwrap();
        }
        authorized |= header == "authorization: bearer secret";
    }
    log.lock().unwrap().push(format!("{path} from {start}{}", if authorized { "" } else { " without a token" }));
    let response = match files.get(&path) {
        None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
        Some(body) => {
            let status = if start > 0 { "206 Partial Content" } else { "200 OK" };
            let body = &body[start..];
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        }
    };
    stream.write_all(response.as_bytes()).unwrap();
}

#[test]
fn a_repository_is_fetched_checked_and_found() {
    let (hub, cache) = (Hub::start(WEIGHTS_SHA256), tempfile::tempdir().unwrap());
    let folder = cache.path().join("models/acme--tiny");
    // What an earlier, interrupted download left is gone on with.
    let staging = cache.path().join("models/.pull-acme--tiny");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join("model.safetensors.part"), "wei").unwrap();
    assert_eq!(hub.pull(cache.path(), &["acme/tiny"]).well(), format!("{}\n", folder.display()));
    for (name, content) in [("config.json", "{}"), ("tokenizer.json", "[]"), ("model.safetensors", "weights")] {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), content);
    }
    assert!(!folder.join("README.md").exists());
    assert!(!staging.exists());
    let asked = hub.asked();
    assert!(asked.contains("model.safetensors from 3"), "{asked}");
    assert!(!asked.contains("without a token"), "{asked}");
    let path = run(sglhost(["model", "path", "acme/tiny"]).env("SGLHOST_CACHE", cache.path())).well();
    assert_eq!(path, format!("{}\n", folder.display()));
    let list = run(sglhost(["model", "list"]).env("SGLHOST_CACHE", cache.path())).well();
    assert!(list.starts_with("acme/tiny "), "{list}");
    // The second time there is nothing to ask.
    let _ = hub.pull(cache.path(), &["acme/tiny"]).well();
    assert_eq!(hub.asked(), asked);
    let _ = hub.pull(cache.path(), &["acme/tiny", "--revision", "v2"]).well();
    assert!(cache.path().join("models/acme--tiny@v2/config.json").exists());
}

#[test]
fn other_bytes_than_promised_are_refused() {
    let (hub, cache) = (Hub::start(&"0".repeat(64)), tempfile::tempdir().unwrap());
    let ended = hub.pull(cache.path(), &["acme/tiny"]);
    assert_eq!(ended.code, Some(1));
    let expect = format!(
        "error: model.safetensors of acme/tiny has the SHA-256 {WEIGHTS_SHA256}, where {} was expected; nothing of it is \
         kept\n",
        "0".repeat(64)
    );
    assert!(ended.stderr.ends_with(&expect), "{}", ended.stderr);
    assert!(!cache.path().join("models/acme--tiny").exists());
    assert!(!cache.path().join("models/.pull-acme--tiny/model.safetensors.part").exists());
}

#[test]
fn a_hub_that_has_it_not_or_is_not_there() {
    let (hub, cache) = (Hub::start(WEIGHTS_SHA256), tempfile::tempdir().unwrap());
    let ended = hub.pull(cache.path(), &["acme/other"]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stderr,
        "error: the model acme/other could not be fetched: the hub does not have it; check the name and the revision\n"
    );
    // A port that was free a moment ago: nobody listens.
    let endpoint = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let gone = Hub { endpoint: endpoint.clone(), asked: Arc::default() };
    let ended = gone.pull(cache.path(), &["acme/tiny"]);
    assert_eq!(ended.code, Some(1));
    let begin = format!("error: the model acme/tiny could not be fetched: the hub {endpoint} cannot be reached: ");
    assert!(ended.stderr.starts_with(&begin), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("(HF_ENDPOINT names another hub)\n"), "{}", ended.stderr);
}
