//! A call's text as a component-model stream.
//!
//! Reading is all that happens here: text is generated and kept whether anyone polls this or not.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use wasmtime::StoreContextMut;
use wasmtime::component::{Destination, StreamProducer, StreamResult};

use crate::call::CallState;

/// Hands a call's text to the guest in pieces, each all that arrived since the last.
#[derive(Debug)]
pub(crate) struct TextStream {
    call: Arc<CallState>,
    /// Bytes handed out.
    read: usize,
}

impl TextStream {
    pub(crate) fn new(call: Arc<CallState>) -> Self {
        Self { call, read: 0 }
    }
}

impl<D> StreamProducer<D> for TextStream {
    type Item = String;
    type Buffer = Option<String>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, String, Option<String>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = self.get_mut();
        if destination.remaining(store) == Some(0) {
            // The guest asks whether there is anything to read, without reading it.
            return match this.call.poll_readable(context, this.read) {
                Poll::Ready(()) => Poll::Ready(Ok(StreamResult::Completed)),
                Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
                Poll::Pending => Poll::Pending,
            };
        }
        match this.call.poll_text(context, &mut this.read) {
            Poll::Ready(Some(piece)) => {
                destination.set_buffer(Some(piece));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(None) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}
