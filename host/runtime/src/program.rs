//! A program that is loaded: compiled, pre-linked and described.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use sglhost_core::ProgramId;

use crate::bindings::ProgramPre;
use crate::description::Description;
use crate::host::Host;

/// A loaded program. A clone is another handle to it.
#[derive(Clone)]
pub struct Program(Arc<Loaded>);

/// What [`Program`] is a handle to.
pub(crate) struct Loaded {
    pub(crate) id: ProgramId,
    pub(crate) description: Description,
    pub(crate) imports: Vec<String>,
    pub(crate) size_bytes: usize,
    pub(crate) pre: ProgramPre<Host>,
}

impl Program {
    pub(crate) fn new(loaded: Loaded) -> Self {
        Self(Arc::new(loaded))
    }

    /// Its content's digest.
    #[must_use]
    pub fn id(&self) -> &ProgramId {
        &self.0.id
    }

    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// Names of the interfaces it imports, WASI's among them.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// Size of its component.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.0.size_bytes
    }

    pub(crate) fn pre(&self) -> &ProgramPre<Host> {
        &self.0.pre
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("id", self.id()).field("name", &self.0.description.name).finish_non_exhaustive()
    }
}

/// Programs in memory, the least recently used forgotten first. One that is forgotten lives on while a run has it.
#[derive(Debug)]
pub(crate) struct Registry {
    max: usize,
    programs: DashMap<ProgramId, (Program, AtomicU64)>,
    /// Counts uses, to tell which was the last.
    uses: AtomicU64,
}

impl Registry {
    pub(crate) fn new(max: usize) -> Self {
        Self { max: max.max(1), programs: DashMap::new(), uses: AtomicU64::new(0) }
    }

    pub(crate) fn get(&self, id: &ProgramId) -> Option<Program> {
        let entry = self.programs.get(id)?;
        entry.1.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(entry.0.clone())
    }

    pub(crate) fn put(&self, program: Program) {
        while self.programs.len() >= self.max && !self.programs.contains_key(program.id()) {
            // A scan of a few hundred, beside a compilation.
            let used = |entry: &(Program, AtomicU64)| entry.1.load(Ordering::Relaxed);
            let oldest = self.programs.iter().min_by_key(|entry| used(entry.value())).map(|entry| entry.key().clone());
            let Some(oldest) = oldest else { break };
            self.programs.remove(&oldest);
        }
        let used = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
        self.programs.insert(program.id().clone(), (program, used));
    }
}
