//! Identifiers, a type each, so that one is never passed for another.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A token of the model's vocabulary: its row in the embedding.
pub type TokenId = u32;

/// Who pays and whose cache it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub Arc<str>);

impl TenantId {
    /// The one tenant of a host without tenants.
    #[must_use]
    pub fn local() -> Self {
        Self(Arc::from("local"))
    }
}

/// A program by its content: the lower-case hexadecimal SHA-256 of its component.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProgramId(pub Arc<str>);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One instance of a program, from start to finish. Unique within a process.
    RunId(u64)
}
number! {
    /// A context within its run; 0 is the first one opened.
    ContextId(u32)
}
number! {
    /// A call (`generate`, `select`, `score`, `next-tokens`) within its run.
    CallId(u32)
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
