//! Whose cache it is.

use std::sync::Arc;

use sglhost_core::TenantId;

/// The owner of cached tokens. Nothing cached under one namespace is ever read, counted or timed under another: a
/// shared prefix cache tells a neighbour what was asked (PromptPeek, NDSS'25; CVE-2025-46570).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace {
    /// Who pays.
    pub tenant: TenantId,
    /// The model whose KV it is.
    pub model: Arc<str>,
    /// The adapter applied to it, 0 for none.
    pub adapter: u32,
    /// Separates caches within a tenant; empty by default.
    pub salt: Arc<str>,
}

impl Namespace {
    /// A tenant's default namespace on `model`.
    #[must_use]
    pub fn new(tenant: TenantId, model: Arc<str>) -> Self {
        Self { tenant, model, adapter: 0, salt: Arc::from("") }
    }
}
