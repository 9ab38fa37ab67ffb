//! `lm`: models, and the resources around a context. One file per resource.

#![allow(unreachable_pub, reason = "generated bindings name the handles, and want them `pub`")]

mod call;
mod constraint;
mod context;
mod image;
mod options;
mod outcome;

pub use call::CallHandle;
pub use constraint::ConstraintHandle;
pub use context::ContextHandle;
pub use image::ImageHandle;
pub use options::OptionsHandle;
pub use outcome::OutcomeHandle;

use crate::bindings::sgl::program::lm::Host as LmHost;
use crate::bindings::sgl::program::types;
use crate::host::Host;

impl LmHost for Host {
    fn models(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.run.engine.models().iter().map(|model| model.name.clone()).collect())
    }

    fn context_length(&mut self, model: Option<String>) -> wasmtime::Result<Result<u32, types::Error>> {
        let length = |(_, model): (usize, std::sync::Arc<sglhost_engine::Model>)| model.context_length;
        let length = self.run.model(model.as_deref()).map(length);
        Ok(length.map(|length| u32::try_from(length).unwrap_or(u32::MAX)).map_err(Into::into))
    }

    fn accepts_images(&mut self, model: Option<String>) -> wasmtime::Result<Result<bool, types::Error>> {
        Ok(self.run.model(model.as_deref()).map(|_| false).map_err(Into::into))
    }
}
