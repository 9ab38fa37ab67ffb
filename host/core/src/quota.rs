//! What a tenant may use.

use serde::{Deserialize, Serialize};

/// What one tenant may use. A field that is left out of JSON has its default; one that is not known is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Tokens of prompts (cached ones count) and outputs. Calls under way are not cut: a run starts while any are left.
    pub tokens_per_minute: u64,
    /// CPU time of its programs' own code, counted likewise.
    pub cpu_ms_per_minute: u64,
    /// Runs at once; a waiting one counts.
    pub concurrent_runs_max: u32,
    /// Requests that are being answered at once: whoever waits for a run or follows its events is one as long.
    pub concurrent_requests_max: u32,
    /// Contexts that one run may have open.
    pub contexts_max: u32,
    /// Versions of programs that are kept.
    pub programs_max: u32,
    /// Bytes of those programs together.
    pub program_bytes_max: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            tokens_per_minute: 1_000_000,
            cpu_ms_per_minute: 60_000,
            concurrent_runs_max: 64,
            concurrent_requests_max: 512,
            contexts_max: 256,
            programs_max: 1000,
            program_bytes_max: 1 << 30,
        }
    }
}

impl Quotas {
    /// Of the one tenant of a server without tenants: nobody is kept from anything by it.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            tokens_per_minute: u64::MAX,
            cpu_ms_per_minute: u64::MAX,
            concurrent_runs_max: u32::MAX,
            concurrent_requests_max: u32::MAX,
            contexts_max: u32::MAX,
            programs_max: u32::MAX,
            program_bytes_max: u64::MAX,
        }
    }
}
