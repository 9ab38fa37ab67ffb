//! What a process that compiles gives up, once and for all.
//!
//! Two fences. Resource limits bound what it can use up: memory that it can write to (`RLIMIT_DATA`; wasmtime reserves
//! terabytes of address space that cost nothing), CPU time, and no files. On Linux a filter of system calls leaves it
//! memory, time and its three pipes: whatever else it asks for is denied, or ends it where nobody asks by mistake.
//!
//! Elsewhere, and on processors that the filter does not know, the resource limits are all there is.

use std::io;

use crate::isolation::CompileLimits;

/// Added to the CPU time after which the process is told to end; then it is ended.
#[cfg(unix)]
const CPU_GRACE_SECONDS: u64 = 2;
/// File descriptors: the three pipes, and some that the standard library opens while a process starts.
#[cfg(unix)]
const FILES_MAX: u64 = 16;
/// How far behind all others it comes: last. At 10 a tenant that uploads one component after the other took a sixth of a
/// core, and of its neighbour's stream as much.
#[cfg(unix)]
const NICE: i32 = 19;
/// How gladly the kernel ends it when the machine runs out of memory, of 1000: long before the server.
#[cfg(target_os = "linux")]
const OOM_SCORE: &str = "800";

/// Gives up, for the whole of this process and for ever, what compiling does not need, within the limits given. What
/// is needed from the system beyond that (threads, files) must be there before.
///
/// # Errors
/// The system refuses a limit or the filter.
pub fn confine(limits: &CompileLimits) -> io::Result<()> {
    limit(limits)?;
    filter()
}

/// Sets the resource limits and the priority; threads and files can still be had.
#[cfg(unix)]
pub(super) fn limit(limits: &CompileLimits) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};

    #[cfg(target_os = "linux")]
    {
        // Dies with the thread that started it, which waits for it.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // Nice to have: a container may not show the file.
        let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    }
    // Whole seconds is what the system counts in; `describe` has its own, finer meter.
    let cpu = limits.compile_cpu_budget.saturating_add(limits.describe_cpu_budget).as_secs().saturating_add(1);
    let exactly = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Data, exactly(limits.compile_memory_max_bytes as u64))?;
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu.saturating_add(CPU_GRACE_SECONDS)) })?;
    setrlimit(Resource::Nofile, exactly(FILES_MAX))?;
    setrlimit(Resource::Core, exactly(0))?;
    setrlimit(Resource::Fsize, exactly(0))?;
    // Of this thread; those that it starts inherit it.
    setpriority_process(None, NICE)?;
    // The library looks for the kernel's clock the first time, with calls that the filter does not allow.
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn limit(_limits: &CompileLimits) -> io::Result<()> {
    Ok(())
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))))]
pub(super) fn filter() -> io::Result<()> {
    Ok(())
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
pub(super) use linux::filter;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
mod linux {
    use std::collections::BTreeMap;
    use std::io;

    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        TargetArch,
    };

    /// Memory, time, signals to itself, its end.
    const ALLOWED: &[libc::c_long] = &[
        libc::SYS_brk,
        libc::SYS_clock_getres,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_futex,
        libc::SYS_getpid,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_gettimeofday,
        libc::SYS_madvise,
        libc::SYS_membarrier,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_rseq,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_yield,
        libc::SYS_set_robust_list,
        libc::SYS_sigaltstack,
    ];

    /// What libraries ask in passing, content with a no. Everything else that is not allowed ends the process.
    const DENIED: &[libc::c_long] = &[
        libc::SYS_faccessat,
        libc::SYS_fcntl,
        libc::SYS_fstat,
        libc::SYS_getcwd,
        libc::SYS_ioctl,
        libc::SYS_lseek,
        libc::SYS_newfstatat,
        libc::SYS_openat,
        libc::SYS_prlimit64,
        libc::SYS_readlinkat,
        libc::SYS_statx,
        libc::SYS_sysinfo,
        libc::SYS_uname,
    ];

    /// For these there is another way where the system does not know them: wasmtime copies a memory's first content
    /// instead of mapping it, and gives pages back one call at a time.
    const UNKNOWN: &[libc::c_long] = &[libc::SYS_memfd_create, libc::SYS_process_madvise];

    const PR_SET_NAME: u64 = libc::PR_SET_NAME.unsigned_abs() as u64;
    const PR_SET_VMA: u64 = libc::PR_SET_VMA.unsigned_abs() as u64;

    type Rules = BTreeMap<i64, Vec<SeccompRule>>;

    /// Installs the filter for every thread of this process.
    pub(in super::super) fn filter() -> io::Result<()> {
        let error = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
        let action = |errno| SeccompAction::Errno(u32::try_from(errno).unwrap_or(1));
        let mut rules: Rules = own_pipes_and_signals().map_err(|e| error(&e))?;
        rules.extend([ALLOWED, DENIED, UNKNOWN].concat().into_iter().map(|call| (call, Vec::new())));
        // The kernel asks all filters and does the worst that any says: the first ends the process for what no list
        // names, the others say no to what is on theirs.
        let filters = [
            (rules, SeccompAction::KillProcess, SeccompAction::Allow),
            (every(UNKNOWN), SeccompAction::Allow, action(libc::ENOSYS)),
            (every(DENIED), SeccompAction::Allow, action(libc::EPERM)),
        ];
        let mut programs = Vec::new();
        for (rules, otherwise, matched) in filters {
            let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| error(&e))?;
            let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(|e| error(&e))?;
            programs.push(BpfProgram::try_from(filter).map_err(|e| error(&e))?);
        }
        // The strictest last: it allows no more filters.
        for program in programs.iter().rev() {
            seccompiler::apply_filter_all_threads(program).map_err(|e| error(&e))?;
        }
        Ok(())
    }

    fn every(calls: &[libc::c_long]) -> Rules {
        calls.iter().map(|&call| (call, Vec::new())).collect()
    }

    /// Reading its input, writing its outputs, and a signal to itself, which is how a process aborts.
    fn own_pipes_and_signals() -> Result<Rules, seccompiler::BackendError> {
        let first_is = |value: u64| {
            SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?])
        };
        let own = u64::from(std::process::id());
        Ok(BTreeMap::from([
            // The ticker's thread names itself, maybe only now, and the C library some of its memory.
            (libc::SYS_prctl, vec![first_is(PR_SET_NAME)?, first_is(PR_SET_VMA)?]),
            (libc::SYS_read, vec![first_is(0)?]),
            (libc::SYS_write, vec![first_is(1)?, first_is(2)?]),
            (libc::SYS_writev, vec![first_is(1)?, first_is(2)?]),
            (libc::SYS_tgkill, vec![first_is(own)?]),
        ]))
    }
}
