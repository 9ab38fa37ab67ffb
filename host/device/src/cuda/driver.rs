//! What the driver answers, as errors: the one place that knows which of them a process survives.

use std::ffi::CStr;

use cudarc::driver::sys::{self, CUresult};

use crate::DeviceError;

/// Errors after which every further call fails: "the process must be terminated and relaunched" (CUDA driver API,
/// `CUresult`), and those of memory and links that come with them.
const STICKY: [CUresult; 17] = [
    CUresult::CUDA_ERROR_DEINITIALIZED,
    CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
    CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
    CUresult::CUDA_ERROR_CONTAINED,
    CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
    CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
    CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
    CUresult::CUDA_ERROR_ASSERT,
    CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
    CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
    CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    CUresult::CUDA_ERROR_INVALID_PC,
    CUresult::CUDA_ERROR_LAUNCH_FAILED,
    CUresult::CUDA_ERROR_TENSOR_MEMORY_LEAK,
    CUresult::CUDA_ERROR_MPS_CLIENT_TERMINATED,
    CUresult::CUDA_ERROR_EXTERNAL_DEVICE,
];

/// What `call` answered.
pub(super) fn check(call: &'static str, result: CUresult) -> Result<(), DeviceError> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let reason = describe(result);
    if STICKY.contains(&result) {
        return Err(DeviceError::Lost { call, reason });
    }
    Err(DeviceError::Driver { call, reason })
}

/// As [`check`], of a call that takes `bytes` for `what`.
pub(super) fn check_memory(
    call: &'static str,
    result: CUresult,
    what: &'static str,
    bytes: usize,
) -> Result<(), DeviceError> {
    if result == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        return Err(DeviceError::OutOfMemory { what, bytes });
    }
    check(call, result)
}

/// An error as the driver names it.
#[allow(unsafe_code, reason = "calls of the driver")]
pub(super) fn describe(result: CUresult) -> String {
    type Text = unsafe fn(CUresult, *mut *const std::ffi::c_char) -> CUresult;
    let text = |call: Text| {
        let mut text = std::ptr::null();
        // SAFETY: the driver leaves null or a string of its own that stays.
        unsafe {
            let found = call(result, &raw mut text) == CUresult::CUDA_SUCCESS && !text.is_null();
            found.then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    match (text(sys::cuGetErrorName), text(sys::cuGetErrorString)) {
        (Some(name), Some(string)) => format!("{name}: {string}"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => format!("error {}", result as u32),
    }
}
