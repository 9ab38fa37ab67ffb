//! A client of HTTP/1.1 that writes what it is told to, right or wrong, and reads answers strictly.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A test that waits longer for the server than this has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request, written as it stands.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// The beginning of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its status.
    pub status: u16,
    headers: Vec<(String, String)>,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    read: VecDeque<u8>,
    body: Body,
}

/// What is to come of an answer's body.
#[derive(Debug)]
enum Body {
    Bytes(usize),
    Chunks,
    ToTheEnd,
}

/// An event of a stream of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentEvent {
    /// Its number.
    pub id: u64,
    /// Its kind, as in `call.delta`.
    pub kind: String,
    /// Its JSON.
    pub data: String,
}

/// Reads a stream of events.
#[derive(Debug)]
pub struct Events {
    connection: Connection,
    text: String,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// `GET`.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// `POST` of JSON.
    #[must_use]
    pub fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path).header("content-type", "application/json").body(body.to_string())
    }

    /// `PUT` of a component.
    #[must_use]
    pub fn upload(name: &str, component: &[u8]) -> Self {
        Self::new("PUT", &format!("/v1/programs/{name}")).header("content-type", "application/wasm").body(component)
    }

    /// Its method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Its target.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a tenant's key; without one if it is empty.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        if key.is_empty() { self } else { self.header("authorization", &format!("Bearer {key}")) }
    }

    /// With another body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// As it goes over the wire; `Host` is added unless it is there.
    #[must_use]
    pub fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let has = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !has("host") {
            head += &format!("host: {address}\r\n");
        }
        if !self.body.is_empty() && !has("content-length") && !has("transfer-encoding") {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend(&self.body);
        bytes
    }

    /// Sends it on a connection of its own and reads the answer.
    ///
    /// # Panics
    /// Without an answer.
    pub async fn send(&self, address: SocketAddr) -> Answer {
        self.try_send(address).await.unwrap_or_else(|| panic!("no answer to {} {}", self.method, self.path))
    }

    /// The same; none if the connection ends without an answer.
    pub async fn try_send(&self, address: SocketAddr) -> Option<Answer> {
        let mut connection = Connection::open(address).await;
        connection.write(&self.bytes(address)).await;
        connection.answer(&self.method).await
    }

    /// Sends it and reads the events that are the answer.
    ///
    /// # Panics
    /// If another answer comes.
    pub async fn events(&self, address: SocketAddr) -> Events {
        let mut connection = Connection::open(address).await;
        connection.write(&self.bytes(address)).await;
        let head = connection.head(&self.method).await.expect("an answer");
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "{head:?}");
        Events { connection, text: String::new() }
    }
}

impl Head {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

impl Answer {
    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Its body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.status(), self.text()))
    }

    /// Its body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status, and code of the error if it is one.
    #[must_use]
    #[track_caller]
    pub fn verdict(&self) -> (u16, String) {
        let code = if self.status() < 400 { None } else { self.json()["error"]["code"].as_str().map(str::to_owned) };
        (self.status(), code.unwrap_or_default())
    }
}

impl Connection {
    /// Opens one.
    ///
    /// # Panics
    /// If nobody listens.
    pub async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.expect("the server listens")
    }

    /// Opens one.
    ///
    /// # Errors
    /// That of the operating system, if nobody listens.
    pub async fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        Ok(Self { stream, read: VecDeque::new(), body: Body::Bytes(0) })
    }

    /// Writes, unless the server has closed the connection.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.try_write(bytes).await;
    }

    /// Writes.
    ///
    /// # Errors
    /// That of the operating system, if the server has closed the connection.
    pub async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the server reads")
    }

    /// Says that nothing more will be written.
    pub async fn shutdown(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next head; none if the connection ends first.
    pub async fn head(&mut self, method: &str) -> Option<Head> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut lines = lines.into_iter();
        let first = lines.next().expect("an answer has a first line");
        let status = first.strip_prefix("HTTP/1.1 ").or_else(|| first.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.split(' ').next()?.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("no answer begins so: {first:?}"));
        let header = |line: String| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let head = Head { status, headers: lines.map(header).collect() };
        self.body = if method == "HEAD" || status == 204 || status == 304 {
            Body::Bytes(0)
        } else if head.header("transfer-encoding") == Some("chunked") {
            Body::Chunks
        } else if let Some(length) = head.header("content-length") {
            Body::Bytes(length.parse().expect("a length is a number"))
        } else {
            Body::ToTheEnd
        };
        Some(head)
    }

    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// The connection ends before the body does.
    ///
    /// # Panics
    /// If what comes is no chunk.
    pub async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let broken = || io::Error::from(io::ErrorKind::UnexpectedEof);
        match self.body {
            Body::Bytes(0) => Ok(None),
            Body::Bytes(left) => {
                if self.read.is_empty() && !self.fill().await {
                    return Err(broken());
                }
                let piece: Vec<u8> = self.read.drain(..left.min(self.read.len())).collect();
                self.body = Body::Bytes(left - piece.len());
                Ok(Some(piece))
            }
            Body::ToTheEnd => {
                let more = !self.read.is_empty() || self.fill().await;
                Ok(more.then(|| self.read.drain(..).collect()))
            }
            Body::Chunks => {
                let line = self.line().await.ok_or_else(broken)?;
                let length = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("no chunk's length: {line:?}"));
                while self.read.len() < length + 2 {
                    if !self.fill().await {
                        return Err(broken());
                    }
                }
                let piece: Vec<u8> = self.read.drain(..length).collect();
                assert!(self.read.drain(..2).eq(*b"\r\n"), "a chunk ends with a line's end");
                if length == 0 {
                    self.body = Body::Bytes(0);
                }
                Ok((length > 0).then_some(piece))
            }
        }
    }

    /// Reads the next answer; none if the connection ends first.
    ///
    /// # Panics
    /// If the answer breaks off.
    pub async fn answer(&mut self, method: &str) -> Option<Answer> {
        let head = self.head(method).await?;
        let body = self.rest().await.unwrap_or_else(|_| panic!("it broke off: {head:?}"));
        Some(Answer { head, body })
    }

    /// What is left of the body.
    ///
    /// # Errors
    /// As [`Self::piece`].
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            body.extend(piece);
        }
        Ok(body)
    }

    /// Whether the server closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.fill().await
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads more; gives whether there was any.
    async fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("the server answers or closes");
        // One that was reset is over as well.
        let count = read.unwrap_or(0);
        self.read.extend(&buffer[..count]);
        count > 0
    }
}

impl Events {
    /// The next event; none at the end of the stream. Comments are passed by.
    ///
    /// # Panics
    /// If what comes is no event.
    pub async fn next(&mut self) -> Option<SentEvent> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if !block.starts_with(':') {
                    return Some(event(&block));
                }
            }
            let piece = self.connection.piece().await.ok()??;
            self.text += std::str::from_utf8(&piece).expect("pieces are whole characters");
        }
    }

    /// All that are to come.
    pub async fn rest(&mut self) -> Vec<SentEvent> {
        let mut rest = Vec::new();
        while let Some(event) = self.next().await {
            rest.push(event);
        }
        rest
    }
}

fn event(block: &str) -> SentEvent {
    let mut lines = block.lines();
    let mut field = |name: &str| {
        let line = lines.next().unwrap_or_default();
        line.strip_prefix(name).unwrap_or_else(|| panic!("{name:?} is missing in {block:?}")).to_owned()
    };
    let (id, kind, data) = (field("id: "), field("event: "), field("data: "));
    SentEvent { id: id.parse().expect("an event's id is a number"), kind, data }
}
