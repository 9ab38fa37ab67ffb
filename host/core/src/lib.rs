//! The nouns every floor shares: ids, sampling parameters, token masks, events, errors, limits and the clock.
//!
//! *Boundary*: no I/O, no async runtime, no wall clock, no environment. What varies from run to run (time, randomness)
//! is handed in.

pub mod clock;
pub mod error;
pub mod event;
pub mod id;
pub mod limits;
pub mod mask;
pub mod quota;
pub mod record;
pub mod sampling;

pub use clock::Clock;
pub use error::{Error, ErrorCode};
pub use event::{Event, FinishReason, Usage};
pub use id::{CallId, ContextId, ProgramId, RunId, TenantId, TokenId};
pub use mask::TokenMask;
pub use quota::Quotas;
pub use record::RunRecord;
pub use sampling::{ChoicesMethod, SamplingParams, StopConditions};
