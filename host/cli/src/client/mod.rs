//! A server's HTTP interface from the other side. All of it blocks; `stream.rs` puts what streams on a thread of its own.
//!
//! *Boundary*: shows nothing, and knows no flags.

mod address;
mod error;
mod events;
mod record;
mod stream;

use std::{
    io::{BufRead, BufReader, Read},
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sglhost_core::RunId;
use sglhost_store::ProgramReference;
use ureq::{
    Agent, AsSendBody, Body, SendBody,
    http::{Method, Request, Response, StatusCode, header},
};

pub(crate) use address::{Address, DEFAULT_ADDRESS};
pub(crate) use error::ClientError;
pub(crate) use record::{Listed, ProgramVersion, RunSummary, UsageReport, UsageSum, run_record};
pub(crate) use stream::RemoteRun;

use crate::environment::Secret;
use error::{io_reason, reason};

/// To find a server and to be let in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte; a server says something at least every 15 s while it has events to send.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Bytes of an answer that is read as a whole: a run's record is the largest.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Entries that one request lists.
const PAGE: u32 = 1000;

/// Speaks to one server as one tenant. Clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: Address,
    key: Option<Secret>,
    agent: Agent,
}

impl Client {
    /// No connection is made yet.
    pub(crate) fn new(address: Address, key: Option<Secret>) -> Self {
        let mut configuration = Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(SILENCE_MAX))
            .http_status_as_error(false)
            // A key goes where the user sent it and nowhere else.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("sglhost/", env!("CARGO_PKG_VERSION")));
        if address.is_loopback() {
            configuration = configuration.proxy(None);
        }
        Self { agent: configuration.build().into(), address, key }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// Any of [`ClientError`], as of all that follow.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(self.exchange(self.request(Method::GET, path), ())?)
    }

    /// Has something done.
    pub(crate) fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: &Value) -> Result<T, ClientError> {
        self.read(self.exchange_json(self.request(method, path), body)?)
    }

    /// Has something deleted.
    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(self.exchange(self.request(Method::DELETE, path), ())?)
    }

    /// All of the list `field` at `path`, or its first `limit` entries.
    pub(crate) fn list(&self, path: &str, field: &str, limit: u32) -> Result<Listed, ClientError> {
        let mut listed = Listed { items: Vec::new(), next: None };
        loop {
            let wanted = limit.saturating_sub(u32::try_from(listed.items.len()).unwrap_or(u32::MAX)).min(PAGE);
            let after = listed.next.take().map(|next| format!("&after={next}")).unwrap_or_default();
            let mut page: Value = self.get(&format!("{path}?limit={wanted}{after}"))?;
            let Some(Value::Array(items)) = page.get_mut(field).map(Value::take) else {
                return Err(self.strange(format!("{path} has no list of {field}")));
            };
            // A list without an end would be one of nothing new.
            let is_last = items.is_empty() || items.len() + listed.items.len() >= limit as usize;
            listed.items.extend(items);
            listed.next = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if listed.next.is_none() || is_last {
                return Ok(listed);
            }
        }
    }

    /// What a reference means.
    pub(crate) fn program(&self, reference: &ProgramReference) -> Result<ProgramVersion, ClientError> {
        self.get(&format!("/v1/programs/{}", path_of(reference)))
    }

    /// Uploads a component. The boolean tells whether it is a new version.
    pub(crate) fn push(
        &self,
        name: &str,
        tag: Option<&str>,
        component: &mut dyn Read,
        bytes: usize,
    ) -> Result<(ProgramVersion, bool), ClientError> {
        let tag = tag.map(|tag| format!("?tag={tag}")).unwrap_or_default();
        let request = self
            .request(Method::PUT, &format!("/v1/programs/{name}{tag}"))
            .header(header::CONTENT_TYPE, "application/wasm")
            .header(header::CONTENT_LENGTH, bytes);
        let request = build(request, SendBody::from_reader(component))?;
        // The server compiles before it answers.
        let request = self.agent.configure_request(request).timeout_per_read(None).build();
        let response = self.ask(request)?;
        let is_new = response.status() == StatusCode::CREATED;
        Ok((self.read(response)?, is_new))
    }

    /// Starts a run that goes on by itself. A connection that breaks before the answer is made again: with the same key,
    /// which nobody used before, that starts no second run.
    pub(crate) fn start_detached(&self, program: &str, mut run: Value, key: &str) -> Result<RunSummary, ClientError> {
        run["detach"] = Value::Bool(true);
        let start = || {
            let request = self.request(Method::POST, &format!("/v1/programs/{program}/runs"));
            self.read(self.exchange_json(request.header("idempotency-key", key), &run)?)
        };
        match start() {
            Err(ClientError::Unreachable { .. } | ClientError::Broken { .. }) => start(),
            answered => answered,
        }
    }

    /// Starts a run whose events come with the answer; when the connection ends, so does the run.
    fn start_attached(&self, program: &str, run: &Value) -> Result<(RunId, impl BufRead + use<>), ClientError> {
        let request = self
            .request(Method::POST, &format!("/v1/programs/{program}/runs"))
            .header(header::ACCEPT, "text/event-stream");
        let response = self.exchange_json(request, run)?;
        let id = response.headers().get("x-run-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| self.strange("an answer has no x-run-id".to_owned()))?;
        Ok((id, BufReader::new(response.into_body().into_reader())))
    }

    /// The events of a run after number `after`, and as they come.
    fn events(&self, run: RunId, after: u64) -> Result<impl BufRead + use<>, ClientError> {
        let mut request = self.request(Method::GET, &format!("/v1/runs/{run}/events"));
        if after > 0 {
            request = request.header("last-event-id", after);
        }
        let response = self.exchange(request, ())?;
        Ok(BufReader::new(response.into_body().into_reader()))
    }

    /// Cancels a run, and waits until it has ended.
    pub(crate) fn cancel(&self, run: RunId) -> Result<RunSummary, ClientError> {
        self.send(Method::POST, &format!("/v1/runs/{run}/cancel"), &json!({}))
    }

    /// Runs a program many times; gives a line for each, in order.
    pub(crate) fn batch(
        &self,
        program: &str,
        batch: &Value,
    ) -> Result<impl Iterator<Item = Result<Value, ClientError>> + use<>, ClientError> {
        let request = self.request(Method::POST, &format!("/v1/programs/{program}/batches"));
        let request = json_request(request, batch)?;
        // A line comes when its run has ended, and those before it.
        let request = self.agent.configure_request(request).timeout_per_read(None).build();
        let body = BufReader::new(self.ask(request)?.into_body().into_reader());
        let client = self.clone();
        Ok(body.split(b'\n').map(move |line| {
            let line = line.map_err(|error| client.broken(io_reason(&error), true))?;
            serde_json::from_slice(&line).map_err(|error| client.strange(format!("a line of a batch: {error}")))
        }))
    }

    fn request(&self, method: Method, path: &str) -> ureq::http::request::Builder {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        if let Some(Secret(key)) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        request
    }

    fn exchange(
        &self,
        request: ureq::http::request::Builder,
        body: impl AsSendBody,
    ) -> Result<Response<Body>, ClientError> {
        self.ask(build(request, body)?)
    }

    fn exchange_json(
        &self,
        request: ureq::http::request::Builder,
        body: &Value,
    ) -> Result<Response<Body>, ClientError> {
        self.ask(json_request(request, body)?)
    }

    /// Sends a request and gives the answer, if it is one that says yes.
    fn ask(&self, request: Request<impl AsSendBody>) -> Result<Response<Body>, ClientError> {
        let response = self.agent.run(request).map_err(|error| match error {
            ureq::Error::Protocol(_) => self.strange(reason(&error)),
            _ => ClientError::Unreachable { address: self.address.to_string(), reason: reason(&error) },
        })?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response)) }
    }

    fn read<T: DeserializeOwned>(&self, mut response: Response<Body>) -> Result<T, ClientError> {
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.broken(reason(&error), false))?;
        serde_json::from_slice(&body).map_err(|error| self.strange(error.to_string()))
    }

    fn refusal(&self, mut response: Response<Body>) -> ClientError {
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let retry_after = header(header::RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
        if status.is_redirection() {
            let place = header(header::LOCATION).unwrap_or_default();
            return self.strange(format!("it sends its callers on to {place}; if that is right, name it in its place"));
        }
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
        let told: Option<Value> = serde_json::from_slice(&body).ok();
        let message = told.as_ref().and_then(|told| told.pointer("/error/message")).and_then(Value::as_str);
        match message {
            Some(message) => ClientError::Refused { status, message: message.to_owned(), retry_after },
            None => self.strange(format!("its answer is {status}")),
        }
    }

    /// A list of answers that is shorter than what was asked for.
    pub(crate) fn ended_early(&self) -> ClientError {
        self.broken("it ended too early".to_owned(), true)
    }

    fn strange(&self, reason: String) -> ClientError {
        ClientError::Strange { address: self.address.to_string(), reason }
    }

    fn broken(&self, reason: String, cancelled: bool) -> ClientError {
        ClientError::Broken { address: self.address.to_string(), reason, cancelled }
    }
}

/// A reference in a URL: its characters need no escape.
pub(crate) fn path_of(reference: &ProgramReference) -> String {
    use sglhost_store::VersionSelector::{Digest, Tag, Version};
    let name = &reference.name;
    match &reference.selector {
        None => name.clone(),
        Some(Version(number)) => format!("{name}@{number}"),
        Some(Tag(tag)) => format!("{name}@{tag}"),
        Some(Digest(digest)) => format!("{name}@sha256:{digest}"),
    }
}

fn json_request(request: ureq::http::request::Builder, body: &Value) -> Result<Request<String>, ClientError> {
    build(request.header(header::CONTENT_TYPE, "application/json"), body.to_string())
}

/// Addresses, paths and keys are checked before they come here; what is left is a bug's, told as an error all the same.
fn build<B>(request: ureq::http::request::Builder, body: B) -> Result<Request<B>, ClientError> {
    request
        .body(body)
        .map_err(|error| ClientError::Strange { address: "the request".to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, net::TcpListener, thread};

    use super::*;

    /// Reads a request and gives its head, in small letters.
    fn head(stream: &mut (impl Read + ?Sized)) -> String {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            head.push(byte[0]);
        }
        String::from_utf8_lossy(&head).to_lowercase()
    }

    #[test]
    fn a_detached_start_that_is_sent_again_has_the_same_key() -> Result<(), Box<dyn std::error::Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address: Address = format!("http://{}", listener.local_addr()?).parse()?;
        let server = thread::spawn(move || {
            let mut heads = Vec::new();
            // The first connection breaks when the request is there, the second is answered.
            for answers in [false, true] {
                let Ok((mut stream, _)) = listener.accept() else { continue };
                heads.push(head(&mut stream));
                let run = json!({
                    "id": "0000000000000007", "program": "p", "version": 1, "status": "running", "created_at": "",
                });
                let run = run.to_string();
                let answer = format!("HTTP/1.1 202 Accepted\r\ncontent-length: {}\r\n\r\n{run}", run.len());
                if answers {
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
            heads
        });
        let started = Client::new(address, None).start_detached("p", json!({}), "00ff")?;
        assert_eq!(started.id, RunId(7));
        let heads = server.join().unwrap_or_default();
        assert_eq!(heads.len(), 2);
        assert!(heads.iter().all(|head| head.contains("\r\nidempotency-key: 00ff\r\n")), "{heads:?}");
        Ok(())
    }
}
