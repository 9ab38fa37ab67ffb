//! How fast each pair of a head's elements is rotated: the base, and the scalings that stretch a context.
//!
//! Formulas as in transformers' `modeling_rope_utils.py`; llama.cpp's are the same but for the form in which its files
//! hold them. Computed in f64 and rounded once.

use std::f64::consts::PI;

/// Largest factor by which a context is stretched; the largest known is 128.
const FACTOR_MAX: f64 = 65_536.0;

/// Rotation of queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// What is done to them.
    pub scaling: RopeScaling,
    /// `[head_dim / 2]` numbers that the frequencies are divided by, as GGUF files hold Llama 3's scaling
    /// (`rope_freqs.weight`); empty where there are none.
    pub divisors: Vec<f32>,
}

/// How frequencies are changed so that a model reads longer texts than it was first trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All are divided by the factor.
    Linear {
        /// How many times longer texts become.
        factor: f64,
    },
    /// Llama 3.1: low frequencies are divided, high ones stay, and those between are blended.
    Llama3 {
        /// How many times longer texts become.
        factor: f64,
        /// Fewer turns than this within the original context make a low frequency.
        low_frequency_factor: f64,
        /// More turns than this make a high one.
        high_frequency_factor: f64,
        /// Tokens of the texts it was first trained on.
        original_context: f64,
    },
    /// YaRN (arXiv 2309.00071).
    Yarn {
        /// How many times longer texts become.
        factor: f64,
        /// Tokens of the texts it was first trained on.
        original_context: f64,
        /// Pairs with more turns than this within the original context stay.
        beta_fast: f64,
        /// Pairs with fewer are divided by the factor.
        beta_slow: f64,
        /// Multiplied with queries and with keys; by default `0.1 ln(factor) + 1`.
        attention_factor: Option<f64>,
        /// Whether the borders between the pairs are rounded outwards.
        truncate: bool,
    },
}

impl RopeConfig {
    /// Checks everything that does not depend on the head's size.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(self.theta.is_finite() && self.theta > 1.0) {
            return Err(format!("rope theta {} is not a number above 1", self.theta));
        }
        let factor = |name: &str, value: f64, least: f64| match value >= least && value <= FACTOR_MAX {
            true => Ok(()),
            false => Err(format!("rope scaling: {name} {value} is not in {least} to {FACTOR_MAX}")),
        };
        let context = |value: f64| match (1.0..=1e12).contains(&value) {
            true => Ok(()),
            false => Err(format!("rope scaling: an original context of {value} tokens")),
        };
        match self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor: by } => factor("factor", by, 1.0),
            RopeScaling::Llama3 { factor: by, low_frequency_factor, high_frequency_factor, original_context } => {
                factor("factor", by, 1.0)?;
                factor("low_freq_factor", low_frequency_factor, 1e-6)?;
                factor("high_freq_factor", high_frequency_factor, 1e-6)?;
                if high_frequency_factor <= low_frequency_factor {
                    return Err(format!(
                        "rope scaling: high_freq_factor {high_frequency_factor} is not above low_freq_factor \
                         {low_frequency_factor}"
                    ));
                }
                context(original_context)
            }
            RopeScaling::Yarn { factor: by, original_context, beta_fast, beta_slow, attention_factor, truncate: _ } => {
                factor("factor", by, 1.0)?;
                factor("beta_fast", beta_fast, 1e-6)?;
                factor("beta_slow", beta_slow, 1e-6)?;
                factor("attention factor", attention_factor.unwrap_or(1.0), 1e-6)?;
                context(original_context)
            }
        }
    }

    /// `[head_dim / 2]` radians per position of each rotated pair: `theta^(-2 i / head_dim)`, scaled.
    #[must_use]
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f32> {
        let scaled = |pair: usize| {
            let frequency = self.theta.powf(-2.0 * pair as f64 / head_dim as f64);
            let divisor = self.divisors.get(pair).copied().map_or(1.0, f64::from);
            (self.scale(pair, frequency, head_dim) / divisor) as f32
        };
        (0..head_dim / 2).map(scaled).collect()
    }

    fn scale(&self, pair: usize, frequency: f64, head_dim: usize) -> f64 {
        match self.scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context } => {
                let turns = original_context * frequency / (2.0 * PI);
                let range = high_frequency_factor - low_frequency_factor;
                let kept = ((turns - low_frequency_factor) / range).clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / factor)
            }
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor: _, truncate } => {
                // The pair that turns so often within the original context.
                let pair_of = |turns: f64| {
                    head_dim as f64 * (original_context / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (pair_of(beta_fast), pair_of(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                let divided = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (1.0 - divided + divided / factor)
            }
        }
    }

    /// What queries and keys are multiplied with each.
    #[must_use]
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { factor, attention_factor, .. } => {
                attention_factor.unwrap_or_else(|| yarn_attention_factor(factor, 1.0))
            }
            _ => 1.0,
        }
    }

    /// The longest text that the scaling is meant for, where it says.
    pub(crate) fn stretched_context(&self) -> Option<u64> {
        match self.scaling {
            RopeScaling::Yarn { factor, original_context, .. } => Some((factor * original_context) as u64),
            _ => None,
        }
    }
}

/// YaRN's remedy for flatter scores over longer texts.
pub(crate) fn yarn_attention_factor(factor: f64, multiplier: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * multiplier * factor.ln() + 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: RopeScaling) -> RopeConfig {
        RopeConfig { theta: 1e4, scaling, divisors: Vec::new() }
    }

    fn yarn(factor: f64) -> RopeScaling {
        RopeScaling::Yarn {
            factor,
            original_context: 4096.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            truncate: true,
        }
    }

    fn llama3(low: f64, high: f64) -> RopeScaling {
        let (low_frequency_factor, high_frequency_factor) = (low, high);
        RopeScaling::Llama3 { factor: 8.0, low_frequency_factor, high_frequency_factor, original_context: 8192.0 }
    }

    #[test]
    fn fast_pairs_stay_and_slow_ones_are_divided() {
        let plain = rope(RopeScaling::None).inverse_frequencies(128);
        assert_eq!((plain.len(), plain[0]), (64, 1.0));
        assert!((plain[32] - 0.01).abs() < 1e-9);
        for scaling in [yarn(8.0), llama3(1.0, 4.0)] {
            let scaled = rope(scaling.clone()).inverse_frequencies(128);
            assert_eq!(scaled[0], 1.0, "{scaling:?}");
            assert!((scaled[63] * 8.0 / plain[63] - 1.0).abs() < 1e-6, "{scaling:?}");
            assert!(scaled.is_sorted_by(|a, b| a > b), "{scaling:?}");
        }
        let linear = rope(RopeScaling::Linear { factor: 4.0 }).inverse_frequencies(128);
        assert!(linear.iter().zip(&plain).all(|(scaled, plain)| scaled * 4.0 == *plain));
    }

    #[test]
    fn divisors_divide() {
        let divided = RopeConfig { divisors: vec![1.0, 2.0], ..rope(RopeScaling::None) }.inverse_frequencies(4);
        assert_eq!(divided, [1.0, 0.005]);
    }

    #[test]
    fn only_yarn_scales_attention() {
        assert_eq!(rope(llama3(1.0, 4.0)).attention_factor(), 1.0);
        assert!((rope(yarn(4.0)).attention_factor() - 1.138_629_436_111_989).abs() < 1e-12);
        assert_eq!(rope(yarn(1.0)).attention_factor(), 1.0);
    }

    #[test]
    fn refuses_what_cannot_be() {
        for (scaling, expect) in [
            (RopeScaling::Linear { factor: 0.0 }, "factor 0 is not in 1"),
            (RopeScaling::Linear { factor: f64::NAN }, "factor NaN"),
            (yarn(1e9), "factor 1000000000"),
            (llama3(4.0, 4.0), "high_freq_factor 4 is not above"),
        ] {
            let message = rope(scaling).check().map_or_else(|reason| reason, |()| String::new());
            assert!(message.contains(expect), "{message}");
        }
        assert!(RopeConfig { theta: 1.0, ..rope(RopeScaling::None) }.check().is_err());
    }
}
