//! `context`: one conversation. Every method queues an operation on the context's task.

use std::sync::Arc;

use rand::Rng as _;
use sglhost_core::{Error, limits};
use tokio::sync::oneshot;
use wasmtime::component::{Accessor, Resource};

use crate::bindings::sgl::program::lm::{HostContext, HostContextWithStore};
use crate::bindings::sgl::program::types;
use crate::call::{CallGuard, CallState, CallTicket, KeptOutcome};
use crate::host::{Host, RunShared};
use crate::interface::HostData;
use crate::interface::lm::options::CallOptions;
use crate::interface::lm::{CallHandle, ImageHandle, OptionsHandle, image};
use crate::interface::types::logprobs;
use crate::ledger::Held;
use crate::operation::{Operation, Reply, Wanted};
use crate::queue::ContextQueue;

/// A context in the guest's hands; dropping it lets what is queued go on.
#[derive(Debug)]
pub struct ContextHandle {
    queue: Arc<ContextQueue>,
}

/// What a role's markers count for in the bytes a run holds; templates write less.
const ROLE_MARKUP_BYTES: usize = 64;

type Context = Resource<ContextHandle>;
type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

impl Host {
    fn queue(&self, context: &Context) -> wasmtime::Result<&Arc<ContextQueue>> {
        Ok(&self.table.get(context)?.queue)
    }

    fn append(&self, context: &Context, bytes: usize, operation: Operation) -> Answer<()> {
        Ok(self.queue(context)?.append(bytes, operation).map_err(Into::into))
    }

    fn options(&mut self, options: &Resource<OptionsHandle>) -> wasmtime::Result<Result<CallOptions, Error>> {
        let random = &mut self.random;
        Ok(self.table.get(options)?.read(|| random.next_u64()))
    }

    /// Queues a call and gives the guest its end of it.
    fn start(
        &mut self,
        context: &Context,
        name: Option<String>,
        bytes: usize,
        wanted: Wanted,
    ) -> Answer<Resource<CallHandle>> {
        let queue = Arc::clone(self.queue(context)?);
        let started = self.run.ledger.take(Held::Handles, 1).and_then(|handle| {
            let call = start(&self.run, &queue, name, bytes, wanted)?;
            Ok(CallHandle { call, model: Arc::clone(&queue.model), _handle: handle })
        });
        match started {
            Ok(call) => Ok(Ok(self.table.push(call)?)),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

fn start(
    run: &RunShared,
    queue: &ContextQueue,
    name: Option<String>,
    bytes: usize,
    wanted: Wanted,
) -> Result<CallGuard, Error> {
    let call = CallState::new(run, name)?;
    queue.push(bytes, Operation::Call { ticket: CallTicket(Arc::clone(&call)), wanted })?;
    Ok(CallGuard(call))
}

/// The run and the context's queue, without keeping the store.
fn queue_of<T: Send>(
    accessor: &Accessor<T, HostData>,
    context: &Context,
) -> wasmtime::Result<(Arc<RunShared>, Arc<ContextQueue>)> {
    accessor.with(|mut access| {
        let host = access.get();
        Ok((Arc::clone(&host.run), Arc::clone(host.queue(context)?)))
    })
}

/// Queues a question and waits for its answer.
async fn ask<V>(queue: &ContextQueue, question: impl FnOnce(Reply<V>) -> Operation) -> Result<V, Error> {
    let (reply, answer) = oneshot::channel();
    queue.push(0, question(reply))?;
    answer.await.unwrap_or_else(|_| Err(Error::unavailable("the context is gone: its run is ending")))
}

/// Queues a call whose outcome is all the guest wants of it; dropping the future cancels it.
async fn measure(
    run: &RunShared,
    queue: &ContextQueue,
    bytes: usize,
    wanted: Wanted,
) -> Result<Arc<KeptOutcome>, Error> {
    let call = start(run, queue, None, bytes, wanted)?;
    call.0.finished().await
}

impl<T: Send> HostContextWithStore<T> for HostData {
    async fn score(accessor: &Accessor<T, Self>, context: Context, text: String) -> Answer<Vec<types::TokenLogprob>> {
        let (run, queue) = queue_of(accessor, &context)?;
        let measured = measure(&run, &queue, text.len(), Wanted::Score { text }).await;
        Ok(measured.map(|kept| logprobs(&queue.model.tokenizer, &kept.outcome.logprobs)).map_err(Into::into))
    }

    async fn next_tokens(
        accessor: &Accessor<T, Self>,
        context: Context,
        count: u32,
    ) -> Answer<Vec<types::TokenLogprob>> {
        let (run, queue) = queue_of(accessor, &context)?;
        let measured = measure(&run, &queue, 0, Wanted::NextTokens { count }).await;
        Ok(measured.map(|kept| logprobs(&queue.model.tokenizer, &kept.outcome.logprobs)).map_err(Into::into))
    }

    async fn truncate(accessor: &Accessor<T, Self>, context: Context, tokens: u32) -> Answer<()> {
        let (_, queue) = queue_of(accessor, &context)?;
        let answer = ask(&queue, |reply| Operation::Truncate { tokens: tokens as usize, reply }).await;
        Ok(answer.map_err(Into::into))
    }

    async fn token_count(accessor: &Accessor<T, Self>, context: Context) -> Answer<u32> {
        let (_, queue) = queue_of(accessor, &context)?;
        Ok(ask(&queue, |reply| Operation::TokenCount { reply }).await.map_err(Into::into))
    }

    async fn text(accessor: &Accessor<T, Self>, context: Context) -> Answer<String> {
        let (_, queue) = queue_of(accessor, &context)?;
        let answer = ask(&queue, |reply| Operation::Text { reply }).await;
        Ok(answer.map(|(text, _held)| text).map_err(Into::into))
    }
}

impl HostContext for Host {
    fn create(&mut self, model: Option<String>) -> Answer<Context> {
        match ContextQueue::open(&self.run, model.as_deref()) {
            Ok(queue) => Ok(Ok(self.table.push(ContextHandle { queue: Arc::new(queue) })?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn append(&mut self, context: Context, text: String) -> Answer<()> {
        Host::append(self, &context, text.len(), Operation::Append(text))
    }

    fn append_markup(&mut self, context: Context, text: String) -> Answer<()> {
        Host::append(self, &context, text.len(), Operation::AppendMarkup(text))
    }

    fn append_tokens(&mut self, context: Context, tokens: Vec<u32>) -> Answer<()> {
        Host::append(self, &context, size_of_val(tokens.as_slice()), Operation::AppendTokens(tokens))
    }

    fn append_image(&mut self, _context: Context, _image: Resource<ImageHandle>) -> Answer<()> {
        Ok(Err(image::unsupported().into()))
    }

    fn begin_role(&mut self, context: Context, role: String) -> Answer<()> {
        Host::append(self, &context, role.len() + ROLE_MARKUP_BYTES, Operation::BeginRole(role))
    }

    fn end_role(&mut self, context: Context) -> Answer<()> {
        Host::append(self, &context, ROLE_MARKUP_BYTES, Operation::EndRole)
    }

    fn generate(&mut self, context: Context, options: Resource<OptionsHandle>) -> Answer<Resource<CallHandle>> {
        match self.options(&options)? {
            Ok(CallOptions { name, params, constraint, .. }) => {
                let stop = params.stop.strings.iter().chain(&params.stop.regexes).map(String::len).sum::<usize>();
                self.start(&context, name, stop, Wanted::Generate { params, constraint })
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn select(
        &mut self,
        context: Context,
        choices: Vec<String>,
        options: Resource<OptionsHandle>,
    ) -> Answer<Resource<CallHandle>> {
        let max = limits::CHOICES_MAX;
        if choices.len() > max {
            let count = choices.len();
            return Ok(
                Err(Error::limit(format!("{count} choices; a select takes at most {max} (CHOICES_MAX)")).into()),
            );
        }
        match self.options(&options)? {
            Ok(CallOptions { name, method, .. }) => {
                let bytes = choices.iter().map(String::len).sum();
                self.start(&context, name, bytes, Wanted::Select { choices, method })
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn fork(&mut self, context: Context) -> Answer<Context> {
        match self.queue(&context)?.fork() {
            Ok(queue) => Ok(Ok(self.table.push(ContextHandle { queue: Arc::new(queue) })?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    fn drop(&mut self, context: Context) -> wasmtime::Result<()> {
        self.table.delete(context)?;
        Ok(())
    }
}
