//! Memory: the device's, and the host's that it copies from and to on its own.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::{ffi::c_void, ptr::null_mut, sync::Arc};

use cudarc::driver::sys;

use super::{
    context::{Context, Event},
    driver::{check, check_memory},
};
use crate::DeviceError;

/// What kernels may expect of a buffer's start and its end: 16 bytes at a time.
pub(super) const ALIGNMENT: usize = 16;

/// An address on the device; zero where there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pointer(pub(super) u64);

impl Pointer {
    pub(super) const NULL: Self = Self(0);

    /// The address `bytes` further.
    pub(super) fn at(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// Memory of the device.
///
/// Dropped, it is given back when the device is idle: work in flight may use it to its end.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    context: Arc<Context>,
    pointer: Pointer,
    bytes: usize,
}

impl DeviceMemory {
    /// `bytes` for `what`, zeroed.
    pub(super) fn zeroed(context: &Arc<Context>, bytes: usize, what: &'static str) -> Result<Self, DeviceError> {
        let made = Self::new(context, bytes, what)?;
        // SAFETY: the memory was just allocated in this context.
        let result = unsafe { sys::cuMemsetD8Async(made.pointer.0, 0, made.bytes, context.stream()) };
        check("cuMemsetD8Async", result)?;
        Ok(made)
    }

    /// `bytes` for `what`, of any content.
    pub(super) fn new(context: &Arc<Context>, bytes: usize, what: &'static str) -> Result<Self, DeviceError> {
        context.enter()?;
        if context.is_capturing() {
            return Err(DeviceError::Driver { call: "cuMemAlloc", reason: "launches are being recorded".to_owned() });
        }
        context.free_retired()?;
        let size = bytes.max(1).next_multiple_of(ALIGNMENT);
        let mut pointer = 0;
        // SAFETY: the driver writes an address, which `drop` gives back.
        check_memory("cuMemAlloc", unsafe { sys::cuMemAlloc_v2(&raw mut pointer, size) }, what, bytes)?;
        context.count_allocation();
        Ok(Self { context: Arc::clone(context), pointer: Pointer(pointer), bytes: size })
    }

    pub(super) fn pointer(&self) -> Pointer {
        self.pointer
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies `from` to `offset` on, and waits: for what is copied once.
    pub(super) fn write(&self, offset: usize, from: &[u8]) -> Result<(), DeviceError> {
        assert!(offset + from.len() <= self.bytes, "a copy ends within its buffer");
        self.context.enter()?;
        // SAFETY: both ranges live until the copy is done, which is waited for.
        let result = unsafe {
            let to = self.pointer.at(offset).0;
            sys::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), self.context.stream())
        };
        check("cuMemcpyHtoDAsync", result)?;
        self.context.synchronize()
    }

    /// Waits for what was launched and reads from the start on.
    pub(super) fn read(&self, to: &mut [u8]) -> Result<(), DeviceError> {
        assert!(to.len() <= self.bytes, "a copy ends within its buffer");
        self.context.enter()?;
        // SAFETY: both ranges live until the copy is done, which is waited for.
        let result = unsafe {
            sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), self.pointer.0, to.len(), self.context.stream())
        };
        check("cuMemcpyDtoHAsync", result)?;
        self.context.synchronize()
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        self.context.retire(self.pointer.0);
    }
}

/// Memory of the host that the device copies from and to while the host goes on.
#[derive(Debug)]
pub(super) struct Pinned {
    context: Arc<Context>,
    start: *mut c_void,
    bytes: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Zeroed memory.
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, DeviceError> {
        context.enter()?;
        let bytes = bytes.max(ALIGNMENT);
        let mut start = null_mut();
        // SAFETY: the driver writes an address, which `drop` gives back.
        let result = unsafe { sys::cuMemHostAlloc(&raw mut start, bytes, 0) };
        check_memory("cuMemHostAlloc", result, "memory of the host to copy from", bytes)?;
        // SAFETY: the memory was just allocated.
        unsafe { start.cast::<u8>().write_bytes(0, bytes) };
        Ok(Self { context: Arc::clone(context), start, bytes })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of it, to be read once the device is done with it.
    pub(super) fn get(&self) -> &[u8] {
        // SAFETY: the memory is initialised and ours; owners wait for copies into it before they look.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.bytes) }
    }

    /// All of it, to be written once the device is done with it.
    pub(super) fn get_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; owners wait for copies out of it before they write.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.bytes) }
    }

    /// Starts to copy the first `bytes` to `to`.
    pub(super) fn copy_to(&self, to: Pointer, bytes: usize) -> Result<(), DeviceError> {
        assert!(bytes <= self.bytes, "a copy ends within its buffer");
        // SAFETY: the caller gives an address of that many bytes; this memory stays until the device is done (`drop`).
        let result = unsafe { sys::cuMemcpyHtoDAsync_v2(to.0, self.start, bytes, self.context.stream()) };
        check("cuMemcpyHtoDAsync", result)
    }

    /// Starts to copy `bytes` from `from`.
    pub(super) fn copy_from(&mut self, from: Pointer, bytes: usize) -> Result<(), DeviceError> {
        assert!(bytes <= self.bytes, "a copy ends within its buffer");
        // SAFETY: as above.
        let result = unsafe { sys::cuMemcpyDtoHAsync_v2(self.start, from.0, bytes, self.context.stream()) };
        check("cuMemcpyDtoHAsync", result)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The device may be copying. One that is lost copies nothing any more.
        let _ = self.context.synchronize();
        // SAFETY: the memory is ours, and nothing is in flight.
        unsafe {
            let _ = sys::cuMemFreeHost(self.start);
        }
    }
}

/// Two pieces of pinned memory in turn: one is written while the other may still be copied to the device.
#[derive(Debug)]
pub(super) struct Staging {
    context: Arc<Context>,
    pieces: [(Pinned, Event); 2],
    /// The piece to be written next.
    next: usize,
}

impl Staging {
    /// Pieces of `bytes` each.
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self, DeviceError> {
        let piece = || Ok::<_, DeviceError>((Pinned::new(context, bytes)?, Event::new(context, false)?));
        Ok(Self { context: Arc::clone(context), pieces: [piece()?, piece()?], next: 0 })
    }

    /// Lets `fill` write `bytes` bytes, and starts to copy them to `to`. Waits only where the piece's last copy is
    /// still under way.
    pub(super) fn send(&mut self, to: Pointer, bytes: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), DeviceError> {
        let (pinned, copied) = &mut self.pieces[self.next];
        self.next = 1 - self.next;
        copied.wait()?;
        if bytes > pinned.bytes() {
            *pinned = Pinned::new(&self.context, bytes.next_power_of_two())?;
        }
        fill(&mut pinned.get_mut()[..bytes]);
        pinned.copy_to(to, bytes)?;
        copied.record()
    }

    /// Bytes of a piece.
    pub(super) fn piece_bytes(&self) -> usize {
        self.pieces[self.next].0.bytes()
    }
}

/// Pinned bytes as words.
pub(super) fn words_of(bytes: &[u8]) -> &[u32] {
    // SAFETY: any four bytes are a u32. Pinned memory starts at a page.
    let (before, words, _) = unsafe { bytes.align_to::<u32>() };
    assert!(before.is_empty(), "pinned memory is aligned");
    words
}

/// Pinned bytes as words, to be written.
pub(super) fn words_of_mut(bytes: &mut [u8]) -> &mut [u32] {
    // SAFETY: as above.
    let (before, words, _) = unsafe { bytes.align_to_mut::<u32>() };
    assert!(before.is_empty(), "pinned memory is aligned");
    words
}
