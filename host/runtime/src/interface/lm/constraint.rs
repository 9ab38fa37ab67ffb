//! `constraint`: what a call's output must match.

use std::sync::Arc;

use sglhost_core::{Error, ErrorCode};
use wasmtime::component::{Accessor, Resource};

use crate::bindings::sgl::program::lm::{HostConstraint, HostConstraintWithStore};
use crate::bindings::sgl::program::types;
use crate::constraints::ConstraintSource;
use crate::host::Host;
use crate::interface::HostData;
use crate::ledger::{Held, Share};

/// A compiled constraint in the guest's hands.
#[derive(Debug)]
pub struct ConstraintHandle {
    pub(crate) source: ConstraintSource,
    _handle: Share,
    /// Of its pattern.
    _bytes: Share,
}

impl<T: Send> HostConstraintWithStore<T> for HostData {
    async fn regex(
        accessor: &Accessor<T, Self>,
        pattern: String,
    ) -> wasmtime::Result<Result<Resource<ConstraintHandle>, types::Error>> {
        let run = accessor.with(|mut access| Arc::clone(&access.get().run));
        let made = async {
            let handle = run.ledger.take(Held::Handles, 1)?;
            let bytes = run.ledger.take(Held::Bytes, pattern.len())?;
            // For the default model: most hosts serve one, and a wrong pattern is known now.
            let (model, served) = run.model(None)?;
            let pattern: Arc<str> = pattern.into();
            let compiled = run.constraints.regex(&run, model, &served, Arc::clone(&pattern)).await?;
            let source = ConstraintSource { pattern, model, compiled };
            Ok::<_, Error>(ConstraintHandle { source, _handle: handle, _bytes: bytes })
        };
        match made.await {
            Ok(constraint) => Ok(Ok(accessor.with(|mut access| access.get().table.push(constraint))?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn json_schema(
        _accessor: &Accessor<T, Self>,
        _schema: String,
    ) -> wasmtime::Result<Result<Resource<ConstraintHandle>, types::Error>> {
        Ok(Err(unsupported("json-schema").into()))
    }

    async fn lark(
        _accessor: &Accessor<T, Self>,
        _grammar: String,
    ) -> wasmtime::Result<Result<Resource<ConstraintHandle>, types::Error>> {
        Ok(Err(unsupported("lark").into()))
    }
}

fn unsupported(kind: &str) -> Error {
    Error::new(ErrorCode::Unsupported, format!("this host has no {kind} constraints; a regex may do"))
}

impl HostConstraint for Host {
    fn drop(&mut self, constraint: Resource<ConstraintHandle>) -> wasmtime::Result<()> {
        self.table.delete(constraint)?;
        Ok(())
    }
}
