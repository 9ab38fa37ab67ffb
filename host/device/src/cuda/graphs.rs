//! Recorded passes: what a decode step launches, as one CUDA graph that is launched at once.
//!
//! A pass of a shape is launched kernel by kernel the first time, so that products are tuned and memory is taken;
//! recorded the second time; and replayed from then on. All that a launch has baked in is the pass's [`PassShape`] and
//! addresses that stay until device memory is taken or given back, upon which every recording is dropped. A shape that
//! cannot be recorded, or whose recording cannot be launched, is launched kernel by kernel from then on.

#![allow(unsafe_code, reason = "calls of the driver")]

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    ptr::null_mut,
    sync::Arc,
};

use cudarc::driver::sys::{self, CUgraph, CUgraphExec};

use super::{batch::PassShape, context::Context, driver::check};
use crate::DeviceError;

/// Recordings kept; one takes some MB of the device.
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
    /// Whether one of these was told of.
    told: bool,
    recordings: Recent<PassShape, Recording>,
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
            told: false,
            recordings: Recent::new(RECORDINGS_MAX),
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

    /// Notes that a pass of this shape cannot be recorded. An error if the device is lost.
    pub(super) fn refuse(&mut self, shape: &PassShape, error: DeviceError) -> Result<(), DeviceError> {
        if matches!(error, DeviceError::Lost { .. }) {
            return Err(error);
        }
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                "a pass of {} tokens is launched kernel by kernel, for it cannot be a CUDA graph: {error}; others are not \
                 told of",
                shape.tokens
            );
        }
        self.recordings.remove(shape);
        self.refused.insert(*shape);
        Ok(())
    }

    /// Keeps what was recorded.
    pub(super) fn keep(&mut self, shape: &PassShape, capture: Capture, needs: Needs) -> Result<(), DeviceError> {
        let graph = capture.end()?;
        let mut executable = null_mut();
        // SAFETY: the graph lives; the driver writes a handle, which `drop` gives back.
        let result = unsafe { sys::cuGraphInstantiateWithFlags(&raw mut executable, graph.0, 0) };
        check("cuGraphInstantiateWithFlags", result)?;
        self.recordings.insert(*shape, Recording { graph: executable, needs });
        Ok(())
    }

    /// Launches the recording of this shape. False if it cannot be launched.
    pub(super) fn replay(&mut self, shape: &PassShape) -> Result<bool, DeviceError> {
        let Some(recording) = self.recordings.get(shape) else { return Ok(false) };
        self.context.enter()?;
        // SAFETY: both handles live.
        let result = unsafe { sys::cuGraphLaunch(recording.graph, self.context.stream()) };
        if let Err(error) = check("cuGraphLaunch", result) {
            return self.refuse(shape, error).map(|()| false);
        }
        self.replays += 1;
        Ok(true)
    }
}

/// A map that, when it is full, forgets what was used the longest ago.
#[derive(Debug)]
struct Recent<K, V> {
    /// With the number of its last use.
    values: HashMap<K, (u64, V)>,
    most: usize,
    uses: u64,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self { values: HashMap::new(), most, uses: 0 }
    }

    fn get(&mut self, key: &K) -> Option<&V> {
        self.uses += 1;
        let (used, value) = self.values.get_mut(key)?;
        *used = self.uses;
        Some(value)
    }

    fn insert(&mut self, key: K, value: V) {
        let oldest = self.values.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
        if let Some(oldest) = oldest.filter(|_| self.values.len() >= self.most) {
            self.values.remove(&oldest);
        }
        self.uses += 1;
        self.values.insert(key, (self.uses, value));
    }

    fn remove(&mut self, key: &K) {
        self.values.remove(key);
    }

    fn clear(&mut self) {
        self.values.clear();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_the_longest_ago_is_forgotten() {
        let mut recent = Recent::new(3);
        (0..3).for_each(|key| recent.insert(key, 10 * key));
        assert_eq!(recent.get(&0), Some(&0));
        recent.insert(3, 30);
        assert_eq!([0, 1, 2, 3].map(|key| recent.get(&key).copied()), [Some(0), None, Some(20), Some(30)]);
        recent.remove(&0);
        recent.insert(4, 40);
        assert_eq!([2, 3, 4].map(|key| recent.get(&key).is_some()), [true; 3]);
        recent.clear();
        assert_eq!(recent.get(&2), None);
    }
}
