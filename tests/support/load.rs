//! Many runs at once over HTTP, each read to its end by a client of its own, with what is measured of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::http::{Connection, Request};

/// What clients do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where the server is.
    pub address: SocketAddr,
    /// Clients, each with one run under way at a time.
    pub clients: usize,
    /// How long a client begins new runs, after its first.
    pub time: Duration,
    /// What they run: `/v1/programs/attacks/runs` with these arguments and sampling.
    pub body: Value,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Runs that ended well.
    pub runs: usize,
    /// What went wrong.
    pub failures: Vec<String>,
    /// Starts that were refused with 503; the client waited and tried again.
    pub refused: usize,
    /// Events in all.
    pub events: usize,
    /// From the request's last byte to `run.started`.
    pub to_start: Vec<Duration>,
    /// From `run.started` to the first event that the program caused.
    pub to_first: Vec<Duration>,
    /// From the request's last byte to the first `call.started`.
    pub to_call: Vec<Duration>,
    /// From the request's last byte to `run.finished`.
    pub to_end: Vec<Duration>,
}

impl Load {
    /// A program that forks: a root, `forks-overlap`'s four forks of it, a call on each.
    #[must_use]
    pub fn forking(address: SocketAddr, clients: usize, time: Duration, max_tokens: u32) -> Self {
        let sampling = json!({"max_tokens": max_tokens, "temperature": 0});
        Self { address, clients, time, body: json!({"arguments": {"attack": "forks-overlap"}, "sampling": sampling}) }
    }

    /// Lets the clients do it.
    ///
    /// # Panics
    /// If a client does.
    pub async fn run(&self) -> Seen {
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            clients.spawn(self.clone().client());
        }
        let mut all = Seen::default();
        while let Some(seen) = clients.join_next().await {
            all.add(seen.unwrap());
        }
        all
    }

    async fn client(self) -> Seen {
        let mut seen = Seen::default();
        let request = Request::post("/v1/programs/attacks/runs", &self.body).header("accept", "text/event-stream");
        let bytes = request.bytes(self.address);
        let mut connection = Connection::open(self.address).await;
        let began = Instant::now();
        loop {
            connection.write(&bytes).await;
            match one(&mut connection, &mut seen).await {
                Ok(()) => {}
                Err(failure) => {
                    seen.failures.push(failure);
                    connection = Connection::open(self.address).await;
                }
            }
            if began.elapsed() >= self.time {
                return seen;
            }
        }
    }
}

/// One run, which was asked for just now.
async fn one(connection: &mut Connection, seen: &mut Seen) -> Result<(), String> {
    let asked = Instant::now();
    let head = connection.head("POST").await.ok_or("the connection ended before the answer")?;
    if head.status == 503 {
        connection.rest().await.map_err(|error| error.to_string())?;
        seen.refused += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        return Ok(());
    }
    if head.status != 200 {
        return Err(format!("status {}", head.status));
    }
    let (mut started, mut first, mut call, mut ends, mut last) = (None, None, None, 0, String::new());
    let mut text = String::new();
    let mut id = 0;
    while let Some(piece) = connection.piece().await.map_err(|error| error.to_string())? {
        let now = asked.elapsed();
        text += std::str::from_utf8(&piece).map_err(|error| error.to_string())?;
        let mut rest = 0;
        while let Some(end) = text[rest..].find("\n\n") {
            let block = &text[rest..rest + end];
            rest += end + 2;
            let Some(block) = block.strip_prefix("id: ") else { continue };
            seen.events += 1;
            id += 1;
            let (number, block) = block.split_once("\nevent: ").ok_or("an event without a kind")?;
            if number.parse() != Ok(id) {
                return Err(format!("event {number} where {id} is due"));
            }
            let (kind, data) = block.split_once("\ndata: ").ok_or("an event without data")?;
            match kind {
                "run.started" => started = Some(now),
                "run.finished" => {
                    ends += 1;
                    data.clone_into(&mut last);
                }
                _ => drop(first.get_or_insert(now)),
            }
            if kind == "call.started" {
                call.get_or_insert(now);
            }
        }
        text.drain(..rest);
    }
    let end = asked.elapsed();
    if ends != 1 {
        return Err(format!("{ends} ends"));
    }
    let finished: Value = serde_json::from_str(&last).map_err(|error| error.to_string())?;
    if finished["result"].get("Ok").is_none() {
        return Err(last);
    }
    let (Some(started), Some(first), Some(call)) = (started, first, call) else {
        return Err(format!("an event is missing: {last}"));
    };
    seen.runs += 1;
    seen.to_start.push(started);
    seen.to_first.push(first.saturating_sub(started));
    seen.to_call.push(call);
    seen.to_end.push(end);
    Ok(())
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.failures.extend(other.failures);
        self.refused += other.refused;
        self.events += other.events;
        self.to_start.extend(other.to_start);
        self.to_first.extend(other.to_first);
        self.to_call.extend(other.to_call);
        self.to_end.extend(other.to_end);
    }
}

/// The median and the 99th percentile, in milliseconds.
#[must_use]
pub fn percentiles(times: &[Duration]) -> [f64; 2] {
    let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    [50, 99].map(|percent| times.get(times.len() * percent / 100).copied().unwrap_or(f64::NAN))
}
