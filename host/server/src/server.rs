//! The server as whoever starts it sees it: opened over a store and a runtime, told when there is a model, served on a
//! listener until it is told to stop.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use sglhost_core::Clock;
use sglhost_runtime::Runtime;
use sglhost_store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::body::Bodies;
use crate::service::{EngineRegistry, Readiness, Served, Service};
use crate::{Metrics, Runs, RunsParts, ServerConfig, Tenants, api, auth, connection};

/// What a server is made of.
pub struct ServerParts {
    /// Runs programs.
    pub runtime: Runtime,
    /// Keeps what must outlive the process.
    pub store: Arc<dyn Store>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Names requests.
    pub entropy: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Its limits.
    pub config: ServerConfig,
    /// Where it will listen. Unless only this machine reaches that, it takes tenants.
    pub address: IpAddr,
}

/// A server cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Anybody could use it.
    #[error(
        "{0} can be reached from other machines, and nobody would be asked for a key: make a tenant first, or listen on \
         127.0.0.1"
    )]
    NoTenants(IpAddr),
}

/// A server. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Server(Arc<Service>);

impl Server {
    /// A server that waits for a model. Runs that a process before this one left are ended.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(parts: ServerParts) -> Result<Self, OpenError> {
        let ServerParts { runtime, store, clock, entropy, config, address } = parts;
        let config = Arc::new(config);
        let tenants = Tenants::open(Arc::clone(&store), Arc::clone(&clock)).await?;
        let always_keyed = !auth::is_loopback(address);
        if always_keyed && !tenants.is_keyed() {
            return Err(OpenError::NoTenants(address));
        }
        let metrics = Metrics::new(None);
        let runs = Runs::new(RunsParts {
            runtime: runtime.clone(),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            config: Arc::clone(&config),
        });
        let service = Service {
            bodies: Bodies::new(&config.limits),
            runtime,
            store,
            tenants,
            runs,
            metrics,
            engine_registry: EngineRegistry::default(),
            clock,
            entropy,
            config,
            always_keyed,
            readiness: RwLock::new(Readiness::Waiting("a model".to_owned())),
        };
        service.runs.recover().await?;
        Ok(Self(Arc::new(service)))
    }

    /// Whether requests need a key.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        self.0.is_keyed()
    }

    /// Says what runs wait for, as the end of "waiting for …".
    pub fn waits_for(&self, what: impl Into<String>) {
        self.0.set_readiness(Readiness::Waiting(what.into()));
    }

    /// Says that there is a model: runs may begin.
    pub fn serves(&self, served: Served) {
        self.0.engine_registry.set(&served);
        self.0.set_readiness(Readiness::Serving(served));
    }

    /// Says that nothing will be computed any more in this process, and why: runs are refused.
    pub fn lost(&self, reason: impl Into<String>) {
        self.0.set_readiness(Readiness::Lost(reason.into()));
    }

    /// Serves on the listener until `stop`; then refuses new runs, lets those under way end within `drain_timeout`,
    /// cancels the others, and answers all the while.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let service = &self.0;
        let closing = CancellationToken::new();
        let housekeeping = tokio::spawn(housekeeping(Arc::clone(service)));
        let opened = {
            let service = Arc::clone(service);
            move |open| service.metrics.connections(open)
        };
        let router = api::router(service);
        let connections = connection::serve(listener, router, &service.config.limits, closing.clone(), opened);
        let stopping = async {
            stop.await;
            service.runs.stop_admitting();
            service.runs.drain(service.config.limits.drain_timeout).await;
            closing.cancel();
        };
        tokio::join!(connections, stopping);
        housekeeping.abort();
    }

    /// Refuses new runs, gives those under way `timeout` to end, and cancels the others; it goes on to answer.
    pub async fn drain_within(&self, timeout: Duration) {
        self.0.runs.drain(timeout).await;
    }

    /// Serves metrics, of all tenants and to everybody who can reach the listener, until this is dropped.
    pub async fn serve_metrics(&self, listener: TcpListener) {
        let router = api::metrics_router(&self.0);
        connection::serve(listener, router, &self.0.config.limits, CancellationToken::new(), |_| {}).await;
    }
}

/// What has to be done now and then.
async fn housekeeping(service: Arc<Service>) {
    let limits = &service.config.limits;
    let mut look = tokio::time::interval(limits.tenants_period);
    let mut forget = tokio::time::interval(limits.forget_period);
    loop {
        tokio::select! {
            _ = look.tick() => {
                service.runs.sweep();
                if let Err(error) = service.tenants.refresh().await {
                    tracing::error!("tenants could not be looked up: {error}");
                }
            }
            _ = forget.tick() => {
                match service.runs.forget().await {
                    Ok(0) => {}
                    Ok(runs) => tracing::info!("{runs} runs that ended long ago are forgotten"),
                    Err(error) => tracing::error!("runs that ended long ago could not be forgotten: {error}"),
                }
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.0.config).finish_non_exhaustive()
    }
}
