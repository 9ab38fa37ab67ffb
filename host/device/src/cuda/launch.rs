//! The module of kernels, and how one is launched.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::{
    ffi::{CString, c_void},
    ptr::null_mut,
    sync::Arc,
};

use cudarc::driver::sys::{self, CUfunction, CUmodule, CUresult};
use sglhost_kernels::cuda::Image;

use super::{context::Context, driver::check, memory::Pointer};
use crate::DeviceError;

/// Shared memory that a block may have without asking.
const SHARED_UNASKED_BYTES: usize = 48 * 1024;

/// The loaded kernels.
#[derive(Debug)]
pub(super) struct Module {
    context: Arc<Context>,
    module: CUmodule,
    architecture: &'static str,
}

// SAFETY: the driver's handle may be used from any thread on which the context is current.
unsafe impl Send for Module {}

impl Module {
    /// Loads `image`, which the driver compiles first where it is PTX.
    pub(super) fn load(context: &Arc<Context>, image: Image) -> Result<Self, DeviceError> {
        let mut module = null_mut();
        // SAFETY: the image is a whole ELF file or PTX with a zero at its end, as `Image` promises.
        let result = unsafe { sys::cuModuleLoadData(&raw mut module, image.bytes.as_ptr().cast()) };
        check("cuModuleLoadData", result)?;
        Ok(Self { context: Arc::clone(context), module, architecture: image.architecture })
    }

    /// The kernel `name`, which may be launched with `shared` bytes of shared memory.
    pub(super) fn kernel(&self, name: &'static str, shared: usize) -> Result<Kernel, DeviceError> {
        let text = CString::new(name).unwrap_or_default();
        let mut function = null_mut();
        // SAFETY: module and name live; the driver writes a handle that lives as long as the module.
        let result = unsafe { sys::cuModuleGetFunction(&raw mut function, self.module, text.as_ptr()) };
        if result == CUresult::CUDA_ERROR_NOT_FOUND {
            let reason = format!("the kernels for {} lack {name}", self.architecture);
            return Err(DeviceError::Driver { call: "cuModuleGetFunction", reason });
        }
        check("cuModuleGetFunction", result)?;
        if shared > SHARED_UNASKED_BYTES {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the handle was just given.
            let result = unsafe { sys::cuFuncSetAttribute(function, attribute, shared as i32) };
            check("cuFuncSetAttribute", result)?;
        }
        Ok(Kernel { name, function })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // Kernels in flight use it. One that is lost runs nothing any more.
        let _ = self.context.synchronize();
        // SAFETY: the handle is ours; kernels are launched by the device alone, which drops its module with itself.
        unsafe {
            let _ = sys::cuModuleUnload(self.module);
        }
    }
}

/// A kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    name: &'static str,
    function: CUfunction,
}

// SAFETY: as for `Module`.
unsafe impl Send for Kernel {}

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Blocks.
    pub(super) grid: [usize; 3],
    /// Threads of a block.
    pub(super) block: [usize; 3],
    /// Dynamic shared memory of a block in bytes.
    pub(super) shared: usize,
}

impl Shape {
    /// `blocks` blocks of `threads` threads.
    pub(super) fn line(blocks: usize, threads: usize) -> Self {
        Self { grid: [blocks, 1, 1], block: [threads, 1, 1], shared: 0 }
    }
}

/// An argument of a kernel: the bits of a pointer, a `u32` or a `float`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Argument(u64);

impl From<Pointer> for Argument {
    fn from(pointer: Pointer) -> Self {
        Self(pointer.0)
    }
}

/// Sizes are `u32` to kernels; who launches has checked that they are as small.
impl From<usize> for Argument {
    fn from(size: usize) -> Self {
        debug_assert!(u32::try_from(size).is_ok(), "sizes of kernels are u32");
        Self(size as u64)
    }
}

impl From<u32> for Argument {
    fn from(size: u32) -> Self {
        Self(size.into())
    }
}

impl From<f32> for Argument {
    fn from(x: f32) -> Self {
        Self(x.to_bits().into())
    }
}

impl Kernel {
    /// Launches it on the context's stream.
    ///
    /// The caller sees to it that the arguments are those of the kernel's signature and that the memory they name is as
    /// large as the kernel's header says.
    pub(super) fn launch(self, context: &Context, shape: Shape, arguments: &mut [Argument]) -> Result<(), DeviceError> {
        let Shape { grid, block, shared } = shape;
        // More than any kernel here takes.
        let mut pointers = [null_mut::<c_void>(); 32];
        for (pointer, argument) in pointers.iter_mut().zip(&mut *arguments) {
            // A u32 or a float is the first four of these eight bytes.
            *pointer = (&raw mut argument.0).cast();
        }
        // SAFETY: the handle lives as long as the device's module; arguments are copied before the call returns.
        let result = unsafe {
            sys::cuLaunchKernel(
                self.function,
                grid[0] as u32,
                grid[1] as u32,
                grid[2] as u32,
                block[0] as u32,
                block[1] as u32,
                block[2] as u32,
                shared as u32,
                context.stream(),
                pointers.as_mut_ptr(),
                null_mut(),
            )
        };
        // A kernel's fault shows in a later call; what is refused here is the launch itself.
        check("cuLaunchKernel", result).map_err(|error| match error {
            DeviceError::Driver { call, reason } => {
                DeviceError::Driver { call, reason: format!("{}: {reason}", self.name) }
            }
            other => other,
        })
    }
}

const _: () = assert!(cfg!(target_endian = "little"), "a u32 lies at the start of a u64");
