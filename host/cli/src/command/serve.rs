//! `sglhost serve`: a server for programs, on this machine's model.
//!
//! It listens first and opens the model then: who asks meanwhile is told what it waits for. Ctrl-C, or a termination
//! signal, ends it in good order; a second one at once.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use sglhost_server::{Server, ServerConfig, ServerParts};
use sglhost_store::SqliteStore;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    command::run::write_log,
    config::ServeConfig,
    engine::{House, HouseParts, OpeningModel, entropy},
    environment::Environment,
    failure::Failure,
    guests::Guests,
    interrupt::Interrupt,
    model::ModelStore,
    render::print,
    restart,
};

/// After a loss: how long runs have to take note of it before they are ended.
const LOST_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until it is told to stop.
///
/// # Errors
/// The address or the data folder is taken, or the model cannot be served.
pub(crate) async fn serve(
    config: ServeConfig,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    write_log(config.log_level);
    interrupt.terminates_too().map_err(Failure::other)?;
    let listener = listen(config.address).await?;
    let metrics_listener = match config.metrics_address {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let address = listener.local_addr().map_err(Failure::other)?;
    let guests = Guests::start()?;
    let house = House::open(HouseParts {
        cache: &environment.cache,
        host_limits: config.host_limits.clone(),
        run_limits: config.run_limits.clone(),
        guests: Some(guests.handle()),
    })?;
    let server = open(&config, &house, address).await?;
    server.waits_for(format!("the model {} to be opened", config.model.reference.short_name()));
    // What the server is told to stop by: a signal, or this.
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn({
        let (server, interrupt) = (server.clone(), interrupt.clone());
        async move { server.serve(listener, either(interrupt, stopped)).await }
    });
    if let Some(listener) = metrics_listener {
        let server = server.clone();
        tokio::spawn(async move { server.serve_metrics(listener).await });
    }
    let store = ModelStore::new(&environment.cache);
    let opening = OpeningModel::start(config.model.clone(), store, interrupt.clone());
    tokio::select! {
        biased;
        opened = opening.opened() => {
            let opened = opened?;
            house.serve(opened.model, config.engine.limits(opened.limits))?;
        }
        () = interrupt.requested() => return serving.await.map_err(Failure::other),
    }
    if let Some(served) = house.served() {
        server.serves(served);
    }
    print(&ready_line(&config, &server, address))?;
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended.map_err(Failure::other),
        error = house.lost() => {
            tracing::error!("{}; the server starts itself again", error.message);
            server.lost(error.message);
            let clock = &house.clock;
            let pause = restart::pause(environment.restarted_at, clock.wall());
            tokio::select! {
                // Told to stop meanwhile: then it ends.
                ended = &mut serving => return ended.map_err(Failure::other),
                () = tokio::time::sleep(pause.max(LOST_TIMEOUT)) => {}
            }
            server.drain_within(Duration::ZERO).await;
            stop.send_replace(true);
            serving.await.map_err(Failure::other)?;
            if interrupt.is_requested() { Ok(()) } else { Err(restart::restart(clock.wall())) }
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::Other(format!(
            "another process listens on {address}; --port names another port, and 0 takes any that is free"
        )),
        _ => Failure::Other(format!("{address} cannot be listened on: {error}")),
    })
}

async fn open(config: &ServeConfig, house: &House, address: SocketAddr) -> Result<Server, Failure> {
    // SQLite and the disk.
    let store = tokio::task::block_in_place(|| SqliteStore::open(&config.data)).map_err(Failure::other)?;
    let parts = ServerParts {
        runtime: house.runtime.clone(),
        store: Arc::new(store),
        clock: Arc::clone(&house.clock),
        entropy: entropy(),
        config: ServerConfig {
            limits: config.server_limits.clone(),
            run_limits: config.run_limits.clone(),
            host_limits: config.host_limits.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        address: address.ip(),
    };
    Server::open(parts).await.map_err(Failure::other)
}

async fn either(interrupt: Interrupt, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        () = interrupt.requested() => {}
        // Without a sender nobody stops it this way any more.
        Ok(_) = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// The one line that says that it is ready.
fn ready_line(config: &ServeConfig, server: &Server, address: SocketAddr) -> String {
    let mode = if server.is_keyed() { "keys are asked for" } else { "for this machine, without keys" };
    format!(
        "serving {} at http://{address} ({mode}; data in {})\n",
        config.model.reference.short_name(),
        config.data.display()
    )
}
