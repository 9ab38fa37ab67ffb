//! `constraint`: what a call's output must match.

use std::sync::Arc;

use sglhost_core::Error;
use sglhost_text::ConstraintSpec;
use wasmtime::component::{Accessor, Resource};

use crate::bindings::sgl::program::lm::{HostConstraint, HostConstraintWithStore};
use crate::bindings::sgl::program::types;
use crate::constraints::ConstraintSource;
use crate::host::Host;
use crate::interface::HostData;
use crate::ledger::{Held, Share};

/// A constraint in the guest's hands.
#[derive(Debug)]
pub struct ConstraintHandle {
    pub(crate) source: ConstraintSource,
    _handle: Share,
}

type Made = wasmtime::Result<Result<Resource<ConstraintHandle>, types::Error>>;

async fn make<T: Send>(accessor: &Accessor<T, HostData>, spec: ConstraintSpec) -> Made {
    let run = accessor.with(|mut access| Arc::clone(&access.get().run));
    let made = async {
        let handle = run.ledger.take(Held::Handles, 1)?;
        let source = ConstraintSource::new(&run, spec).await?;
        Ok::<_, Error>(ConstraintHandle { source, _handle: handle })
    };
    match made.await {
        Ok(constraint) => Ok(Ok(accessor.with(|mut access| access.get().table.push(constraint))?)),
        Err(error) => Ok(Err(error.into())),
    }
}

impl<T: Send> HostConstraintWithStore<T> for HostData {
    async fn regex(accessor: &Accessor<T, Self>, pattern: String) -> Made {
        make(accessor, ConstraintSpec::Regex(pattern.into())).await
    }

    async fn choices(accessor: &Accessor<T, Self>, choices: Vec<String>) -> Made {
        make(accessor, ConstraintSpec::Choices(choices.into())).await
    }

    async fn json_schema(accessor: &Accessor<T, Self>, schema: String) -> Made {
        make(accessor, ConstraintSpec::JsonSchema(schema.into())).await
    }

    async fn lark(accessor: &Accessor<T, Self>, grammar: String) -> Made {
        make(accessor, ConstraintSpec::Lark(grammar.into())).await
    }

    async fn structural_tag(accessor: &Accessor<T, Self>, tags: String) -> Made {
        make(accessor, ConstraintSpec::StructuralTag(tags.into())).await
    }
}

impl HostConstraint for Host {
    fn drop(&mut self, constraint: Resource<ConstraintHandle>) -> wasmtime::Result<()> {
        self.table.delete(constraint)?;
        Ok(())
    }
}
