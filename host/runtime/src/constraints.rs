//! Compiled constraints, shared between runs, and the bounded pool that compiles them.
//!
//! What a guest holds is the text it wrote ([`ConstraintSource`]). What was compiled of it, which may be many times as
//! large and grows as its states are met, is held here, within [`limits::CONSTRAINTS_CACHED_BYTES_MAX`] for all tenants
//! together, and by calls from their turn to their end ([`InUse`]), within what a run may hold. So no run keeps a
//! compiled constraint alive by not using it; one that was forgotten meanwhile is compiled again, as CPU time of the run.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use sglhost_core::{Error, TenantId, limits};
use sglhost_engine::Model;
use sglhost_text::{Constraint, ConstraintSpec};

use crate::host::RunShared;
use crate::ledger::{Held, Ledger, Share};
use crate::turns::Turns;

/// A constraint as its author wrote it: a handle's, and that of options and waiting calls it was given to.
#[derive(Clone, Debug)]
pub(crate) struct ConstraintSource {
    spec: ConstraintSpec,
    /// Of what the author wrote, for as long as anything of the run refers to it.
    _bytes: Arc<Share>,
}

/// A compiled constraint that calls of one run use, charged to the run once however many calls they are.
#[derive(Debug)]
pub(crate) struct InUse {
    pub(crate) constraint: Constraint,
    _bytes: Share,
}

/// Those that a run's calls use now, by the model's place among the engine's.
#[derive(Debug, Default)]
pub(crate) struct ConstraintsInUse(Mutex<HashMap<(usize, ConstraintSpec), Weak<InUse>>>);

/// A constraint is bound to its model's tokens: the model's place among the engine's, and what the author wrote. And to
/// its tenant, who could else learn by the time it takes what others ask for.
type Key = (TenantId, usize, ConstraintSpec);

/// Constraints that were compiled.
#[derive(Debug)]
pub(crate) struct ConstraintCache {
    compiling: Arc<Turns>,
    compiled: Mutex<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    constraints: HashMap<Key, (Constraint, u64)>,
    /// Counts uses, to tell which was the last.
    uses: u64,
    count_max: usize,
    bytes_max: usize,
}

impl Default for ConstraintCache {
    fn default() -> Self {
        Self { compiling: Turns::new(limits::CONSTRAINTS_COMPILING_MAX), compiled: Mutex::default() }
    }
}

impl Default for Compiled {
    fn default() -> Self {
        Self {
            constraints: HashMap::new(),
            uses: 0,
            count_max: limits::CONSTRAINTS_CACHED_MAX,
            bytes_max: limits::CONSTRAINTS_CACHED_BYTES_MAX,
        }
    }
}

impl ConstraintSource {
    /// Takes what a guest wrote, and compiles it for the default model: most hosts serve one, and what is wrong with it is
    /// known now.
    ///
    /// # Errors
    /// As [`ConstraintCache::compiled`]; a run that holds too much.
    pub(crate) async fn new(run: &RunShared, spec: ConstraintSpec) -> Result<Self, Error> {
        check_size(&spec)?;
        let bytes = run.ledger.take(Held::Bytes, held_bytes(&spec))?;
        let (index, model) = run.model(None)?;
        run.constraints.compiled(run, index, &model, &spec).await?;
        Ok(Self { spec, _bytes: Arc::new(bytes) })
    }

    /// The constraint as a call to a model needs it.
    ///
    /// # Errors
    /// As [`ConstraintCache::compiled`]; a run that holds too much.
    pub(crate) async fn for_call(
        &self,
        run: &RunShared,
        index: usize,
        model: &Arc<Model>,
    ) -> Result<Arc<InUse>, Error> {
        let constraint = run.constraints.compiled(run, index, model, &self.spec).await?;
        run.constraints_in_use.charge(&run.ledger, (index, self.spec.clone()), constraint)
    }
}

impl ConstraintsInUse {
    fn charge(
        &self,
        ledger: &Arc<Ledger>,
        key: (usize, ConstraintSpec),
        constraint: Constraint,
    ) -> Result<Arc<InUse>, Error> {
        let mut in_use = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(in_use) = in_use.get(&key).and_then(Weak::upgrade) {
            return Ok(in_use);
        }
        // Only what the author asked for: what calls teach it comes and goes.
        let bytes = ledger.take(Held::Bytes, constraint.compiled_bytes()).map_err(|mut error| {
            error.message = format!("compiling the constraint: {}", error.message);
            error
        })?;
        let charged = Arc::new(InUse { constraint, _bytes: bytes });
        in_use.retain(|_, charged| charged.strong_count() > 0);
        in_use.insert(key, Arc::downgrade(&charged));
        Ok(charged)
    }
}

impl ConstraintCache {
    /// A constraint, compiled unless it is known. Neither the guest's nor the engine's thread compiles.
    ///
    /// # Errors
    /// One that is wrong (with the place, or the keyword), or too large; a run that stops, or has spent its CPU time.
    async fn compiled(
        &self,
        run: &RunShared,
        index: usize,
        model: &Arc<Model>,
        spec: &ConstraintSpec,
    ) -> Result<Constraint, Error> {
        let key = (run.tenant.clone(), index, spec.clone());
        if let Some(constraint) = self.lock().get(&key) {
            return Ok(constraint);
        }
        let turn = self.compiling.wait(&run.tenant, &run.stop).await?;
        // Siblings ask for the same at once: the second finds it here.
        if let Some(constraint) = self.lock().get(&key) {
            return Ok(constraint);
        }
        run.meter.check()?;
        let (tokenizer, spec, meter) = (Arc::clone(&model.tokenizer), spec.clone(), Arc::clone(&run.meter));
        // One of the run's tasks: a guest that is gone does not wait for it, but the run's CPU time includes it.
        let work = run.tasks.spawn_blocking(move || {
            let compiled = on_a_deep_stack(|| meter.charge_work(|| spec.compile(&tokenizer)));
            // The turn lasts as long as the work, whoever still waits for it, and until siblings can find what was made.
            (compiled, turn)
        });
        let (compiled, _turn) = work
            .await
            .map_err(|_| Error::unavailable(format!("compiling the {} failed inside the host", kind(&key.2))))?;
        let constraint = compiled??;
        self.lock().put(key, constraint.clone());
        Ok(constraint)
    }

    fn lock(&self) -> MutexGuard<'_, Compiled> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Compiled {
    fn get(&mut self, key: &Key) -> Option<Constraint> {
        self.uses += 1;
        let (constraint, used) = self.constraints.get_mut(key).filter(|(constraint, _)| !constraint.is_broken())?;
        *used = self.uses;
        let constraint = constraint.clone();
        // Those that are used grow.
        self.trim();
        Some(constraint)
    }

    fn put(&mut self, key: Key, constraint: Constraint) {
        self.uses += 1;
        self.constraints.insert(key, (constraint, self.uses));
        self.trim();
    }

    /// Forgets until the rest may stay: of the tenant that has most, what it has not used for longest, so that it cannot
    /// push others' out.
    fn trim(&mut self) {
        // Scans of a few dozen.
        loop {
            let bytes = self.constraints.values().map(|(constraint, _)| constraint.bytes()).sum::<usize>();
            let (many, large) = (self.constraints.len() > self.count_max, bytes > self.bytes_max);
            if !many && !large {
                return;
            }
            let mut held = HashMap::<_, usize>::new();
            for ((tenant, ..), (constraint, _)) in &self.constraints {
                *held.entry(tenant).or_default() += if large { constraint.bytes() } else { 1 };
            }
            let order = |key: &Key, used: u64| (Reverse(held.get(&key.0).copied()), used);
            let oldest = self.constraints.iter().min_by_key(|(key, (_, used))| order(key, *used));
            match oldest.map(|(key, _)| key.clone()) {
                Some(oldest) => self.constraints.remove(&oldest),
                None => return,
            };
        }
    }
}

/// A stack that overflows ends the process.
fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let thread =
            thread::Builder::new().name("sglhost-grammar".to_owned()).stack_size(limits::CONSTRAINT_STACK_BYTES);
        let working = thread
            .spawn_scoped(scope, work)
            .map_err(|error| Error::unavailable(format!("no thread to compile the constraint on: {error}")))?;
        working.join().map_err(|_| Error::unavailable("compiling the constraint failed inside the host"))
    })
}

/// What a constraint is called in messages.
fn kind(spec: &ConstraintSpec) -> &'static str {
    match spec {
        ConstraintSpec::Regex(_) => "regex",
        ConstraintSpec::Choices(_) => "choices",
        ConstraintSpec::JsonSchema(_) => "JSON Schema",
        ConstraintSpec::Lark(_) => "Lark grammar",
        ConstraintSpec::StructuralTag(_) => "structural tag",
    }
}

/// Bytes that what the author wrote takes.
fn held_bytes(spec: &ConstraintSpec) -> usize {
    match spec {
        ConstraintSpec::Choices(choices) => spec.len() + size_of_val(&**choices),
        _ => spec.len(),
    }
}

/// Before anything is parsed, and before others' turns are waited for.
fn check_size(spec: &ConstraintSpec) -> Result<(), Error> {
    let (max, name, way_out) = match spec {
        ConstraintSpec::Regex(_) => (
            limits::PATTERN_BYTES_MAX,
            "PATTERN_BYTES_MAX",
            "generate in several calls, or write a Lark grammar, which may be longer",
        ),
        ConstraintSpec::Choices(choices) => {
            let (count, max) = (choices.len(), limits::CHOICES_MAX);
            if count > max {
                return Err(Error::limit(format!(
                    "{count} choices; a constraint takes at most {max} (CHOICES_MAX); choose in several calls"
                )));
            }
            (limits::PATTERN_BYTES_MAX, "PATTERN_BYTES_MAX", "offer fewer or shorter ones, or choose in several calls")
        }
        ConstraintSpec::JsonSchema(_) | ConstraintSpec::StructuralTag(_) => (
            limits::GRAMMAR_BYTES_MAX,
            "GRAMMAR_BYTES_MAX",
            "leave out descriptions and examples, put what is repeated into $defs, or generate in several calls",
        ),
        ConstraintSpec::Lark(_) => (limits::LARK_BYTES_MAX, "LARK_BYTES_MAX", "generate in several calls"),
    };
    let (kind, bytes) = (kind(spec), spec.len());
    if bytes > max {
        return Err(Error::limit(format!("{kind}: {bytes} bytes; the limit is {max} ({name}); {way_out}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use sglhost_core::ErrorCode;
    use sglhost_core::limits::RunLimits;
    use sglhost_text::{GgufVocabulary, Tokenizer};

    use super::*;

    /// `<eos>` and the bytes.
    fn tokenizer() -> Arc<Tokenizer> {
        let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
        let tokens: Vec<String> = std::iter::once("<eos>".to_owned()).chain(bytes).collect();
        let vocabulary = GgufVocabulary {
            model: "llama".to_owned(),
            scores: vec![0.0; tokens.len()],
            token_types: std::iter::once(3).chain([6; 256]).collect(),
            tokens,
            eos: Some(0),
            ..GgufVocabulary::default()
        };
        Arc::new(Tokenizer::from_gguf(vocabulary).unwrap())
    }

    fn key(tenant: &str, number: usize) -> Key {
        (TenantId(tenant.into()), 0, ConstraintSpec::Regex(format!("[a-z]{{{number}}}").into()))
    }

    fn put(compiled: &mut Compiled, tokenizer: &Arc<Tokenizer>, tenant: &str, number: usize) {
        let key = key(tenant, number);
        let constraint = key.2.compile(tokenizer).unwrap();
        compiled.put(key, constraint);
    }

    #[test]
    fn a_flood_of_one_tenant_pushes_out_its_own() {
        let tokenizer = tokenizer();
        let mut compiled = Compiled { count_max: 4, ..Compiled::default() };
        put(&mut compiled, &tokenizer, "other", 1);
        for number in 1..100 {
            put(&mut compiled, &tokenizer, "flood", number);
            assert!(compiled.constraints.len() <= 4);
        }
        assert!(compiled.get(&key("other", 1)).is_some());
        assert!(compiled.get(&key("flood", 99)).is_some() && compiled.get(&key("flood", 1)).is_none());
    }

    #[test]
    fn what_was_learnt_counts_and_is_forgotten() {
        let tokenizer = tokenizer();
        let mut compiled = Compiled { bytes_max: 1 << 18, ..Compiled::default() };
        put(&mut compiled, &tokenizer, "other", 1);
        put(&mut compiled, &tokenizer, "learner", 5);
        put(&mut compiled, &tokenizer, "learner", 2000);
        let constraint = compiled.get(&key("learner", 2000)).unwrap();
        let before = constraint.bytes();
        assert!((1..1 << 18).contains(&before) && constraint.compiled_bytes() < before);
        // Each state that an output comes to is remembered with its mask.
        let mut state = constraint.start();
        let token = tokenizer.encode_plain("a").last().copied().unwrap();
        while state.advance(token) {
            state.mask();
        }
        assert!(constraint.bytes() > 1 << 18, "{before} grew to {}", constraint.bytes());
        assert!(compiled.get(&key("other", 1)).is_some(), "found, and the others looked at");
        assert!(compiled.get(&key("learner", 5)).is_none() && compiled.get(&key("learner", 2000)).is_none());
        assert!(compiled.get(&key("other", 1)).is_some());
    }

    #[test]
    fn a_run_is_charged_once_for_what_its_calls_use_at_a_time() {
        let tokenizer = tokenizer();
        let ledger = Arc::new(Ledger::new(RunLimits { held_bytes_max: 1 << 20, ..RunLimits::default() }));
        let in_use = ConstraintsInUse::default();
        let charge = |pattern: &str| {
            let spec = ConstraintSpec::Regex(pattern.into());
            let constraint = spec.compile(&tokenizer).unwrap();
            in_use.charge(&ledger, (0, spec), constraint)
        };
        // Some 0.9 MiB.
        let large = r"\w{50}";
        let calls = (0..10).map(|_| charge(large).unwrap()).collect::<Vec<_>>();
        let error = charge(r"\w{49}").unwrap_err();
        assert_eq!(error.code, ErrorCode::LimitExceeded);
        assert!(error.message.starts_with("compiling the constraint: "), "{error}");
        assert!(error.message.contains("(held_bytes_max)"), "{error}");
        drop(calls);
        charge(r"\w{49}").unwrap();
        assert_eq!(in_use.0.lock().unwrap().len(), 1, "what no call uses is forgotten");
        drop(ledger.take(Held::Bytes, 1 << 20).unwrap());
    }

    #[test]
    fn a_long_chain_of_references_does_not_end_the_process() {
        let tokenizer = tokenizer();
        let rules = (0..5000).map(|number| format!("r{number}: \"a\" r{}?\n", number + 1)).collect::<String>();
        let grammar = format!("start: r0\n{rules}r5000: \"a\"\n");
        // Compiled or refused.
        drop(on_a_deep_stack(|| ConstraintSpec::Lark(grammar.into()).compile(&tokenizer)).unwrap());
    }

    #[test]
    fn sizes_are_checked_before_anything_is_parsed() {
        let text = |bytes: usize| -> Arc<str> { "(".repeat(bytes).into() };
        let choices = |count: usize, bytes: usize| -> Arc<[String]> { vec!["x".repeat(bytes); count].into() };
        for (spec, words) in [
            (ConstraintSpec::Regex(text(65_537)), "regex: 65537 bytes; the limit is 65536 (PATTERN_BYTES_MAX); "),
            (ConstraintSpec::Choices(choices(2, 40_000)), "choices: 80000 bytes; the limit is 65536 "),
            (
                ConstraintSpec::Choices(choices(1025, 1)),
                "1025 choices; a constraint takes at most 1024 (CHOICES_MAX); ",
            ),
            (ConstraintSpec::JsonSchema(text(524_289)), "JSON Schema: 524289 bytes; the limit is 524288 (GRAMMAR_"),
            (ConstraintSpec::Lark(text(65_537)), "Lark grammar: 65537 bytes; the limit is 65536 (LARK_BYTES_MAX"),
            (ConstraintSpec::StructuralTag(text(524_289)), "structural tag: 524289 bytes; the limit is 524288 "),
        ] {
            let error = check_size(&spec).unwrap_err();
            assert!(error.code == ErrorCode::LimitExceeded && error.message.starts_with(words), "{error}");
        }
        assert_eq!(check_size(&ConstraintSpec::Regex(text(65_536))), Ok(()));
    }
}
