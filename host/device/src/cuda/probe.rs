//! Whether there is a GPU that we can use, and if not, why not, in a line. Nothing else may call the driver before.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::ffi::{CStr, c_int};

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult};

use super::driver::describe;

/// What the driver must know: CUDA 12.0, as NVIDIA's drivers from R525 on do.
const CUDA_MIN: (u32, u32) = (12, 0);
/// The oldest GPUs with bf16 arithmetic and asynchronous copies.
const COMPUTE_MIN: (u32, u32) = (8, 0);

/// A GPU that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// Which of the driver's devices it is.
    pub ordinal: usize,
    /// As the driver names it ("NVIDIA H200").
    pub name: String,
    /// Compute capability, (9, 0) for instance.
    pub compute: (u32, u32),
    /// All of its memory.
    pub memory_bytes: usize,
    /// The newest CUDA that the driver knows.
    pub driver: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Its second-level cache.
    pub cache_bytes: usize,
    /// Shared memory that a block may ask for.
    pub shared_max_bytes: usize,
}

/// Why no GPU can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoGpu {
    /// There is no driver.
    #[error("no NVIDIA GPU: libcuda.so.1 was not found; NVIDIA's driver (R525 or newer) brings it")]
    NoDriver,
    /// The driver is too old.
    #[error(
        "NVIDIA's driver knows CUDA {}.{} only; CUDA {}.{} (driver R525) or newer is needed",
        .has.0, .has.1, CUDA_MIN.0, CUDA_MIN.1
    )]
    OldDriver {
        /// The newest CUDA it knows.
        has: (u32, u32),
    },
    /// The driver refuses to work.
    #[error("NVIDIA's driver does not start: {reason}{}", hint(*.code))]
    Refused {
        /// The driver's error.
        code: u32,
        /// As the driver names it.
        reason: String,
    },
    /// The driver is there, a GPU is not.
    #[error(
        "NVIDIA's driver sees no GPU: there is none, CUDA_VISIBLE_DEVICES hides it, /dev/nvidia* may not be opened, \
         or MIG is on and no instance is given to this process"
    )]
    NoDevice,
    /// There are fewer GPUs.
    #[error("there is no GPU {ordinal}: the driver sees {count}, numbered from 0")]
    NoSuchDevice {
        /// The one asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The GPU is too old.
    #[error(
        "{name} has compute capability {}.{}; {}.{} (Ampere) or newer is needed",
        .compute.0, .compute.1, COMPUTE_MIN.0, COMPUTE_MIN.1
    )]
    OldDevice {
        /// Its name.
        name: String,
        /// What it has.
        compute: (u32, u32),
    },
}

/// What usually helps against a driver's error, as the end of its line.
fn hint(code: u32) -> &'static str {
    match code {
        // STUB_LIBRARY
        34 => "; the libcuda found is the toolkit's stub: put the driver's own before it",
        // DEVICE_UNAVAILABLE
        46 => "; another process holds the GPU exclusively (nvidia-smi -q -d COMPUTE)",
        // OPERATING_SYSTEM
        304 => "; /dev/nvidia* may not be opened by this user or container",
        // SYSTEM_NOT_READY
        802 => "; the fabric manager, or the MIG instance, is not ready yet",
        // SYSTEM_DRIVER_MISMATCH
        803 => "; libcuda and the kernel's module are of different drivers: reboot, or mount the right libcuda",
        // UNKNOWN
        999 => "; the kernel's module may not be loaded, or /dev/nvidia* may not be opened",
        _ => "",
    }
}

/// The first GPU.
///
/// # Errors
/// There is none that can be used.
pub fn probe() -> Result<GpuInfo, NoGpu> {
    probe_device(0)
}

/// The GPU `ordinal`.
///
/// # Errors
/// It is not there or cannot be used.
pub fn probe_device(ordinal: usize) -> Result<GpuInfo, NoGpu> {
    // SAFETY: looks for the library. Every other call below would panic without it.
    if !unsafe { sys::is_culib_present() } {
        return Err(NoGpu::NoDriver);
    }
    let driver = driver_version()?;
    if driver < CUDA_MIN {
        return Err(NoGpu::OldDriver { has: driver });
    }
    // SAFETY: may be called at any time, and again.
    started(unsafe { sys::cuInit(0) })?;
    let mut count: c_int = 0;
    // SAFETY: the driver writes a number.
    started(unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
    let count = count as usize;
    if count == 0 {
        return Err(NoGpu::NoDevice);
    }
    if ordinal >= count {
        return Err(NoGpu::NoSuchDevice { ordinal, count });
    }
    let mut device = 0;
    // SAFETY: the driver writes a number.
    started(unsafe { sys::cuDeviceGet(&raw mut device, ordinal as c_int) })?;
    let name = name(device)?;
    let compute = (
        attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32,
        attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32,
    );
    if compute < COMPUTE_MIN {
        return Err(NoGpu::OldDevice { name, compute });
    }
    let mut memory_bytes = 0;
    // SAFETY: the driver writes a number.
    started(unsafe { sys::cuDeviceTotalMem_v2(&raw mut memory_bytes, device) })?;
    Ok(GpuInfo {
        ordinal,
        name,
        compute,
        memory_bytes,
        driver,
        multiprocessors: attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        cache_bytes: attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
        shared_max_bytes: attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
    })
}

fn driver_version() -> Result<(u32, u32), NoGpu> {
    let mut version: c_int = 0;
    // SAFETY: may be called before cuInit; the driver writes a number.
    started(unsafe { sys::cuDriverGetVersion(&raw mut version) })?;
    let version = version as u32;
    Ok((version / 1000, version % 1000 / 10))
}

fn name(device: sys::CUdevice) -> Result<String, NoGpu> {
    let mut name = [0; 128];
    // SAFETY: the driver writes a string of at most that many bytes, its end included.
    started(unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int - 1, device) })?;
    // SAFETY: the last byte was left zero.
    Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}

fn attribute(device: sys::CUdevice, attribute: Attribute) -> Result<usize, NoGpu> {
    let mut value: c_int = 0;
    // SAFETY: the driver writes a number.
    started(unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute, device) })?;
    Ok(value as usize)
}

fn started(result: CUresult) -> Result<(), NoGpu> {
    match result {
        CUresult::CUDA_SUCCESS => Ok(()),
        CUresult::CUDA_ERROR_NO_DEVICE => Err(NoGpu::NoDevice),
        code => Err(NoGpu::Refused { code: code as u32, reason: describe(code) }),
    }
}
