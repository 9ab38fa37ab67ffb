//! Every method against a model that keeps everything in lists, with random operations.
//!
//! A failure prints its seed. To replay it: set `SEEDS` to it alone.

use std::ops::Range;

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use sglhost_core::{Error, Quotas, RunId, RunRecord, TenantId, Usage};

use super::{digest, tenant};
use crate::{
    Deleted, Footprint, KeyRecord, NewKey, NewProgram, NewRun, Page, ProgramReference, ProgramVersion, PutProgram,
    RunEnd, RunRow, RunStatus, SqliteStore, Started, Store, StoreError, TenantRecord, UsageDay, VersionSelector,
};

const SEEDS: Range<u64> = 0..8;
const STEPS: u32 = 250;
const DAY_MS: u64 = 86_400_000;
const RECORD_BYTES_MAX: u64 = 1500;
const TENANTS: [&str; 3] = ["a", "b", "local"];
const NAMES: [&str; 3] = ["p", "q", "r"];
const CONTENTS: [&[u8]; 5] = [b"", b"1", b"four", b"sixteen of these", b"a longer one of some thirty bytes"];

#[derive(Clone)]
struct Run {
    tenant: TenantId,
    row: RunRow,
    bytes: u64,
    idempotency: Option<(String, [u8; 32])>,
}

#[derive(Default)]
struct Model {
    changes: u64,
    tenants: Vec<TenantRecord>,
    versions: Vec<(TenantId, ProgramVersion)>,
    last_versions: Vec<(TenantId, String, u32)>,
    runs: Vec<Run>,
    usage: Vec<(TenantId, UsageDay)>,
}

type Answer<T> = Result<T, &'static str>;

impl Model {
    fn tenant(&mut self, id: &TenantId) -> Answer<&mut TenantRecord> {
        self.tenants.iter_mut().find(|tenant| tenant.id == *id).ok_or("not found")
    }

    fn put_tenant(&mut self, id: &TenantId, quotas: &Quotas, now_ms: u64) {
        self.changes += 1;
        if let Ok(tenant) = self.tenant(id) {
            tenant.quotas = quotas.clone();
            return;
        }
        self.tenants.push(TenantRecord {
            id: id.clone(),
            quotas: quotas.clone(),
            created_ms: now_ms,
            keys: Vec::new(),
        });
        self.tenants.sort_by(|a, b| a.id.cmp(&b.id));
    }

    fn remove_tenant(&mut self, id: &TenantId) -> Answer<()> {
        self.tenant(id)?;
        self.changes += 1;
        self.tenants.retain(|tenant| tenant.id != *id);
        self.versions.retain(|(tenant, _)| tenant != id);
        self.last_versions.retain(|(tenant, ..)| tenant != id);
        self.runs.retain(|run| run.tenant != *id);
        Ok(())
    }

    fn add_key(&mut self, NewKey { tenant, key }: NewKey) -> Answer<()> {
        let same = |other: &KeyRecord| other.sha256 == key.sha256;
        let taken = self.tenants.iter().any(|tenant| tenant.keys.iter().any(same));
        let tenant = self.tenant(&tenant)?;
        if taken || tenant.keys.iter().any(|other| other.id == key.id) {
            return Err("taken");
        }
        tenant.keys.push(key);
        self.changes += 1;
        Ok(())
    }

    fn remove_key(&mut self, id: &TenantId, key: &str) -> Answer<()> {
        let keys = &mut self.tenant(id).map_err(|_| "not found")?.keys;
        let before = keys.len();
        keys.retain(|other| other.id != key);
        if keys.len() == before {
            return Err("not found");
        }
        self.changes += 1;
        Ok(())
    }

    fn versions<'a>(&'a self, tenant: &TenantId, name: &str) -> Vec<&'a ProgramVersion> {
        let own = self.versions.iter().filter(|(owner, version)| owner == tenant && version.name == name);
        let mut own: Vec<_> = own.map(|(_, version)| version).collect();
        own.sort_by_key(|version| std::cmp::Reverse(version.version));
        own
    }

    fn footprint(&self, tenant: &TenantId) -> Footprint {
        let own = self.versions.iter().filter(|(owner, _)| owner == tenant);
        let sizes: Vec<u64> = own.map(|(_, version)| version.size_bytes).collect();
        Footprint { programs: sizes.len() as u32, program_bytes: sizes.iter().sum() }
    }

    fn put_program(&mut self, new: &NewProgram, size_bytes: u64) -> Answer<PutProgram> {
        let latest = self.versions(&new.tenant, &new.name).first().map(|&latest| latest.clone());
        let is_new = latest.as_ref().is_none_or(|latest| latest.digest != new.digest);
        let number = match latest {
            Some(latest) if latest.digest == new.digest => latest.version,
            _ => {
                let kept = self.footprint(&new.tenant);
                if kept.programs >= new.programs_max || kept.program_bytes + size_bytes > new.program_bytes_max {
                    return Err("quota");
                }
                let same = |last: &&mut (TenantId, String, u32)| last.0 == new.tenant && last.1 == new.name;
                let number = match self.last_versions.iter_mut().find(same) {
                    Some((.., last)) => {
                        *last += 1;
                        *last
                    }
                    None => {
                        self.last_versions.push((new.tenant.clone(), new.name.clone(), 1));
                        1
                    }
                };
                let version = ProgramVersion {
                    name: new.name.clone(),
                    version: number,
                    digest: new.digest.clone(),
                    size_bytes,
                    description: new.description.clone(),
                    tags: Vec::new(),
                    created_ms: new.created_ms,
                };
                self.versions.push((new.tenant.clone(), version));
                number
            }
        };
        let version = match &new.tag {
            Some(tag) => self.tag(&new.tenant, &new.name, number, tag)?,
            None => self.versions(&new.tenant, &new.name)[0].clone(),
        };
        Ok(PutProgram { version, is_new })
    }

    fn program(&self, tenant: &TenantId, reference: &ProgramReference) -> Option<ProgramVersion> {
        let meant = |version: &&&ProgramVersion| match &reference.selector {
            None => true,
            Some(VersionSelector::Version(number)) => version.version == *number,
            Some(VersionSelector::Tag(tag)) => version.tags.contains(tag),
            Some(VersionSelector::Digest(digest)) => version.digest == *digest,
        };
        self.versions(tenant, &reference.name).iter().find(meant).map(|&version| version.clone())
    }

    fn tag(&mut self, tenant: &TenantId, name: &str, number: u32, tag: &str) -> Answer<ProgramVersion> {
        if !self.versions(tenant, name).iter().any(|version| version.version == number) {
            return Err("not found");
        }
        let own = self.versions.iter_mut().filter(|(owner, version)| owner == tenant && version.name == name);
        let mut tagged = None;
        for (_, version) in own {
            version.tags.retain(|other| other != tag);
            if version.version == number {
                version.tags.push(tag.to_owned());
                version.tags.sort();
                tagged = Some(version.clone());
            }
        }
        tagged.ok_or("not found")
    }

    fn delete_program(&mut self, tenant: &TenantId, reference: &ProgramReference) -> Answer<Deleted> {
        let meant = self.program(tenant, reference).ok_or("not found")?;
        let all = reference.selector.is_none();
        let before = self.versions.len();
        self.versions.retain(|(owner, version)| {
            owner != tenant || version.name != meant.name || !(all || version.version == meant.version)
        });
        Ok(Deleted { versions: (before - self.versions.len()) as u32 })
    }

    fn start_run(&mut self, new: &NewRun) -> Answer<Started> {
        if let Some((key, _)) = &new.idempotency {
            let same = |run: &&Run| {
                run.tenant == new.tenant && run.idempotency.as_ref().is_some_and(|(other, _)| other == key)
            };
            if let Some(run) = self.runs.iter().find(same) {
                let request_sha256 = run.idempotency.as_ref().unwrap().1;
                return Ok(Started::Before { run: Box::new(run.row.clone()), request_sha256 });
            }
        }
        if self.runs.iter().any(|run| run.row.id == new.id) {
            return Err("taken");
        }
        let row = RunRow {
            id: new.id,
            program: new.program.clone(),
            version: new.version,
            digest: new.digest.clone(),
            status: RunStatus::Running,
            started_ms: new.started_ms,
            finished_ms: None,
            record: None,
            error: None,
            usage: Usage::default(),
            cpu_time_us: 0,
        };
        let (tenant, idempotency) = (new.tenant.clone(), new.idempotency.clone());
        self.runs.push(Run { tenant, row, bytes: 0, idempotency });
        Ok(Started::New)
    }

    fn finish_run(&mut self, id: RunId, end: &RunEnd) -> Answer<()> {
        let run = self.runs.iter_mut().find(|run| run.row.id == id).ok_or("not found")?;
        if run.row.status != RunStatus::Running {
            return Ok(());
        }
        run.row.status = end.status;
        run.row.finished_ms = Some(end.finished_ms);
        run.row.record = Some(end.record.clone());
        run.row.error.clone_from(&end.error);
        run.row.usage = end.usage;
        run.row.cpu_time_us = end.cpu_time_us;
        run.bytes = end.record.len() as u64;
        let wall_time_ms = end.finished_ms.saturating_sub(run.row.started_ms);
        let tenant = run.tenant.clone();
        self.use_up(&tenant, end.finished_ms, end.usage, end.cpu_time_us, wall_time_ms);
        let others = |run: &Run| run.tenant == tenant && run.row.finished_ms.is_some() && run.row.id != id;
        while self.runs.iter().filter(|run| run.tenant == tenant).map(|run| run.bytes).sum::<u64>() > RECORD_BYTES_MAX {
            let Some(oldest) = self.runs.iter().position(others) else { break };
            self.runs.remove(oldest);
        }
        Ok(())
    }

    fn use_up(&mut self, tenant: &TenantId, now_ms: u64, usage: Usage, cpu_time_us: u64, wall_time_ms: u64) {
        let day_ms = now_ms / DAY_MS * DAY_MS;
        let same = |(owner, day): &(TenantId, UsageDay)| owner == tenant && day.day_ms == day_ms;
        let place = self.usage.iter().position(same).unwrap_or_else(|| {
            let day = UsageDay { day_ms, runs: 0, usage: Usage::default(), cpu_time_us: 0, wall_time_ms: 0 };
            self.usage.push((tenant.clone(), day));
            self.usage.len() - 1
        });
        let day = &mut self.usage[place].1;
        day.runs += 1;
        day.usage.add(usage);
        day.cpu_time_us += cpu_time_us;
        day.wall_time_ms += wall_time_ms;
    }

    fn interrupt_runs(&mut self, now_ms: u64) -> u64 {
        let mut interrupted = Vec::new();
        for run in self.runs.iter_mut().filter(|run| run.row.status == RunStatus::Running) {
            let message = "the server stopped while the run went on; start it again";
            let error = Error::unavailable(message);
            let record = RunRecord::failed(error.clone()).to_json();
            run.row.status = RunStatus::Interrupted;
            run.row.finished_ms = Some(now_ms);
            run.bytes = record.len() as u64;
            run.row.record = Some(record.into());
            run.row.error = Some(error);
            interrupted.push(run.tenant.clone());
        }
        for tenant in &interrupted {
            self.use_up(tenant, now_ms, Usage::default(), 0, 0);
        }
        interrupted.len() as u64
    }

    fn forget_runs(&mut self, before_ms: u64, kept_max: u32) -> u64 {
        let before = self.runs.len();
        self.runs.retain(|run| run.row.finished_ms.is_none_or(|finished| finished >= before_ms));
        let mut kept = Vec::new();
        for run in self.runs.iter().rev() {
            let newer = kept.iter().filter(|other: &&TenantId| **other == run.tenant).count();
            kept.push(run.tenant.clone());
            if newer >= kept_max as usize && run.row.finished_ms.is_some() {
                kept.pop();
                kept.push(tenant("")); // Counts for nobody.
            }
        }
        kept.reverse();
        let mut kept = kept.iter();
        self.runs.retain(|_| kept.next().unwrap() != &tenant(""));
        (before - self.runs.len()) as u64
    }

    fn runs(&self, tenant: &TenantId) -> Vec<RunRow> {
        let own = self.runs.iter().rev().filter(|run| run.tenant == *tenant);
        own.map(|run| run.row.clone()).collect()
    }
}

/// As lists show it.
fn listed(row: RunRow) -> RunRow {
    RunRow { record: None, ..row }
}

fn kind<T>(answer: Result<T, StoreError>) -> Answer<T> {
    answer.map_err(|error| match error {
        StoreError::NotFound { .. } => "not found",
        StoreError::Taken { .. } => "taken",
        StoreError::Quota(_) => "quota",
        other => panic!("{other}"),
    })
}

struct World {
    rng: StdRng,
    folder: tempfile::TempDir,
    store: SqliteStore,
    beside: SqliteStore,
    model: Model,
    now_ms: u64,
}

fn open(folder: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(folder.path()).unwrap().with_record_bytes_max(RECORD_BYTES_MAX)
}

impl World {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, beside) = (open(&folder), SqliteStore::open_beside(folder.path()).unwrap());
        Self { rng: StdRng::seed_from_u64(seed), folder, store, beside, model: Model::default(), now_ms: 20 * DAY_MS }
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())].clone()
    }

    fn tenant(&mut self) -> TenantId {
        tenant(self.one(&TENANTS))
    }

    fn tag(&mut self) -> String {
        self.one(&["stable", "next", "0a"]).to_owned()
    }

    fn reference(&mut self) -> ProgramReference {
        let selector = match self.rng.random_range(0..5) {
            0 => None,
            1 => Some(VersionSelector::Tag(self.tag())),
            2 => Some(VersionSelector::Digest(digest(self.one(&CONTENTS)))),
            _ => Some(VersionSelector::Version(self.rng.random_range(0..9))),
        };
        ProgramReference { name: self.one(&NAMES).to_owned(), selector }
    }

    /// One whose id was drawn before, or not.
    fn run_id(&mut self) -> RunId {
        match self.model.runs.len() {
            before if before > 0 && self.rng.random_bool(0.8) => {
                self.model.runs[self.rng.random_range(0..before)].row.id
            }
            _ => RunId(self.rng.random()),
        }
    }

    async fn step(&mut self) {
        self.now_ms += self.rng.random_range(0..DAY_MS / 8);
        match self.rng.random_range(0..100) {
            0..15 => self.step_tenants().await,
            15..35 => self.step_put().await,
            35..42 => {
                let (tenant, name, tag) = (self.tenant(), self.one(&NAMES), self.tag());
                let version = self.rng.random_range(0..9);
                let expect = self.model.tag(&tenant, name, version, &tag);
                assert_eq!(kind(self.store.tag(&tenant, name, version, &tag).await), expect);
            }
            42..50 => {
                let (tenant, reference) = (self.tenant(), self.reference());
                let expect = self.model.delete_program(&tenant, &reference);
                assert_eq!(kind(self.store.delete_program(&tenant, &reference).await), expect);
            }
            50..70 => self.step_start().await,
            70..90 => self.step_finish().await,
            90..94 => {
                let before_ms = self.now_ms.saturating_sub(self.rng.random_range(0..DAY_MS * 4));
                let kept_max = self.rng.random_range(0..12);
                let expect = self.model.forget_runs(before_ms, kept_max);
                assert_eq!(self.store.forget_runs(before_ms, kept_max).await.unwrap(), expect);
            }
            94..96 => {
                let expect = self.model.interrupt_runs(self.now_ms);
                assert_eq!(self.store.interrupt_runs(self.now_ms).await.unwrap(), expect);
            }
            96..98 => {
                // Two at once are refused: the old one must go before the new one comes.
                let folder = tempfile::tempdir().unwrap();
                self.store = open(&folder);
                self.store = open(&self.folder);
            }
            _ => self.check().await,
        }
    }

    async fn step_tenants(&mut self) {
        let tenant = self.tenant();
        let key = self.one(&["k1", "k2", "k3"]);
        let through = if self.rng.random_bool(0.5) { &self.store } else { &self.beside };
        match self.rng.random_range(0..10) {
            0..4 => {
                let quotas = Quotas { programs_max: self.rng.random_range(1..5), ..Quotas::unlimited() };
                self.model.put_tenant(&tenant, &quotas, self.now_ms);
                through.put_tenant(&tenant, &quotas, self.now_ms).await.unwrap();
            }
            4..7 => {
                let sha256 = [self.rng.random_range(0..9); 32];
                let key = KeyRecord { id: key.into(), label: "it".into(), sha256, created_ms: self.now_ms };
                let new = NewKey { tenant, key };
                assert_eq!(kind(through.add_key(new.clone()).await), self.model.add_key(new));
            }
            7..9 => {
                let expect = self.model.remove_key(&tenant, key);
                assert_eq!(kind(through.remove_key(&tenant, key).await), expect);
            }
            _ => {
                assert_eq!(kind(through.remove_tenant(&tenant).await), self.model.remove_tenant(&tenant));
                // The server deletes what another process let go of when it next changes something.
                self.store.forget_runs(0, u32::MAX).await.unwrap();
            }
        }
    }

    async fn step_put(&mut self) {
        let content = self.one(&CONTENTS);
        let new = NewProgram {
            tenant: self.tenant(),
            name: self.one(&NAMES).to_owned(),
            digest: digest(content),
            description: json!({"description": self.now_ms}),
            tag: self.rng.random_bool(0.3).then(|| self.tag()),
            created_ms: self.now_ms,
            programs_max: self.rng.random_range(1..8),
            program_bytes_max: self.rng.random_range(1..120),
        };
        let expect = self.model.put_program(&new, content.len() as u64);
        assert_eq!(kind(self.store.put_program(new, Bytes::from_static(content)).await), expect);
    }

    async fn step_start(&mut self) {
        let new = NewRun {
            id: if self.rng.random_bool(0.9) { RunId(self.rng.random()) } else { self.run_id() },
            tenant: self.tenant(),
            program: self.one(&NAMES).to_owned(),
            version: 3,
            digest: digest(b"x"),
            started_ms: self.now_ms,
            idempotency: self
                .rng
                .random_bool(0.5)
                .then(|| (self.one(&["i", "j", "k"]).to_owned(), [self.rng.random(); 32])),
        };
        let expect = self.model.start_run(&new);
        assert_eq!(kind(self.store.start_run(new).await), expect);
    }

    async fn step_finish(&mut self) {
        let id = self.run_id();
        let usage = Usage {
            prompt_tokens: self.rng.random_range(0..1000),
            cached_tokens: self.rng.random_range(0..1000),
            completion_tokens: self.rng.random_range(0..1000),
        };
        let text = "x".repeat(self.rng.random_range(0..700));
        let mut record = json!({"variables": {"text": text}, "usage": usage});
        let status = self.one(&[RunStatus::Succeeded, RunStatus::Failed, RunStatus::Cancelled]);
        if status == RunStatus::Succeeded {
            record["result"] = json!({"n": self.now_ms});
        } else {
            record["error"] = json!({"code": "program", "message": "why"});
        }
        let error = record.get("error").map(|error| serde_json::from_value(error.clone()).unwrap());
        let record = record.to_string().into();
        let cpu_time_us = self.rng.random_range(0..1000);
        let end = RunEnd { status, finished_ms: self.now_ms, record, error, usage, cpu_time_us };
        let expect = self.model.finish_run(id, &end);
        assert_eq!(kind(self.store.finish_run(id, end).await), expect);
    }

    /// Compares all there is to see.
    async fn check(&mut self) {
        let (store, model) = (&self.store, &self.model);
        assert_eq!(store.tenants_version().await.unwrap(), model.changes);
        assert_eq!(self.beside.tenants_version().await.unwrap(), model.changes);
        assert_eq!(store.tenants().await.unwrap(), model.tenants);
        for content in CONTENTS {
            let used = model.versions.iter().any(|(_, version)| version.digest == digest(content));
            let expect = if used { Ok(Bytes::from_static(content)) } else { Err("not found") };
            assert_eq!(kind(store.component(&digest(content)).await), expect);
        }
        let (mut totals, since_ms) = (Vec::new(), 21 * DAY_MS + 5);
        for owner in TENANTS.map(tenant) {
            let days = model.usage.iter().filter(|(tenant, _)| *tenant == owner).map(|(_, day)| day.clone());
            let mut days: Vec<UsageDay> = days.collect();
            days.sort_by_key(|day| day.day_ms);
            if !days.is_empty() {
                let mut total = (owner.clone(), Usage::default(), 0, 0);
                for day in &days {
                    total.1.add(day.usage);
                    total.2 += day.cpu_time_us;
                    total.3 += day.runs;
                }
                totals.push(total);
            }
            days.retain(|day| day.day_ms >= since_ms / DAY_MS * DAY_MS);
            assert_eq!(store.usage(&owner, since_ms).await.unwrap(), days);
            assert_eq!(store.footprint(&owner).await.unwrap(), model.footprint(&owner));
        }
        assert_eq!(store.usage_totals().await.unwrap(), totals);
        self.check_programs().await;
        self.check_runs().await;
    }

    async fn check_programs(&mut self) {
        let limit = self.rng.random_range(1..4);
        for owner in TENANTS.map(tenant) {
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let page = self.store.programs(&owner, &Page { after, limit }).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                listed.extend(page);
            }
            let latest = NAMES.iter().filter_map(|name| self.model.versions(&owner, name).first().copied());
            assert_eq!(listed.iter().collect::<Vec<_>>(), latest.collect::<Vec<_>>());
            for name in NAMES {
                let (mut listed, mut after) = (Vec::new(), None);
                loop {
                    let page = self.store.versions(&owner, name, &Page { after, limit }).await.unwrap();
                    let Some(last) = page.last() else { break };
                    after = Some(last.version.to_string());
                    listed.extend(page);
                }
                assert_eq!(listed.iter().collect::<Vec<_>>(), self.model.versions(&owner, name));
                let reference = self.reference();
                let found = self.store.program(&owner, &reference).await.unwrap();
                assert_eq!(found, self.model.program(&owner, &reference));
            }
        }
    }

    async fn check_runs(&mut self) {
        let limit = self.rng.random_range(1..9);
        for owner in TENANTS.map(tenant) {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = self.store.runs(&owner, &Page { after, limit }).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some(last.id.to_string());
                found.extend(page);
            }
            let own = self.model.runs(&owner);
            assert_eq!(found, own.iter().cloned().map(listed).collect::<Vec<_>>());
            for run in own {
                assert_eq!(self.store.run(&owner, run.id).await.unwrap(), Some(run.clone()));
                assert_eq!(self.store.run(&tenant("other"), run.id).await.unwrap(), None);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_does_what_the_model_does() {
    for seed in SEEDS {
        eprintln!("seed {seed}"); // Shown if it fails.
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step().await;
        }
        world.check().await;
    }
}
