//! Whose cache it is.

use std::sync::Arc;

use sglhost_core::TenantId;

/// The owner of cached tokens. Nothing cached under one namespace is ever read, counted or timed under another: a
/// shared prefix cache tells a neighbour what was asked (PromptPeek, NDSS'25; CVE-2025-46570). The one exception is
/// what the operator published, which is no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace {
    /// Who filled it.
    pub owner: Owner,
    /// The model whose KV it is.
    pub model: Arc<str>,
    /// The adapter applied to it, 0 for none.
    pub adapter: u32,
    /// Separates caches within a tenant; empty by default.
    pub salt: Arc<str>,
}

/// Who fills a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A tenant, for itself.
    Tenant(TenantId),
    /// The operator, for everybody.
    Operator,
}

impl Namespace {
    /// A tenant's default namespace on `model`.
    #[must_use]
    pub fn new(tenant: TenantId, model: Arc<str>) -> Self {
        Self { owner: Owner::Tenant(tenant), model, adapter: 0, salt: Arc::from("") }
    }

    /// What the operator published for `model`.
    #[must_use]
    pub fn published(model: Arc<str>) -> Self {
        Self { owner: Owner::Operator, model, adapter: 0, salt: Arc::from("") }
    }

    /// The published namespace that this one may read, unless it is that itself.
    pub(crate) fn readable(&self) -> Option<Self> {
        matches!(self.owner, Owner::Tenant(_))
            .then(|| Self { adapter: self.adapter, ..Self::published(self.model.clone()) })
    }
}
