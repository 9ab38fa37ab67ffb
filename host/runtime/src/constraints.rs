//! Compiled constraints, shared between runs, and the bounded pool that compiles them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sglhost_core::{Error, TenantId, limits};
use sglhost_engine::Model;
use sglhost_text::Constraint;

use crate::host::RunShared;
use crate::turns::Turns;

/// A constraint and the model it was compiled for; for another model it is compiled anew, from the pattern.
#[derive(Clone, Debug)]
pub(crate) struct ConstraintSource {
    pub(crate) pattern: Arc<str>,
    pub(crate) model: usize,
    pub(crate) compiled: Constraint,
}

/// A constraint is bound to its model's tokens: the model's place among the engine's, and the pattern. And to its
/// tenant, who could else learn by the time it takes what others ask for.
type Key = (TenantId, usize, Arc<str>);

/// Regular expressions that were compiled; of the tenant with most of them, the least recently used is forgotten first.
#[derive(Debug)]
pub(crate) struct ConstraintCache {
    compiling: Arc<Turns>,
    compiled: Mutex<Compiled>,
}

#[derive(Debug, Default)]
struct Compiled {
    constraints: HashMap<Key, (Constraint, u64)>,
    /// Counts uses, to tell which was the last.
    uses: u64,
}

impl Default for ConstraintCache {
    fn default() -> Self {
        Self { compiling: Turns::new(limits::CONSTRAINTS_COMPILING_MAX), compiled: Mutex::default() }
    }
}

impl ConstraintCache {
    /// The constraint of a regular expression, compiled unless it is known. Neither the guest's nor the engine's thread
    /// compiles.
    ///
    /// # Errors
    /// A pattern that is too long, wrong (with the place), or whose automata grow too large; a run that stops, or has
    /// spent its CPU time.
    pub(crate) async fn regex(
        &self,
        run: &RunShared,
        index: usize,
        model: &Arc<Model>,
        pattern: Arc<str>,
    ) -> Result<Constraint, Error> {
        let max = limits::PATTERN_BYTES_MAX;
        if pattern.len() > max {
            let bytes = pattern.len();
            return Err(Error::limit(format!("the regex has {bytes} bytes; the limit is {max} (PATTERN_BYTES_MAX)")));
        }
        let key = (run.tenant.clone(), index, pattern);
        if let Some(constraint) = self.get(&key) {
            return Ok(constraint);
        }
        let turn = self.compiling.wait(&run.tenant, &run.stop).await?;
        // Siblings ask for the same pattern at once: the second finds it here.
        if let Some(constraint) = self.get(&key) {
            return Ok(constraint);
        }
        run.meter.check()?;
        let (tokenizer, pattern, meter) = (Arc::clone(&model.tokenizer), Arc::clone(&key.2), Arc::clone(&run.meter));
        // One of the run's tasks: a guest that is gone does not wait for it, but the run's CPU time includes it.
        let work = run.tasks.spawn_blocking(move || {
            let compiled = meter.charge_work(|| Constraint::regex(&pattern, &tokenizer));
            // The turn lasts as long as the work, whoever still waits for it, and until siblings can find what was made.
            (compiled, turn)
        });
        let (compiled, _turn) =
            work.await.map_err(|_| Error::unavailable("compiling the regex failed inside the host"))?;
        let constraint = compiled?;
        self.put(key, constraint.clone());
        Ok(constraint)
    }

    /// The constraint as a model needs it.
    ///
    /// # Errors
    /// As [`ConstraintCache::regex`].
    pub(crate) async fn for_model(
        &self,
        run: &RunShared,
        index: usize,
        model: &Arc<Model>,
        source: ConstraintSource,
    ) -> Result<Constraint, Error> {
        if source.model == index { Ok(source.compiled) } else { self.regex(run, index, model, source.pattern).await }
    }

    fn get(&self, key: &Key) -> Option<Constraint> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.uses += 1;
        let now = compiled.uses;
        let (constraint, used) = compiled.constraints.get_mut(key)?;
        *used = now;
        Some(constraint.clone())
    }

    fn put(&self, key: Key, constraint: Constraint) {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.constraints.len() >= limits::CONSTRAINTS_CACHED_MAX {
            // A scan of a few dozen, beside a compilation. Of the tenant that has most, so that it cannot push others' out.
            let mut held = HashMap::<_, usize>::new();
            compiled.constraints.keys().for_each(|(tenant, ..)| *held.entry(tenant).or_default() += 1);
            let order = |key: &Key, used: u64| (Reverse(held.get(&key.0).copied()), used);
            let oldest = compiled.constraints.iter().min_by_key(|(key, (_, used))| order(key, *used));
            let oldest = oldest.map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                compiled.constraints.remove(&oldest);
            }
        }
        let now = compiled.uses;
        compiled.constraints.insert(key, (constraint, now));
    }
}
