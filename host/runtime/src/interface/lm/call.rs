//! `call`: a call under way.

use std::sync::Arc;

use sglhost_engine::Model;
use wasmtime::component::{Access, Accessor, Resource, StreamReader};

use crate::bindings::sgl::program::lm::{HostCall, HostCallWithStore};
use crate::bindings::sgl::program::types;
use crate::call::CallGuard;
use crate::host::Host;
use crate::interface::HostData;
use crate::interface::lm::OutcomeHandle;
use crate::ledger::{Held, Share};
use crate::stream::TextStream;

/// A call in the guest's hands; dropping it cancels a call that is not finished.
#[derive(Debug)]
pub struct CallHandle {
    pub(crate) call: CallGuard,
    pub(crate) model: Arc<Model>,
    pub(crate) _handle: Share,
}

impl<T: Send + 'static> HostCallWithStore<T> for HostData {
    fn text(
        mut access: Access<'_, T, Self>,
        call: Resource<CallHandle>,
    ) -> wasmtime::Result<Result<StreamReader<String>, types::Error>> {
        let state = Arc::clone(&access.get().table.get(&call)?.call.0);
        if let Err(error) = state.take_text() {
            return Ok(Err(error.into()));
        }
        Ok(Ok(StreamReader::new(&mut access, TextStream::new(state))?))
    }

    async fn finished(
        accessor: &Accessor<T, Self>,
        call: Resource<CallHandle>,
    ) -> wasmtime::Result<Result<Resource<OutcomeHandle>, types::Error>> {
        let (run, state, model) = accessor.with(|mut access| {
            let host = access.get();
            let handle = host.table.get(&call)?;
            wasmtime::error::Ok((Arc::clone(&host.run), Arc::clone(&handle.call.0), Arc::clone(&handle.model)))
        })?;
        let result = state.finished().await;
        match result.and_then(|kept| Ok((kept, run.ledger.take(Held::Handles, 1)?))) {
            Ok((kept, handle)) => {
                let outcome = OutcomeHandle { kept, model, handle };
                Ok(Ok(accessor.with(|mut access| access.get().table.push(outcome))?))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl HostCall for Host {
    fn cancel(&mut self, call: Resource<CallHandle>) -> wasmtime::Result<()> {
        self.table.get(&call)?.call.0.cancel();
        Ok(())
    }

    fn drop(&mut self, call: Resource<CallHandle>) -> wasmtime::Result<()> {
        self.table.delete(call)?;
        Ok(())
    }
}
