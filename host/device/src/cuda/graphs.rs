//! Recorded passes: what a decode step launches, as one CUDA graph that is launched at once.
//!
//! A pass of a shape is launched kernel by kernel the first time, so that products are tuned and memory is taken;
//! recorded the second time; and replayed from then on. All that a launch has baked in is the pass's [`PassShape`] and
//! addresses that stay until device memory is taken or given back, upon which every recording is dropped.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::{
    collections::{HashMap, HashSet},
    ptr::null_mut,
    sync::Arc,
};

use cudarc::driver::sys::{self, CUgraph, CUgraphExec};

use super::{batch::PassShape, context::Context, driver::check};
use crate::DeviceError;

/// Recordings kept; one takes some MB of the device. A full set is dropped and made anew.
const RECORDINGS_MAX: usize = 96;

/// What recorded launches rely on, which replaying cannot check kernel by kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Rows of the embedding table.
    pub(super) tokens: usize,
    /// Slots of the KV memory.
    pub(super) slots: usize,
}

/// What to do with a pass.
#[derive(Debug)]
pub(super) enum Pass {
    /// Launch it kernel by kernel.
    Launch,
    /// Record it, then launch the recording.
    Record,
    /// Launch its recording.
    Replay(Needs),
}

/// The recordings.
#[derive(Debug)]
pub(super) struct Graphs {
    context: Arc<Context>,
    /// [`Context::allocations`] when they were made.
    allocations: u64,
    /// Passes of these shapes were launched before.
    launched: HashSet<PassShape>,
    /// What could not be recorded.
    refused: HashSet<PassShape>,
    recordings: HashMap<PassShape, Recording>,
    /// How often one was replayed.
    pub(super) replays: u64,
}

#[derive(Debug)]
struct Recording {
    graph: CUgraphExec,
    needs: Needs,
}

// SAFETY: the driver's handle may be used from any thread on which the context is current.
unsafe impl Send for Recording {}

impl Graphs {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
            allocations: 0,
            launched: HashSet::new(),
            refused: HashSet::new(),
            recordings: HashMap::new(),
            replays: 0,
        }
    }

    /// What to do with a pass of this shape.
    pub(super) fn pass(&mut self, shape: &PassShape) -> Pass {
        if self.allocations != self.context.allocations() {
            self.allocations = self.context.allocations();
            self.recordings.clear();
            self.refused.clear();
        }
        match self.recordings.get(shape) {
            Some(recording) => Pass::Replay(recording.needs),
            None if self.launched.contains(shape) && !self.refused.contains(shape) => Pass::Record,
            None => Pass::Launch,
        }
    }

    /// Notes that a pass of this shape was launched.
    pub(super) fn launched(&mut self, shape: &PassShape) {
        self.launched.insert(*shape);
    }

    /// Notes that a pass of this shape cannot be recorded.
    pub(super) fn refuse(&mut self, shape: &PassShape) {
        self.refused.insert(*shape);
    }

    /// Keeps what was recorded.
    pub(super) fn keep(&mut self, shape: &PassShape, capture: Capture, needs: Needs) -> Result<(), DeviceError> {
        let graph = capture.end()?;
        let mut executable = null_mut();
        // SAFETY: the graph lives; the driver writes a handle, which `drop` gives back.
        let result = unsafe { sys::cuGraphInstantiateWithFlags(&raw mut executable, graph.0, 0) };
        check("cuGraphInstantiateWithFlags", result)?;
        if self.recordings.len() >= RECORDINGS_MAX {
            self.recordings.clear();
        }
        self.recordings.insert(*shape, Recording { graph: executable, needs });
        Ok(())
    }

    /// Launches the recording of this shape, which there is.
    pub(super) fn replay(&mut self, shape: &PassShape) -> Result<(), DeviceError> {
        let Some(recording) = self.recordings.get(shape) else { return Ok(()) };
        self.replays += 1;
        self.context.enter()?;
        // SAFETY: both handles live.
        check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(recording.graph, self.context.stream()) })
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // SAFETY: the handle is ours; the driver keeps what is in flight.
        unsafe {
            let _ = sys::cuGraphExecDestroy(self.graph);
        }
    }
}

/// A graph that is not to be launched itself.
struct Graph(CUgraph);

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the handle is ours.
        unsafe {
            let _ = sys::cuGraphDestroy(self.0);
        }
    }
}

/// While it lives, what is launched is recorded and not run.
#[derive(Debug)]
pub(super) struct Capture {
    context: Arc<Context>,
    ended: bool,
}

impl Capture {
    pub(super) fn begin(context: &Arc<Context>) -> Result<Self, DeviceError> {
        context.enter()?;
        // Other threads may do what they like meanwhile; this one may not allocate.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives.
        check("cuStreamBeginCapture", unsafe { sys::cuStreamBeginCapture_v2(context.stream(), mode) })?;
        context.set_capturing(true);
        Ok(Self { context: Arc::clone(context), ended: false })
    }

    fn end(mut self) -> Result<Graph, DeviceError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<Graph, DeviceError> {
        self.ended = true;
        self.context.set_capturing(false);
        let mut graph = null_mut();
        // SAFETY: the stream lives and is capturing; the driver writes a handle, which `Graph` gives back.
        check("cuStreamEndCapture", unsafe { sys::cuStreamEndCapture(self.context.stream(), &raw mut graph) })?;
        Ok(Graph(graph))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // A capture that is not kept, as when launching panicked, must still end.
        if !self.ended {
            let _ = self.stop();
        }
    }
}
