//! What a body says of a run that is to begin.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sglhost_core::SamplingParams;
use sglhost_runtime::Program;

use super::whole;
use crate::heavy::Heavy;
use crate::object::Object;
use crate::{ApiError, StartRun, Tenant};

/// One run: all of it may be left out.
///
/// Arguments stay text until they are checked, one run's at a time: as values they take many times their text's memory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunFields {
    #[serde(default = "no_arguments")]
    pub(crate) arguments: Box<RawValue>,
    #[serde(default)]
    pub(crate) sampling: Object<Sampling>,
    #[serde(default, deserialize_with = "whole::optional")]
    pub(crate) seed: Option<u64>,
    #[serde(default, deserialize_with = "whole::required")]
    pub(crate) priority: i32,
}

/// `{}`.
pub(crate) fn no_arguments() -> Box<RawValue> {
    serde_json::value::to_raw_value(&serde_json::Map::new()).expect("an empty object is JSON")
}

/// What the program's calls start from, where they do not say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sampling {
    temperature: Option<f32>,
    #[serde(deserialize_with = "whole::optional")]
    max_tokens: Option<u32>,
    top_p: Option<f32>,
    #[serde(deserialize_with = "whole::optional")]
    top_k: Option<i32>,
    min_p: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    repetition_penalty: Option<f32>,
    ignore_eos: Option<bool>,
}

impl Sampling {
    fn params(&self) -> Result<SamplingParams, ApiError> {
        let default = SamplingParams::default();
        let params = SamplingParams {
            temperature: self.temperature.unwrap_or(default.temperature),
            max_tokens: self.max_tokens.unwrap_or(default.max_tokens),
            top_p: self.top_p.unwrap_or(default.top_p),
            top_k: self.top_k.unwrap_or(default.top_k),
            min_p: self.min_p.unwrap_or(default.min_p),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            ignore_eos: self.ignore_eos.unwrap_or(default.ignore_eos),
            ..default
        };
        params.validate().map_err(|error| ApiError::invalid(format!("sampling: {}", error.message)))?;
        Ok(params)
    }
}

impl RunFields {
    /// Checked: what is wrong with a request is told before a run begins.
    ///
    /// # Errors
    /// 400 naming the argument or the parameter.
    pub(crate) async fn check(self, heavy: &Heavy, tenant: &Tenant, program: &Program) -> Result<StartRun, ApiError> {
        let sampling = self.sampling.0.params()?;
        let (arguments, program) = (String::from(Box::<str>::from(self.arguments)), program.clone());
        let bytes = arguments.len();
        let check = move || {
            let value: Value = serde_json::from_str(&arguments)
                .map_err(|error| ApiError::invalid(format!("the arguments are not JSON: {error}")))?;
            program.description().check(&value)?;
            Ok::<_, ApiError>(arguments)
        };
        let arguments = heavy.run(tenant, bytes, check).await??;
        Ok(StartRun {
            arguments,
            sampling,
            seed: self.seed,
            priority: self.priority,
            detached: false,
            idempotency: None,
        })
    }
}
