//! Which instructions the machine has.

use super::lanes::Portable;
#[cfg(target_arch = "x86_64")]
use super::{lanes_avx2::Avx2, lanes_avx512::Avx512};

/// An instruction set that the running machine has. A value is the proof: there is no other way to get one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(pub(super) Set);

/// The token that each compiled form of a routine takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// What every target has; vectorised by the compiler.
    Portable(Portable),
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512 F, BW, VL, DQ and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Isa {
    /// The best set of this machine.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or_else(Self::portable)
    }

    /// The set that every machine has.
    #[must_use]
    pub fn portable() -> Self {
        Self(Set::Portable(Portable))
    }

    /// All sets of this machine, the best last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "only x86-64 has more than one")]
        let mut sets = vec![Self::portable()];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(Avx2::detect().map(|token| Self(Set::Avx2(token))));
            sets.extend(Avx512::detect().map(|token| Self(Set::Avx512(token))));
        }
        sets
    }

    /// Its name for people: `portable`, `avx2` or `avx512-vnni`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => "avx512-vnni",
        }
    }
}
