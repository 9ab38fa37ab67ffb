//! From one generic routine to a compiled form for each instruction set.

/// Defines a public function that takes an `Isa` first and runs `$generic` compiled for it.
///
/// `$generic` must be `#[inline(always)]` all the way down to the intrinsics: what is inlined into the functions below
/// is compiled with their features. Closures are not to be trusted with that and are avoided in kernels.
macro_rules! dispatched {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $generic:path
    ) => {
        dispatched!(@ [$(#[$meta])*] [$vis] [] $name [$($arg: $ty),*] [$(-> $ret)?] $generic);
    };
    (
        $(#[$meta:meta])*
        $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $generic:path
    ) => {
        dispatched!(@ [$(#[$meta])*] [$vis] [unsafe] $name [$($arg: $ty),*] [$(-> $ret)?] $generic);
    };
    (
        @ [$(#[$meta:meta])*] [$vis:vis] [$($unsafe:tt)?] $name:ident [$($arg:ident: $ty:ty),*] [$($ret:tt)*]
        $generic:path
    ) => {
        $(#[$meta])*
        $vis $($unsafe)? fn $name(isa: $crate::cpu::Isa, $($arg: $ty),*) $($ret)* {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
            #[allow(unused_unsafe, reason = "some routines are unsafe themselves, some are not")]
            unsafe fn avx512(token: $crate::cpu::lanes_avx512::Avx512, $($arg: $ty),*) $($ret)* {
                // SAFETY: the caller keeps the routine's own contract, if it has one.
                unsafe { $generic(token, $($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(unused_unsafe, reason = "some routines are unsafe themselves, some are not")]
            unsafe fn avx2(token: $crate::cpu::lanes_avx2::Avx2, $($arg: $ty),*) $($ret)* {
                // SAFETY: the caller keeps the routine's own contract, if it has one.
                unsafe { $generic(token, $($arg),*) }
            }
            #[allow(unused_unsafe, reason = "some routines are unsafe themselves, some are not")]
            match isa.0 {
                // SAFETY: the token proves that the machine has the instructions; the contract is passed on.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Set::Avx512(token) => unsafe { avx512(token, $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Set::Avx2(token) => unsafe { avx2(token, $($arg),*) },
                // SAFETY: the contract is passed on.
                $crate::cpu::isa::Set::Portable(token) => unsafe { $generic(token, $($arg),*) },
            }
        }
    };
}
