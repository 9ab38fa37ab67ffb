//! `run`: output of the program's own, and what it has left.

use std::sync::Arc;

use sglhost_core::{Error, ErrorCode, Event};
use wasmtime::component::Accessor;

use crate::bindings::sgl::program::run::{Host as RunHost, HostWithStore};
use crate::bindings::sgl::program::types;
use crate::host::{Host, RunShared};
use crate::interface::HostData;
use crate::ledger::Held;

impl<T: Send> HostWithStore<T> for HostData {
    async fn emit(
        accessor: &Accessor<T, Self>,
        channel: String,
        data: String,
    ) -> wasmtime::Result<Result<(), types::Error>> {
        let run = accessor.with(|mut access| Arc::clone(&access.get().run));
        Ok(emit(&run, channel, data).await.map_err(Into::into))
    }
}

async fn emit(run: &RunShared, channel: String, data: String) -> Result<(), Error> {
    // One that waits for a slow reader is pending like a call: a guest may start many without waiting.
    let _pending = run.ledger.take(Held::Calls, 1)?;
    run.ledger.emit(channel.len() + data.len())?;
    let gone = |_| Error::new(ErrorCode::Cancelled, "nobody reads the run's events any more");
    run.events.send(Event::Emit { channel, data }).await.map_err(gone)
}

impl RunHost for Host {
    fn tokens_left(&mut self) -> wasmtime::Result<u64> {
        Ok(self.run.ledger.tokens_left())
    }

    fn contexts_left(&mut self) -> wasmtime::Result<u32> {
        Ok(self.run.ledger.contexts_left())
    }

    fn milliseconds_left(&mut self) -> wasmtime::Result<u64> {
        let left = self.run.deadline.saturating_sub(self.run.clock.monotonic());
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }
}
