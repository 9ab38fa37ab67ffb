//! `image`: not served yet. The resource exists, because the contract is settled; none can be made.

use sglhost_core::{Error, ErrorCode};
use wasmtime::component::{Accessor, Resource};

use crate::bindings::sgl::program::lm::{HostImage, HostImageWithStore};
use crate::bindings::sgl::program::types;
use crate::host::Host;
use crate::interface::HostData;

/// There is none: no image can be decoded.
#[derive(Debug)]
pub enum ImageHandle {}

/// Why.
pub(crate) fn unsupported() -> Error {
    Error::new(ErrorCode::Unsupported, "no model served here takes images; `accepts-images` tells beforehand")
}

impl<T: Send> HostImageWithStore<T> for HostData {
    async fn decode(
        _accessor: &Accessor<T, Self>,
        _bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<Resource<ImageHandle>, types::Error>> {
        Ok(Err(unsupported().into()))
    }
}

impl HostImage for Host {
    fn width(&mut self, image: Resource<ImageHandle>) -> wasmtime::Result<u32> {
        match *self.table.get(&image)? {}
    }

    fn height(&mut self, image: Resource<ImageHandle>) -> wasmtime::Result<u32> {
        match *self.table.get(&image)? {}
    }

    fn drop(&mut self, image: Resource<ImageHandle>) -> wasmtime::Result<()> {
        match self.table.delete(image)? {}
    }
}
