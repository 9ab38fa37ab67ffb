//! `options`: how to sample and when to stop, collected one setter at a time.
//!
//! A setter cannot answer; what is wrong with its value is told by the call that uses the options.

use sglhost_core::{ChoicesMethod, Error, SamplingParams, limits};
use wasmtime::component::Resource;

use crate::bindings::sgl::program::lm::HostOptions;
use crate::constraints::ConstraintSource;
use crate::host::Host;
use crate::interface::lm::ConstraintHandle;
use crate::ledger::{Held, Share};

/// Bytes of the name of a result.
const NAME_BYTES_MAX: usize = 256;

/// Options in the guest's hands.
#[derive(Debug)]
pub struct OptionsHandle {
    name: Option<String>,
    params: SamplingParams,
    method: ChoicesMethod,
    constraint: Option<ConstraintSource>,
    /// The first thing that was wrong.
    error: Option<Error>,
    _handle: Option<Share>,
    /// Of the strings and lists in it.
    bytes: Option<Share>,
}

impl OptionsHandle {
    fn new(host: &Host) -> Self {
        let take = |what, amount| host.run.ledger.take(what, amount);
        let (handle, bytes, error) = match (take(Held::Handles, 1), take(Held::Bytes, 0)) {
            (Ok(handle), Ok(bytes)) => (Some(handle), Some(bytes), None),
            (Err(error), _) | (_, Err(error)) => (None, None, Some(error)),
        };
        Self {
            name: None,
            params: host.defaults.clone(),
            method: ChoicesMethod::default(),
            constraint: None,
            error,
            _handle: handle,
            bytes,
        }
    }

    /// Counts `bytes` that a setter is about to keep; false, with the error noted, if it may not.
    fn keep(&mut self, bytes: usize) -> bool {
        if self.error.is_none() {
            self.error = self.bytes.as_mut().and_then(|share| share.grow(bytes).err());
        }
        self.error.is_none()
    }

    /// Notes what is wrong, unless something was before.
    fn wrong(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// One more stop condition of `bytes`, within the limits.
    fn keep_stop(&mut self, bytes: usize) -> bool {
        let stop = &self.params.stop;
        let (count, bytes_max) = (limits::STOP_CONDITIONS_MAX, limits::STOP_BYTES_MAX);
        if stop.strings.len() + stop.tokens.len() + stop.regexes.len() >= count {
            self.wrong(Error::limit(format!("a call takes at most {count} stop conditions (STOP_CONDITIONS_MAX)")));
        } else if bytes > bytes_max {
            self.wrong(Error::limit(format!(
                "a stop condition of {bytes} bytes; the limit is {bytes_max} (STOP_BYTES_MAX)"
            )));
        }
        self.keep(bytes)
    }

    /// Everything, checked. `seed` is drawn for a call that brings none.
    pub(crate) fn read(&self, seed: impl FnOnce() -> u64) -> Result<CallOptions, Error> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let mut params = self.params.clone();
        params.validate()?;
        params.seed.get_or_insert_with(seed);
        Ok(CallOptions {
            name: self.name.clone(),
            params: Box::new(params),
            method: self.method,
            constraint: self.constraint.clone(),
        })
    }
}

/// The options of one call.
#[derive(Debug)]
pub(crate) struct CallOptions {
    pub(crate) name: Option<String>,
    pub(crate) params: Box<SamplingParams>,
    pub(crate) method: ChoicesMethod,
    pub(crate) constraint: Option<ConstraintSource>,
}

type Options = Resource<OptionsHandle>;

macro_rules! setters {
    ($($name:ident: $field:ident, $value:ty;)*) => {
        $(fn $name(&mut self, options: Options, value: $value) -> wasmtime::Result<()> {
            self.table.get_mut(&options)?.params.$field = value;
            Ok(())
        })*
    };
}

impl HostOptions for Host {
    setters! {
        max_tokens: max_tokens, u32;
        min_tokens: min_tokens, u32;
        temperature: temperature, f32;
        top_p: top_p, f32;
        top_k: top_k, i32;
        min_p: min_p, f32;
        frequency_penalty: frequency_penalty, f32;
        presence_penalty: presence_penalty, f32;
        repetition_penalty: repetition_penalty, f32;
        ignore_eos: ignore_eos, bool;
        no_stop_trim: no_stop_trim, bool;
        skip_special_tokens: skip_special_tokens, bool;
    }

    fn new(&mut self) -> wasmtime::Result<Options> {
        let options = OptionsHandle::new(self);
        Ok(self.table.push(options)?)
    }

    fn name(&mut self, options: Options, name: String) -> wasmtime::Result<()> {
        let options = self.table.get_mut(&options)?;
        if name.len() > NAME_BYTES_MAX {
            let bytes = name.len();
            options.wrong(Error::limit(format!("a name of {bytes} bytes; the limit is {NAME_BYTES_MAX}")));
        } else {
            options.name = Some(name);
        }
        Ok(())
    }

    fn stop(&mut self, options: Options, text: String) -> wasmtime::Result<()> {
        let options = self.table.get_mut(&options)?;
        if options.keep_stop(text.len()) {
            options.params.stop.strings.push(text);
        }
        Ok(())
    }

    fn stop_token(&mut self, options: Options, token: u32) -> wasmtime::Result<()> {
        let options = self.table.get_mut(&options)?;
        if options.keep_stop(size_of::<u32>()) {
            options.params.stop.tokens.push(token);
        }
        Ok(())
    }

    fn stop_regex(&mut self, options: Options, pattern: String) -> wasmtime::Result<()> {
        let options = self.table.get_mut(&options)?;
        if options.keep_stop(pattern.len()) {
            options.params.stop.regexes.push(pattern);
        }
        Ok(())
    }

    fn seed(&mut self, options: Options, seed: u64) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.params.seed = Some(seed);
        Ok(())
    }

    fn logit_bias(&mut self, options: Options, token: u32, bias: f32) -> wasmtime::Result<()> {
        let options = self.table.get_mut(&options)?;
        let max = limits::LOGIT_BIAS_MAX;
        if options.params.logit_bias.len() >= max {
            options.wrong(Error::limit(format!("a call may bias at most {max} tokens (LOGIT_BIAS_MAX)")));
        } else if options.keep(size_of::<(u32, f32)>()) {
            options.params.logit_bias.push((token, bias));
        }
        Ok(())
    }

    fn constrain(&mut self, options: Options, constraint: Resource<ConstraintHandle>) -> wasmtime::Result<()> {
        let source = self.table.get(&constraint)?.source.clone();
        self.table.get_mut(&options)?.constraint = Some(source);
        Ok(())
    }

    fn top_logprobs(&mut self, options: Options, count: u32) -> wasmtime::Result<()> {
        self.table.get_mut(&options)?.params.top_logprobs = Some(count);
        Ok(())
    }

    fn choices_method(&mut self, options: Options, method: String) -> wasmtime::Result<()> {
        let options = self.table.get_mut(&options)?;
        match method.parse() {
            Ok(method) => options.method = method,
            Err(error) => options.wrong(error),
        }
        Ok(())
    }

    fn drop(&mut self, options: Options) -> wasmtime::Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}
