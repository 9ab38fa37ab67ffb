//! What an operator's Prometheus reads.
//!
//! # Invariants
//! - Labels have few values: routes are patterns, methods those of HTTP, and tenants are made by the operator.
//! - A tenant's counters are those of its usage in the store, to the token: they begin where the store is
//!   ([`Metrics::restore`]) and go on when the store has taken a run's end down.
//!
//! *Not here*: what programs say, and who the engine serves next.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};
use sglhost_core::{TenantId, Usage};
use sglhost_engine::EngineMetrics;
use sglhost_store::{RunStatus, UsageDay};

/// Methods that are counted by name; the others are `other`: a client may write anything there.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_latency: Family<RouteLabels, Histogram, fn() -> Histogram>,
    connections: Gauge,
    live: Gauge,
    started: Counter,
    ended: Family<StatusLabels, Counter>,
    store_failures: Counter,
    loads: Family<OutcomeLabels, Counter>,
    load_time: Histogram,
    tenants: TenantMetrics,
}

/// What each tenant used.
#[derive(Default)]
struct TenantMetrics {
    runs: Family<TenantLabels, Counter>,
    prompt_tokens: Family<TenantLabels, Counter>,
    cached_tokens: Family<TenantLabels, Counter>,
    completion_tokens: Family<TenantLabels, Counter>,
    cpu: Family<TenantLabels, Micros>,
    wall: Family<TenantLabels, Micros>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Arc<str>,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TenantLabels {
    tenant: Arc<str>,
}

/// A time that is counted in whole microseconds, so that sums are exact, and shown in seconds.
#[derive(Debug, Default)]
struct Micros(AtomicU64);

impl Metrics {
    /// The content type of [`Self::encode`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// With those of the engine, if it is in this process.
    #[must_use]
    pub fn new(engine: Option<&EngineMetrics>) -> Arc<Self> {
        let latencies = || {
            Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
        };
        let mut metrics = Self {
            registry: Registry::with_prefix("sglhost"),
            requests: Family::default(),
            request_latency: Family::new_with_constructor(latencies),
            connections: Gauge::default(),
            live: Gauge::default(),
            started: Counter::default(),
            ended: Family::default(),
            store_failures: Counter::default(),
            loads: Family::default(),
            load_time: Histogram::new([0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]),
            tenants: TenantMetrics::default(),
        };
        metrics.register();
        if let Some(engine) = engine {
            engine.register(&mut metrics.registry);
        }
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let (registry, tenants) = (&mut self.registry, &self.tenants);
        let seconds = || Unit::Seconds;
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "http_request_latency",
            "From a request's head to the response's head",
            seconds(),
            self.request_latency.clone(),
        );
        registry.register("http_connections", "Connections open", self.connections.clone());
        registry.register("live_runs", "Runs under way, or whose end is not stored yet", self.live.clone());
        registry.register("started_runs", "Runs that began", self.started.clone());
        registry.register("ended_runs", "Runs that ended, by how", self.ended.clone());
        registry.register("store_failures", "Times that a run could not be stored", self.store_failures.clone());
        registry.register("program_loads", "Programs compiled or taken from the cache, by outcome", self.loads.clone());
        registry.register_with_unit("program_load", "Time of one", seconds(), self.load_time.clone());
        registry.register("tenant_runs", "Runs that ended, by tenant", tenants.runs.clone());
        let help = "Tokens of prompts, cached ones included, by tenant";
        registry.register("tenant_prompt_tokens", help, tenants.prompt_tokens.clone());
        let help = "Tokens of prompts that were cached, by tenant";
        registry.register("tenant_cached_tokens", help, tenants.cached_tokens.clone());
        registry.register("tenant_completion_tokens", "Tokens sampled, by tenant", tenants.completion_tokens.clone());
        registry.register_with_unit("tenant_cpu", "CPU time of programs, by tenant", seconds(), tenants.cpu.clone());
        registry.register_with_unit(
            "tenant_wall",
            "Runs' times from start to end, by tenant",
            seconds(),
            tenants.wall.clone(),
        );
    }

    /// All of them as text, in the format of OpenMetrics.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if text::encode(&mut text, &self.registry).is_err() {
            // Writing into a string does not fail; if it did, half of the metrics would be worse than none.
            return "# EOF\n".to_owned();
        }
        text
    }

    /// A request was answered. `route` is the route's own pattern (`/v1/runs/{id}`), never the path that was asked for;
    /// `latency` is until the response's head.
    pub fn answered(&self, route: &str, method: &str, status: u16, latency: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        let route: Arc<str> = route.into();
        let labels = RouteLabels { route: Arc::clone(&route), method };
        self.request_latency.get_or_create(&labels).observe(latency.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { route, method, status }).inc();
    }

    /// A program was loaded for the first time since it was uploaded or the server began, or could not be.
    pub fn loaded(&self, well: bool, time: Duration) {
        let outcome = if well { "succeeded" } else { "failed" };
        self.loads.get_or_create(&OutcomeLabels { outcome }).inc();
        self.load_time.observe(time.as_secs_f64());
    }

    /// Connections open now.
    pub fn connections(&self, open: usize) {
        self.connections.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    pub(crate) fn live(&self, runs: u32) {
        self.live.set(i64::from(runs));
    }

    pub(crate) fn started(&self) {
        self.started.inc();
    }

    pub(crate) fn store_failed(&self) {
        self.store_failures.inc();
    }

    /// Runs ended so.
    pub(crate) fn ended(&self, status: RunStatus, runs: u64) {
        let status = match status {
            RunStatus::Running => return,
            RunStatus::Succeeded => "succeeded",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
            RunStatus::Interrupted => "interrupted",
        };
        self.ended.get_or_create(&StatusLabels { status }).inc_by(runs);
    }

    /// Adds to what a tenant used. The day itself says nothing here.
    pub(crate) fn used(&self, tenant: &TenantId, used: &UsageDay) {
        let label = TenantLabels { tenant: Arc::clone(&tenant.0) };
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = used.usage;
        let tenants = &self.tenants;
        tenants.runs.get_or_create(&label).inc_by(used.runs);
        tenants.prompt_tokens.get_or_create(&label).inc_by(prompt_tokens);
        tenants.cached_tokens.get_or_create(&label).inc_by(cached_tokens);
        tenants.completion_tokens.get_or_create(&label).inc_by(completion_tokens);
        tenants.cpu.get_or_create(&label).add(used.cpu_time_us);
        tenants.wall.get_or_create(&label).add(used.wall_time_ms.saturating_mul(1000));
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Micros {
    fn add(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

impl TypedMetric for Micros {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Micros {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let seconds = self.0.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_counter::<NoLabelSet, _, u64>(&seconds, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_makes_no_labels() {
        let metrics = Metrics::new(Some(&EngineMetrics::default()));
        for method in ["GET", "MINE", "YOURS"] {
            metrics.answered("/v1/runs/{id}", method, 200, Duration::from_millis(3));
        }
        metrics.loaded(true, Duration::from_secs(1));
        let text = metrics.encode();
        let count = |line: &str| text.lines().filter(|other| *other == line).count();
        let requests = "sglhost_http_requests_total{route=\"/v1/runs/{id}\",method=";
        assert_eq!(count(&format!("{requests}\"GET\",status=\"200\"}} 1")), 1, "{text}");
        assert_eq!(count(&format!("{requests}\"other\",status=\"200\"}} 2")), 1, "{text}");
        assert_eq!(count("sglhost_program_loads_total{outcome=\"succeeded\"} 1"), 1, "{text}");
        assert_eq!(count("sglhost_engine_steps_total 0"), 1, "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
