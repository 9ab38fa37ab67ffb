//! One GPU as this process sees it: its context and the one stream on which everything is launched.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::{
    cell::Cell,
    ptr::null_mut,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdeviceptr, CUevent, CUstream, CUstream_flags};

use super::driver::check;
use crate::DeviceError;

/// The primary context of a device, with a stream of its own.
///
/// Shared by the device and all that lives in its memory, so that buffers may outlive the device; the last of them
/// gives it back.
#[derive(Debug)]
pub(super) struct Context {
    number: u64,
    device: CUdevice,
    context: CUcontext,
    stream: CUstream,
    /// Memory that nobody uses any more, though work in flight may: freed when the device is idle.
    retired: Mutex<Vec<CUdeviceptr>>,
    /// Changes with each allocation and each release of device memory.
    allocations: AtomicU64,
    /// While launches are recorded instead of run. Then the driver must not be asked for memory.
    capturing: AtomicBool,
}

// SAFETY: the driver's handles may be used from any thread on which the context is current, which `enter` sees to.
unsafe impl Send for Context {}
// SAFETY: likewise; the driver locks for itself.
unsafe impl Sync for Context {}

/// Numbers contexts, from 1: the driver gives the address of one that is gone to the next.
static MADE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The number of the context that this thread made current last.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

impl Context {
    /// Takes the device `ordinal`, which was probed.
    pub(super) fn new(ordinal: usize) -> Result<Arc<Self>, DeviceError> {
        let mut device = 0;
        // SAFETY: the driver writes a number.
        check("cuDeviceGet", unsafe { sys::cuDeviceGet(&raw mut device, ordinal as i32) })?;
        let mut context = null_mut();
        // SAFETY: the driver writes a handle, which `drop` gives back.
        check("cuDevicePrimaryCtxRetain", unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut context, device) })?;
        let mut made = Self {
            number: MADE.fetch_add(1, Ordering::Relaxed) + 1,
            device,
            context,
            stream: null_mut(),
            retired: Mutex::default(),
            allocations: AtomicU64::new(0),
            capturing: AtomicBool::new(false),
        };
        made.enter()?;
        let flags = CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the driver writes a handle, which `drop` gives back.
        check("cuStreamCreate", unsafe { sys::cuStreamCreate(&raw mut made.stream, flags) })?;
        Ok(Arc::new(made))
    }

    /// Makes the context this thread's: before any call that needs one.
    pub(super) fn enter(&self) -> Result<(), DeviceError> {
        if CURRENT.get() != self.number {
            // SAFETY: the context is held.
            check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) })?;
            CURRENT.set(self.number);
        }
        Ok(())
    }

    /// The stream.
    pub(super) fn stream(&self) -> CUstream {
        self.stream
    }

    /// Waits for all that was launched.
    pub(super) fn synchronize(&self) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the stream lives as long as `self`.
        check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    /// A number that changes whenever device memory is taken or given back.
    pub(super) fn allocations(&self) -> u64 {
        self.allocations.load(Ordering::Relaxed)
    }

    /// To be called with each allocation.
    pub(super) fn count_allocation(&self) {
        self.allocations.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether launches are recorded.
    pub(super) fn is_capturing(&self) -> bool {
        self.capturing.load(Ordering::Relaxed)
    }

    /// Says whether launches are recorded.
    pub(super) fn set_capturing(&self, capturing: bool) {
        self.capturing.store(capturing, Ordering::Relaxed);
    }

    /// Takes back memory that work in flight may still use.
    pub(super) fn retire(&self, pointer: CUdeviceptr) {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(pointer);
        self.count_allocation();
    }

    /// Frees what was retired, once the device is idle; before more is allocated.
    pub(super) fn free_retired(&self) -> Result<(), DeviceError> {
        let lock = || self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let retired = std::mem::take(&mut *lock());
        if retired.is_empty() {
            return Ok(());
        }
        // Until that is sure, work in flight may use it.
        self.synchronize().inspect_err(|_| lock().extend(&retired))?;
        let free = |pointer| {
            // SAFETY: nobody has this pointer any more, and nothing is in flight.
            check("cuMemFree", unsafe { sys::cuMemFree_v2(pointer) })
        };
        // One that fails keeps none of the others.
        retired.into_iter().map(free).fold(Ok(()), Result::and)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // A device that is lost refuses all of this, and there is nobody to tell.
        let _ = self.enter();
        let _ = self.free_retired();
        // SAFETY: the stream and the context are ours, and given back once.
        unsafe {
            if !self.stream.is_null() {
                let _ = sys::cuStreamDestroy_v2(self.stream);
            }
            let _ = sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}

/// A place in the stream that can be waited for.
#[derive(Debug)]
pub(super) struct Event {
    context: Arc<Context>,
    event: CUevent,
}

// SAFETY: as for `Context`.
unsafe impl Send for Event {}

impl Event {
    /// One that measures time if `timing`.
    pub(super) fn new(context: &Arc<Context>, timing: bool) -> Result<Self, DeviceError> {
        let mut event = null_mut();
        let flags = if timing { 0 } else { sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32 };
        // SAFETY: the driver writes a handle, which `drop` gives back.
        check("cuEventCreate", unsafe { sys::cuEventCreate(&raw mut event, flags) })?;
        Ok(Self { context: Arc::clone(context), event })
    }

    /// Moves it to the end of what was launched.
    pub(super) fn record(&self) -> Result<(), DeviceError> {
        // SAFETY: both handles live.
        check("cuEventRecord", unsafe { sys::cuEventRecord(self.event, self.context.stream) })
    }

    /// Waits until the stream has passed it; at once if it was never recorded.
    pub(super) fn wait(&self) -> Result<(), DeviceError> {
        // SAFETY: the handle lives.
        check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(self.event) })
    }

    /// Milliseconds from `start`; both measure time, and the stream has passed both.
    pub(super) fn milliseconds_since(&self, start: &Self) -> Result<f32, DeviceError> {
        // Drivers of CUDA 12 and of CUDA 13 both export this one; the bindings of 13 know its successor of 12.8 only.
        type ElapsedTime = unsafe extern "C" fn(*mut f32, CUevent, CUevent) -> sys::CUresult;
        let mut milliseconds = 0.0;
        // SAFETY: the function has this signature in every CUDA; the library is never unloaded.
        let result = unsafe {
            match sys::culib().get::<ElapsedTime>(b"cuEventElapsedTime\0") {
                Ok(elapsed) => elapsed(&raw mut milliseconds, start.event, self.event),
                Err(_) => sys::CUresult::CUDA_ERROR_NOT_SUPPORTED,
            }
        };
        check("cuEventElapsedTime", result)?;
        Ok(milliseconds)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = self.context.enter();
        // SAFETY: the handle is ours; the driver keeps what is in flight.
        unsafe {
            let _ = sys::cuEventDestroy_v2(self.event);
        }
    }
}
