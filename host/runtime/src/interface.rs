//! The guest's imports, one file per WIT interface.
//!
//! An import checks the run's limits, says what the guest wants to the task of the context, and answers at once; only
//! those that the WIT calls `async` wait. What goes wrong is answered as a WIT error, never as a trap: a trap means that
//! a budget is spent or that the guest broke the ABI.

pub(crate) mod lm;
mod run;
mod types;

use wasmtime::component::HasData;

use crate::host::Host;

/// Gives the generated bindings the run's store.
pub(crate) struct HostData;

impl HasData for HostData {
    type Data<'a> = &'a mut Host;
}
