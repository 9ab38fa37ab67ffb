//! What an operator's Prometheus reads.

use std::sync::Arc;
use std::time::Duration;

use sglhost_engine::EngineMetrics;

/// All metrics of the process.
#[derive(Debug, Default)]
pub struct Metrics;

impl Metrics {
    /// With those of the engine, if it is in this process.
    #[must_use]
    pub fn new(engine: Option<&EngineMetrics>) -> Arc<Self> {
        let _ = engine;
        Arc::new(Self)
    }

    /// The content type of [`Self::encode`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// All of them as text, in the format of OpenMetrics.
    #[must_use]
    pub fn encode(&self) -> String {
        "# EOF\n".to_owned()
    }

    /// A request was answered. `route` is the route's own pattern (`/v1/runs/{id}`), never the path that was asked for;
    /// `latency` is until the response's head.
    pub fn answered(&self, route: &str, method: &str, status: u16, latency: Duration) {
        let _ = (route, method, status, latency);
    }

    /// A program was loaded for the first time since it was uploaded or the server began, or could not be.
    pub fn loaded(&self, well: bool, time: Duration) {
        let _ = (well, time);
    }

    /// Connections open now.
    pub fn connections(&self, open: usize) {
        let _ = open;
    }
}
