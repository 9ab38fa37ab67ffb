//! Sums what a run's memories and tables take, over all its instances, and ends the run where a limit is passed.
//!
//! Ending the run, rather than letting `memory.grow` fail, gives the author an error that names the limit; in the guest
//! it would be an allocator's bare abort.

use sglhost_core::Error;
use sglhost_core::limits::RunLimits;

/// A budget that ended the run; it travels through wasmtime as the cause of the trap.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BudgetSpent(pub(crate) Error);

/// wasmtime's limiter of one store.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_max_bytes: usize,
    table_elements_max: usize,
    memory_bytes: usize,
    table_elements: usize,
    /// The growth counted last, so that one which then fails can be undone.
    last_growth: usize,
}

impl Limiter {
    pub(crate) fn new(limits: &RunLimits) -> Self {
        Self {
            memory_max_bytes: limits.memory_max_bytes,
            table_elements_max: limits.table_elements_max,
            memory_bytes: 0,
            table_elements: 0,
            last_growth: 0,
        }
    }
}

impl wasmtime::ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let total = self.memory_bytes.saturating_add(growth);
        if total > self.memory_max_bytes {
            return Err(wasmtime::Error::new(BudgetSpent(Error::limit(format!(
                "the run needs {total} bytes of memory and may have {} (memory_max_bytes); make the program use less, \
                 or run with a higher memory_max_bytes",
                self.memory_max_bytes
            )))));
        }
        self.memory_bytes = total;
        self.last_growth = growth;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_bytes -= std::mem::take(&mut self.last_growth);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let total = self.table_elements.saturating_add(growth);
        if total > self.table_elements_max {
            return Err(wasmtime::Error::new(BudgetSpent(Error::limit(format!(
                "the run needs {total} table elements and may have {} (table_elements_max); make the program use \
                 less, or run with a higher table_elements_max",
                self.table_elements_max
            )))));
        }
        self.table_elements = total;
        self.last_growth = growth;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.table_elements -= std::mem::take(&mut self.last_growth);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use wasmtime::ResourceLimiter as _;

    use super::*;

    #[test]
    fn memories_are_summed_and_failed_growth_is_undone() {
        let mut limiter = Limiter::new(&RunLimits { memory_max_bytes: 100, ..RunLimits::default() });
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("the pool is smaller")).unwrap();
        assert!(limiter.memory_growing(60, 100, None).unwrap());
        let error = limiter.memory_growing(0, 1, None).unwrap_err();
        let spent = error.downcast_ref::<BudgetSpent>().unwrap();
        assert!(spent.0.message.starts_with("the run needs 101 bytes of memory and may have 100"), "{spent}");
    }
}
