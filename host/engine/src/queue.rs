//! Who waits, and who is served next: fair between tenants, then by the service each run has attained.
//!
//! *Between tenants*: the one that was served least comes first (virtual token counter: Sheng et al., OSDI'24). A tenant
//! that comes back after a pause is lifted to the least served one, less a small credit, so that idling earns nothing
//! and a newcomer is served at once.
//! *Within a tenant*: higher priority first, then the run that was served least, all its calls counted together
//! (Autellix, 2025), in levels that double so that equals do not take turns, then the older run. A run of the tenant
//! that has waited too long comes first whatever it attained.
//! *Within a run*: calls in the order in which they came, those first that were retracted; among the first few, the one with
//! the longest cached prefix (SGLang).
//!
//! *Invariant*: no clock and no randomness here; time is handed in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use sglhost_cache::Lease;
use sglhost_core::{RunId, TenantId, limits::SchedulePolicy};
use slotmap::{SlotMap, new_key_type};

use crate::sequence::SequenceId;

new_key_type! {
    /// A run's account, on which its sequences are charged.
    pub(crate) struct Account;
    struct TenantKey;
}

/// What a token that is decoded costs in prefilled tokens (the weights of the virtual token counter's authors).
const DECODE_COST: u64 = 2;
/// Served tokens that a tenant is ahead by when it comes back; also the most that switching between tenants is rated
/// at.
const CREDIT: u64 = 4096;
/// Runs that attained less than this are equals; each further level is twice as wide.
const FIRST_LEVEL: u64 = 256;
/// A run that waited this long is served next, and so is a running prefill.
pub(crate) const STARVED_AFTER: Duration = Duration::from_secs(10);
/// A sequence that waited too long, or whose memory would be taken, is not retracted for another of its tenant before it
/// computed this many tokens.
const QUANTUM: usize = 64;
/// Paths of one run that are kept from early eviction.
const LEASES_OF_RUN_MAX: usize = 16;
/// Accounts without work that are remembered, of runs and of tenants.
const IDLE_ACCOUNTS_MAX: usize = 4096;

/// A run's place among the waiting runs of its tenant; the least comes first.
type Rank = (Reverse<i32>, u32, u64, Account);

#[derive(Debug, Default)]
struct Tenant {
    /// Tokens it was served, weighted; never falls.
    service: u64,
    /// Its accounts.
    runs: usize,
    /// Its sequences, waiting or running.
    sequences: usize,
    running: usize,
    /// Slots its running sequences hold; a shared one counts for each.
    slots: usize,
    ready: BTreeSet<Rank>,
    /// By how long they have been ready.
    longest_ready: BTreeSet<(Duration, Account)>,
}

#[derive(Debug)]
struct Run {
    tenant: TenantKey,
    /// None for an account that belongs to one call alone.
    id: Option<(TenantId, RunId)>,
    priority: i32,
    /// Tokens that all its calls were served, weighted.
    attained: u64,
    arrival: u64,
    /// Its sequences, waiting or running.
    sequences: usize,
    ready: VecDeque<SequenceId>,
    ready_since: Duration,
    leases: VecDeque<Lease>,
}

impl Run {
    fn take(&mut self, sequence: SequenceId) {
        let place = self.ready.iter().position(|&ready| ready == sequence).expect("it was ready");
        self.ready.remove(place);
    }
}

/// The waiting sequences and the accounts of all.
#[derive(Debug)]
pub(crate) struct Queue {
    policy: SchedulePolicy,
    tenants: SlotMap<TenantKey, Tenant>,
    tenants_by_id: BTreeMap<TenantId, TenantKey>,
    runs: SlotMap<Account, Run>,
    runs_by_id: HashMap<(TenantId, RunId), Account>,
    arrivals: u64,
    /// What the last tenant that had work was served: a newcomer to an idle engine starts there too.
    floor: u64,
    /// Leases of runs that ended, for the cache to end.
    ended_leases: Vec<Lease>,
}

/// What decides whether a sequence gives way to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    pub(crate) account: Account,
    /// Slots it holds, or needs.
    pub(crate) slots: usize,
    /// Tokens it computed since it was admitted.
    pub(crate) computed: usize,
    /// It was let in because it had waited too long.
    pub(crate) rescued: bool,
}

impl Queue {
    pub(crate) fn new(policy: SchedulePolicy) -> Self {
        Self {
            policy,
            tenants: SlotMap::with_key(),
            tenants_by_id: BTreeMap::new(),
            runs: SlotMap::with_key(),
            runs_by_id: HashMap::new(),
            arrivals: 0,
            floor: 0,
            ended_leases: Vec::new(),
        }
    }

    /// Sequences that are ready to be admitted.
    #[cfg(test)]
    pub(crate) fn ready(&self) -> usize {
        self.runs.values().map(|run| run.ready.len()).sum()
    }

    /// The account of a call: its run's, opened if this is its first call.
    pub(crate) fn account(&mut self, tenant: &TenantId, run: RunId, priority: i32) -> Account {
        let fair = self.policy == SchedulePolicy::LeastAttainedService;
        // First come, first served knows neither tenants nor runs: everybody is one tenant, and each call a run.
        let owner = if fair { tenant.clone() } else { TenantId::local() };
        let id = fair.then(|| (owner.clone(), run));
        if let Some(&account) = id.as_ref().and_then(|id| self.runs_by_id.get(id)) {
            if self.runs[account].priority != priority {
                self.unlist(account);
                self.runs[account].priority = priority;
                self.list(account);
            }
            return account;
        }
        let tenant = match self.tenants_by_id.get(&owner) {
            Some(&tenant) => tenant,
            None => self.open_tenant(owner),
        };
        self.arrivals += 1;
        self.tenants[tenant].runs += 1;
        let account = self.runs.insert(Run {
            tenant,
            id: id.clone(),
            priority: if fair { priority } else { 0 },
            attained: 0,
            arrival: self.arrivals,
            sequences: 0,
            ready: VecDeque::new(),
            ready_since: Duration::ZERO,
            leases: VecDeque::new(),
        });
        if let Some(id) = id {
            self.runs_by_id.insert(id, account);
            self.forget_idle_runs();
        }
        account
    }

    fn open_tenant(&mut self, id: TenantId) -> TenantKey {
        if self.tenants.len() >= IDLE_ACCOUNTS_MAX {
            // The one that was served least would be lifted anyway.
            let idle = self.tenants_by_id.iter().filter(|(_, key)| self.tenants[**key].runs == 0);
            let least = idle.min_by_key(|(_, key)| self.tenants[**key].service).map(|(id, key)| (id.clone(), *key));
            if let Some((id, key)) = least {
                self.tenants_by_id.remove(&id);
                self.tenants.remove(key);
            }
        }
        let key = self.tenants.insert(Tenant::default());
        self.tenants_by_id.insert(id, key);
        key
    }

    /// Runs are to be ended by their owner; should one forget, memory stays bounded all the same.
    fn forget_idle_runs(&mut self) {
        if self.runs_by_id.len() <= 2 * IDLE_ACCOUNTS_MAX {
            return;
        }
        let mut idle: Vec<(u64, Account)> = self
            .runs
            .iter()
            .filter(|(_, run)| run.sequences == 0 && run.id.is_some())
            .map(|(account, run)| (run.arrival, account))
            .collect();
        idle.sort_unstable();
        for (_, account) in idle.into_iter().take(IDLE_ACCOUNTS_MAX) {
            self.close(account);
        }
    }

    /// Closes a run's account. Sequences that it still has go on and close it with the last of them.
    pub(crate) fn end_run(&mut self, tenant: &TenantId, run: RunId) {
        let Some(account) = self.runs_by_id.remove(&(tenant.clone(), run)) else { return };
        self.runs[account].id = None;
        if self.runs[account].sequences == 0 {
            self.close(account);
        }
    }

    fn close(&mut self, account: Account) {
        let Some(run) = self.runs.remove(account) else { return };
        self.tenants[run.tenant].runs -= 1;
        if let Some(id) = run.id {
            self.runs_by_id.remove(&id);
        }
        self.ended_leases.extend(run.leases);
    }

    /// Closes the account of a call that needs no sequence, unless it is a run's.
    pub(crate) fn close_unused(&mut self, account: Account) {
        let run = &self.runs[account];
        if run.sequences == 0 && run.id.is_none() {
            self.close(account);
        }
    }

    /// Leases that ended since the last call.
    pub(crate) fn take_ended_leases(&mut self) -> Vec<Lease> {
        std::mem::take(&mut self.ended_leases)
    }

    /// Keeps the newest paths of a run; `covers` says that the first lease makes the second superfluous.
    pub(crate) fn keep_lease(&mut self, account: Account, lease: Lease, covers: impl Fn(&Lease, &Lease) -> bool) {
        let run = &mut self.runs[account];
        let (superfluous, kept): (Vec<Lease>, Vec<Lease>) =
            run.leases.drain(..).partition(|older| covers(&lease, older));
        self.ended_leases.extend(superfluous);
        run.leases.extend(kept);
        run.leases.push_back(lease);
        if run.leases.len() > LEASES_OF_RUN_MAX {
            self.ended_leases.extend(run.leases.pop_front());
        }
    }

    /// Whether it is worth keeping paths for the account: its run may call again.
    pub(crate) fn may_call_again(&self, account: Account) -> bool {
        self.runs[account].id.is_some()
    }

    /// Notes a new sequence of the account, which is not ready yet.
    pub(crate) fn opened(&mut self, account: Account) {
        self.runs[account].sequences += 1;
        let key = self.runs[account].tenant;
        if self.tenants[key].sequences == 0 {
            let active = self.tenants.values().filter(|tenant| tenant.sequences > 0);
            let least = active.map(|tenant| tenant.service).min().unwrap_or(self.floor);
            let tenant = &mut self.tenants[key];
            tenant.service = tenant.service.max(least.saturating_sub(CREDIT));
        }
        self.tenants[key].sequences += 1;
    }

    /// Notes that a sequence is gone, which is neither ready nor running any more.
    pub(crate) fn closed(&mut self, account: Account) {
        let run = &mut self.runs[account];
        run.sequences -= 1;
        let (tenant, over) = (run.tenant, run.sequences == 0 && run.id.is_none());
        let tenant = &mut self.tenants[tenant];
        tenant.sequences -= 1;
        if tenant.sequences == 0 {
            self.floor = self.floor.max(tenant.service);
        }
        if over {
            self.close(account);
        }
    }

    /// Makes a sequence ready, behind the others of its run, or before them.
    pub(crate) fn push(&mut self, account: Account, sequence: SequenceId, first: bool, now: Duration) {
        self.unlist(account);
        let run = &mut self.runs[account];
        if run.ready.is_empty() {
            run.ready_since = now;
        }
        if first {
            run.ready.push_front(sequence);
        } else {
            run.ready.push_back(sequence);
        }
        self.list(account);
    }

    /// Takes a ready sequence out.
    pub(crate) fn remove(&mut self, account: Account, sequence: SequenceId) {
        self.unlist(account);
        self.runs[account].take(sequence);
        self.list(account);
    }

    /// Takes a ready sequence out, which runs from now on.
    pub(crate) fn admit(&mut self, account: Account, sequence: SequenceId, now: Duration) {
        self.unlist(account);
        let run = &mut self.runs[account];
        run.take(sequence);
        run.ready_since = now;
        self.tenants[run.tenant].running += 1;
        self.list(account);
    }

    /// Notes that a sequence runs no more and gave back `slots`.
    pub(crate) fn stopped(&mut self, account: Account, slots: usize) {
        let tenant = &mut self.tenants[self.runs[account].tenant];
        tenant.running -= 1;
        tenant.slots -= slots;
    }

    /// Notes that a running sequence took `slots` more.
    pub(crate) fn took(&mut self, account: Account, slots: usize) {
        self.tenants[self.runs[account].tenant].slots += slots;
    }

    /// Charges tokens that were computed for the first time: so many one at a time, so many in chunks.
    pub(crate) fn charge(&mut self, account: Account, decoded: usize, in_chunks: usize) {
        let cost = decoded as u64 * DECODE_COST + in_chunks as u64;
        let level = self.level(account);
        let run = &self.runs[account];
        self.tenants[run.tenant].service += cost;
        let changes = self.level_of(run.attained + cost) != level && !run.ready.is_empty();
        if changes {
            self.unlist(account);
        }
        self.runs[account].attained += cost;
        if changes {
            self.list(account);
        }
    }

    fn level_of(&self, attained: u64) -> u32 {
        match self.policy {
            SchedulePolicy::FirstComeFirstServed => 0,
            SchedulePolicy::LeastAttainedService => (attained / FIRST_LEVEL + 1).ilog2(),
        }
    }

    fn level(&self, account: Account) -> u32 {
        self.level_of(self.runs[account].attained)
    }

    fn rank(&self, account: Account) -> Rank {
        let run = &self.runs[account];
        (Reverse(run.priority), self.level(account), run.arrival, account)
    }

    fn list(&mut self, account: Account) {
        let run = &self.runs[account];
        if !run.ready.is_empty() {
            let rank = self.rank(account);
            let tenant = &mut self.tenants[run.tenant];
            tenant.longest_ready.insert((run.ready_since, account));
            tenant.ready.insert(rank);
        }
    }

    fn unlist(&mut self, account: Account) {
        let run = &self.runs[account];
        if !run.ready.is_empty() {
            let rank = self.rank(account);
            let tenant = &mut self.tenants[run.tenant];
            tenant.longest_ready.remove(&(run.ready_since, account));
            tenant.ready.remove(&rank);
        }
    }

    /// The run that is served next, with its ready sequences.
    pub(crate) fn next(&self, now: Duration) -> Option<(Account, &VecDeque<SequenceId>)> {
        let ready =
            self.tenants_by_id.values().map(|&key| &self.tenants[key]).filter(|tenant| !tenant.ready.is_empty());
        let tenant = ready.min_by_key(|tenant| (tenant.service, tenant.running))?;
        let starved = tenant.longest_ready.first().filter(|(since, _)| {
            self.policy == SchedulePolicy::LeastAttainedService && now.saturating_sub(*since) > STARVED_AFTER
        });
        let account = starved.map_or_else(|| tenant.ready.first().map(|rank| rank.3), |(_, account)| Some(*account))?;
        Some((account, &self.runs[account].ready))
    }

    /// Orders running sequences for the prefill budget: who was served least comes first.
    pub(crate) fn turn(&self, account: Account) -> impl Ord + use<> {
        let run = &self.runs[account];
        (self.tenants[run.tenant].service, self.rank(account))
    }

    /// Orders running sequences when memory has run out: the greatest gives way.
    pub(crate) fn burden(&self, account: Account) -> impl Ord + use<> {
        let run = &self.runs[account];
        let tenant = &self.tenants[run.tenant];
        (tenant.slots > self.share(), tenant.service, self.rank(account))
    }

    /// Slots of a tenant, were all that have work equal.
    fn share(&self) -> usize {
        let active = || self.tenants.values().filter(|tenant| tenant.sequences > 0);
        active().map(|tenant| tenant.slots).sum::<usize>().div_ceil(active().count().max(1))
    }

    /// Whether `waiting` is so much less served than `running` that it takes its place; or only its memory, if that is
    /// what is scarce.
    pub(crate) fn outranks(&self, waiting: Holding, running: Holding, memory_is_scarce: bool) -> bool {
        let (newcomer, holder) = (&self.runs[waiting.account], &self.runs[running.account]);
        let protected = running.rescued && running.computed < QUANTUM;
        if self.policy == SchedulePolicy::FirstComeFirstServed || waiting.account == running.account || protected {
            return false;
        }
        if newcomer.tenant != holder.tenant {
            let (poor, rich) = (&self.tenants[newcomer.tenant], &self.tenants[holder.tenant]);
            let switching = (running.slots as u64).min(CREDIT / 2);
            let has_more =
                poor.running == 0 || rich.running > poor.running + 1 || rich.slots > poor.slots + waiting.slots;
            return has_more && poor.service + switching <= rich.service;
        }
        if newcomer.priority != holder.priority {
            return newcomer.priority > holder.priority;
        }
        // Where memory is scarce, what was computed will have to be computed again: the gap pays for it.
        (running.computed >= QUANTUM || !memory_is_scarce)
            && self.level(waiting.account) < self.level(running.account)
            && holder.attained >= newcomer.attained + running.slots as u64
    }

    /// Checks the books.
    ///
    /// # Panics
    /// If they are wrong.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        for (key, tenant) in &self.tenants {
            let runs: Vec<_> = self.runs.iter().filter(|(_, run)| run.tenant == key).collect();
            assert_eq!(runs.iter().map(|(_, run)| run.sequences).sum::<usize>(), tenant.sequences);
            let listed = runs.iter().filter(|(_, run)| !run.ready.is_empty()).count();
            assert_eq!((listed, listed), (tenant.ready.len(), tenant.longest_ready.len()), "ready runs");
            assert!(
                runs.iter().all(|(account, run)| run.ready.is_empty() || tenant.ready.contains(&self.rank(*account)))
            );
            assert!(tenant.running <= tenant.sequences);
            assert!(tenant.running > 0 || tenant.slots == 0, "nobody runs and slots are held");
        }
    }
}
