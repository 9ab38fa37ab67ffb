//! What the operator decides, and the wasmtime configuration that follows from it.

use std::path::PathBuf;

use sglhost_core::limits::{
    CORE_INSTANCES_MAX, CORE_MEMORIES_MAX, CORE_TABLES_MAX, HostLimits, INSTANCE_BYTES_MAX, RunLimits,
};
use tokio::runtime::Handle;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::isolation::Isolation;

/// Address space of one memory, so that bounds need not be checked: what a 32-bit guest can address.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Of each pooled memory, bytes that stay resident between runs: clearing them is cheaper than giving them back, and a
/// Rust program touches about 40 KiB. Without, a run takes a third longer; with 1 MiB, a thousand hostile runs would
/// leave a gigabyte behind.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 64 << 10;
/// Of each pooled table, bytes that stay resident between runs.
const TABLE_KEEP_RESIDENT_BYTES: usize = 16 << 10;
/// Of each pooled stack, bytes that stay resident between runs. They are cleared whether used or not.
const STACK_KEEP_RESIDENT_BYTES: usize = 16 << 10;
/// Mappings that a run takes, its places in the pool included: about 8 where it is a Rust program.
const MAPPINGS_PER_RUN: u64 = 16;
/// Stack for the host's own functions, beyond what the guest may use.
const HOST_STACK_BYTES: usize = 1 << 20;

/// What the operator decides.
#[derive(Clone, Debug, Default)]
pub struct RuntimeConfig {
    /// Limits of runs that bring none of their own.
    pub run_limits: RunLimits,
    /// Limits of all runs together.
    pub host_limits: HostLimits,
    /// Where compiled programs are kept between processes; none compiles anew in each process. The folder holds native
    /// code: it must belong to this process's user and be writable by nobody else.
    pub compile_cache: Option<PathBuf>,
    /// How components are compiled in a process of their own; it takes a `compile_cache`. None compiles them, and has
    /// them describe themselves, in this process: for programs of whoever runs it.
    pub isolation: Option<Isolation>,
    /// Where runs are carried out; none is where they are started. One whose threads have low priority keeps guests
    /// from slowing down an engine on the same machine.
    pub guests: Option<Handle>,
}

impl RuntimeConfig {
    /// The engine's configuration. `reuse_scan` asks the kernel which pages a run touched, where it can tell.
    pub(crate) fn wasmtime(&self, reuse_scan: bool) -> Config {
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::Speed);
        config.epoch_interruption(true);
        config.max_wasm_stack(self.host_limits.stack_max_bytes);
        config.async_stack_size(self.host_limits.stack_max_bytes + HOST_STACK_BYTES);
        // Otherwise a stack stays as large as it ever was.
        config.async_stack_zeroing(true);
        config.memory_reservation(MEMORY_RESERVATION_BYTES);
        config.memory_init_cow(true);
        config.wasm_component_model(true);
        config.wasm_component_model_async(true);
        config.wasm_component_model_async_stackful(false);
        config.wasm_relaxed_simd(false);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(self.pool(reuse_scan)));
        config
    }

    /// Why the machine may not give what a pool of this size takes, and the way out.
    pub(crate) fn pool_needs(&self) -> String {
        let runs = u64::from(self.host_limits.concurrent_runs_max);
        let gigabytes = (runs + 1) * u64::from(CORE_MEMORIES_MAX) * (MEMORY_RESERVATION_BYTES >> 30);
        format!(
            "{runs} runs at once take about {gigabytes} GiB of address space, though not of memory, and {} mappings; let \
             the process have them (`ulimit -v unlimited`, sysctl vm.max_map_count), or lower concurrent_runs_max",
            (runs + 1) * MAPPINGS_PER_RUN
        )
    }

    /// Sized so that only the number of runs ever binds: the semaphore in front waits, the pool would refuse.
    fn pool(&self, reuse_scan: bool) -> PoolingAllocationConfig {
        // One more than the runs for `describe`, which takes a place of its own.
        let runs = self.host_limits.concurrent_runs_max.saturating_add(1);
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(runs)
            .max_component_instance_size(INSTANCE_BYTES_MAX)
            .max_core_instance_size(INSTANCE_BYTES_MAX)
            .total_core_instances(runs.saturating_mul(CORE_INSTANCES_MAX))
            .max_core_instances_per_component(CORE_INSTANCES_MAX)
            .total_memories(runs.saturating_mul(CORE_MEMORIES_MAX))
            .max_memories_per_component(CORE_MEMORIES_MAX)
            .max_memories_per_module(CORE_MEMORIES_MAX)
            .max_memory_size(usize::try_from(MEMORY_RESERVATION_BYTES).unwrap_or(usize::MAX))
            .total_tables(runs.saturating_mul(CORE_TABLES_MAX))
            .max_tables_per_component(CORE_TABLES_MAX)
            .max_tables_per_module(CORE_TABLES_MAX)
            .table_elements(self.run_limits.table_elements_max)
            .total_stacks(runs.saturating_mul(2))
            .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES)
            .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
            .async_stack_keep_resident(STACK_KEEP_RESIDENT_BYTES)
            .pagemap_scan(if reuse_scan { Enabled::Yes } else { Enabled::No });
        pool
    }
}
