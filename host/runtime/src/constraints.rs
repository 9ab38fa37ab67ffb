//! Compiled constraints, shared between runs, and the bounded pool that compiles them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sglhost_core::{Error, limits};
use sglhost_engine::Model;
use sglhost_text::Constraint;
use tokio::sync::Semaphore;

/// A constraint and the model it was compiled for; for another model it is compiled anew, from the pattern.
#[derive(Clone, Debug)]
pub(crate) struct ConstraintSource {
    pub(crate) pattern: Arc<str>,
    pub(crate) model: usize,
    pub(crate) compiled: Constraint,
}

/// A constraint is bound to its model's tokens: the model's place among the engine's, and the pattern.
type Key = (usize, Arc<str>);

/// Regular expressions that were compiled, the least recently used forgotten first.
#[derive(Debug)]
pub(crate) struct ConstraintCache {
    compiling: Semaphore,
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
        Self { compiling: Semaphore::new(limits::CONSTRAINTS_COMPILING_MAX), compiled: Mutex::default() }
    }
}

impl ConstraintCache {
    /// The constraint of a regular expression, compiled unless it is known. Neither the guest's nor the engine's thread
    /// compiles.
    ///
    /// # Errors
    /// A pattern that is too long, wrong (with the place), or whose automata grow too large.
    pub(crate) async fn regex(&self, index: usize, model: &Arc<Model>, pattern: Arc<str>) -> Result<Constraint, Error> {
        let max = limits::PATTERN_BYTES_MAX;
        if pattern.len() > max {
            let bytes = pattern.len();
            return Err(Error::limit(format!("the regex has {bytes} bytes; the limit is {max} (PATTERN_BYTES_MAX)")));
        }
        let key = (index, pattern);
        if let Some(constraint) = self.get(&key) {
            return Ok(constraint);
        }
        let stopped = || Error::unavailable("the host is shutting down");
        let _place = self.compiling.acquire().await.map_err(|_| stopped())?;
        // Siblings ask for the same pattern at once: the second finds it here.
        if let Some(constraint) = self.get(&key) {
            return Ok(constraint);
        }
        let (tokenizer, pattern) = (Arc::clone(&model.tokenizer), Arc::clone(&key.1));
        let constraint = tokio::task::spawn_blocking(move || Constraint::regex(&pattern, &tokenizer))
            .await
            .map_err(|_| Error::unavailable("compiling the regex failed inside the host"))??;
        self.put(key, constraint.clone());
        Ok(constraint)
    }

    /// The constraint as a model needs it.
    ///
    /// # Errors
    /// As [`ConstraintCache::regex`].
    pub(crate) async fn for_model(
        &self,
        index: usize,
        model: &Arc<Model>,
        source: ConstraintSource,
    ) -> Result<Constraint, Error> {
        if source.model == index { Ok(source.compiled) } else { self.regex(index, model, source.pattern).await }
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
            // A scan of a few dozen, beside a compilation.
            let oldest = compiled.constraints.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                compiled.constraints.remove(&oldest);
            }
        }
        let now = compiled.uses;
        compiled.constraints.insert(key, (constraint, now));
    }
}
