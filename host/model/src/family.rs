//! The families of models that are served, and what tells them apart.
//!
//! All are one decoder: a norm, attention with rotated queries and keys, a norm, a gated MLP. Differences that a file
//! states as numbers are in the configuration; those that only its family's name implies are here.

use crate::checkpoint::LayerTensor;

/// A family of decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama, and what is built like one (SmolLM2).
    Llama,
    /// Mistral: a Llama whose attention may reach back a window only. Its GGUF files say `llama`.
    Mistral,
    /// Qwen2 and Qwen2.5: biases on Q, K and V.
    Qwen2,
    /// Qwen3: the heads of Q and K are normalised before they are rotated.
    Qwen3,
}

/// What transformers takes where `config.json` leaves a field out.
pub(crate) struct Defaults {
    /// None: as many as query heads.
    pub(crate) kv_heads: Option<u64>,
    /// None: hidden size over heads.
    pub(crate) head_dim: Option<u64>,
    pub(crate) context_length: u64,
    pub(crate) window: Option<u64>,
}

impl Family {
    const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// As `model_type` and GGUF files write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The class of transformers.
    fn class(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// By `architectures` of a `config.json`, or by its `model_type` where it names none.
    pub(crate) fn of_hugging_face(class: Option<&str>, model_type: Option<&str>) -> Result<Self, String> {
        let named = |family: &&Self| match class {
            Some(class) => family.class() == class,
            None => model_type == Some(family.name()),
        };
        Self::ALL.iter().find(named).copied().ok_or_else(|| {
            let found = class.or(model_type).unwrap_or("none named");
            format!("architecture {found}; {} are supported", list(Self::ALL.map(Self::class)))
        })
    }

    /// By `general.architecture` of a GGUF file.
    pub(crate) fn of_gguf(architecture: &str) -> Result<Self, String> {
        let known = [Self::Llama, Self::Qwen2, Self::Qwen3];
        known
            .into_iter()
            .find(|family| family.name() == architecture)
            .ok_or_else(|| format!("architecture {architecture:?}; {} are supported", list(known.map(Self::name))))
    }

    pub(crate) fn defaults(self) -> Defaults {
        let (kv_heads, head_dim, context_length, window) = match self {
            Self::Llama => (None, None, 2048, None),
            Self::Mistral => (Some(8), None, 131_072, Some(4096)),
            Self::Qwen2 => (Some(32), None, 32_768, Some(4096)),
            Self::Qwen3 => (Some(32), Some(128), 32_768, Some(4096)),
        };
        Defaults { kv_heads, head_dim, context_length, window }
    }

    /// Whether a window counts only where `use_sliding_window` says so, and from `max_window_layers` on.
    pub(crate) fn window_is_optional(self) -> bool {
        matches!(self, Self::Qwen2 | Self::Qwen3)
    }

    /// Whether each head of Q and K has a norm of its own.
    pub(crate) fn has_head_norms(self) -> bool {
        self == Self::Qwen3
    }

    /// Whether a file without this bias is damaged. Elsewhere a bias is optional.
    pub(crate) fn must_have_bias(self, tensor: LayerTensor) -> bool {
        self == Self::Qwen2 && matches!(tensor, LayerTensor::Query | LayerTensor::Key | LayerTensor::Value)
    }

    /// Whether llama.cpp rotates neighbouring pairs and so keeps rows of Q and K interleaved; it rotates halves of the
    /// others, as is done here.
    pub(crate) fn is_interleaved_in_gguf(self) -> bool {
        matches!(self, Self::Llama | Self::Mistral)
    }
}

fn list<const N: usize>(names: [&str; N]) -> String {
    let (last, rest) = (names[N - 1], &names[..N - 1]);
    format!("{} and {last}", rest.join(", "))
}
