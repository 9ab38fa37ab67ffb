//! Kernels launched without the device between: by calls of the driver.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::{
    ffi::{CString, c_void},
    ptr::null_mut,
};

use cudarc::driver::sys::{self, CUdeviceptr, CUfunction, CUresult};

use crate::twin;

/// An argument of a kernel.
pub(crate) enum Argument<'a> {
    /// Words that it reads, and may write.
    Words(&'a [u32]),
    /// A number.
    Number(u32),
}

fn check(result: CUresult) {
    assert_eq!(result, CUresult::CUDA_SUCCESS);
}

/// The kernels' module in the primary context, which is current as long as this lives.
struct Module(sys::CUmodule);

impl Module {
    fn load() -> Self {
        twin::load();
        let gpu = sglhost_device::cuda::probe().unwrap();
        let image = sglhost_kernels::cuda::image(gpu.compute.0, gpu.compute.1).unwrap();
        let (mut context, mut module) = (null_mut(), null_mut());
        // SAFETY: the driver was started by `probe`; the image is one of its own.
        unsafe {
            check(sys::cuDevicePrimaryCtxRetain(&raw mut context, 0));
            check(sys::cuCtxSetCurrent(context));
            check(sys::cuModuleLoadData(&raw mut module, image.bytes.as_ptr().cast()));
        }
        Self(module)
    }

    fn function(&self, name: &str) -> CUfunction {
        let (name, mut function) = (CString::new(name).unwrap(), null_mut());
        // SAFETY: the module is loaded.
        check(unsafe { sys::cuModuleGetFunction(&raw mut function, self.0, name.as_ptr()) });
        function
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: nothing of it is in flight: every launch here is waited for.
        unsafe {
            check(sys::cuModuleUnload(self.0));
            check(sys::cuDevicePrimaryCtxRelease_v2(0));
        }
    }
}

/// Words on the device.
fn memory(words: &[u32]) -> CUdeviceptr {
    let mut memory = 0;
    // SAFETY: the context is current; the copy is waited for.
    unsafe {
        check(sys::cuMemAlloc_v2(&raw mut memory, size_of_val(words)));
        check(sys::cuMemcpyHtoD_v2(memory, words.as_ptr().cast(), size_of_val(words)));
    }
    memory
}

/// Launches one warp of a kernel.
fn start(function: CUfunction, shared: u32, values: &mut [u64], stream: sys::CUstream) {
    let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| (&raw mut *value).cast()).collect();
    let parameters = pointers.as_mut_ptr();
    // SAFETY: the driver copies as many arguments as the kernel has before it returns.
    check(unsafe { sys::cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, shared, stream, parameters, null_mut()) });
}

/// Launches one warp of `kernel` and gives the words of argument `out` after it.
pub(crate) fn launch(kernel: &str, shared: u32, arguments: &[Argument], out: usize) -> Vec<u32> {
    let module = Module::load();
    let value = |argument: &Argument| match argument {
        Argument::Words(words) => memory(words),
        Argument::Number(number) => u64::from(*number),
    };
    let mut values: Vec<u64> = arguments.iter().map(value).collect();
    start(module.function(kernel), shared, &mut values, null_mut());
    let Argument::Words(words) = arguments[out] else { panic!("a number is no result") };
    let mut result = words.to_vec();
    // SAFETY: the copy waits for the kernel; memory is given back after it.
    unsafe {
        check(sys::cuMemcpyDtoH_v2(result.as_mut_ptr().cast(), values[out], size_of_val(words)));
        for (value, argument) in values.into_iter().zip(arguments) {
            if matches!(argument, Argument::Words(_)) {
                check(sys::cuMemFree_v2(value));
            }
        }
    }
    result
}

/// Records a kernel, gives its memory back, and launches the recording.
pub(crate) fn replay_after_free() {
    let module = Module::load();
    let (x, out) = (memory(&[1; 32]), memory(&[0; 7 * 32]));
    let (mut stream, mut graph, mut executable) = (null_mut(), null_mut(), null_mut());
    // SAFETY: all handles live to the end; that memory is used after it was given back is what this is about.
    unsafe {
        check(sys::cuStreamCreate(&raw mut stream, sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32));
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        check(sys::cuStreamBeginCapture_v2(stream, mode));
        start(module.function("probe_shuffles"), 0, &mut [x, out], stream);
        check(sys::cuStreamEndCapture(stream, &raw mut graph));
        check(sys::cuGraphInstantiateWithFlags(&raw mut executable, graph, 0));
        check(sys::cuMemFree_v2(out));
        check(sys::cuGraphLaunch(executable, stream));
        check(sys::cuStreamSynchronize(stream));
    }
}
