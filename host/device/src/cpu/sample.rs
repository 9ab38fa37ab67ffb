//! Sampling and scoring of rows of logits, without sorting the vocabulary.
//!
//! Order: repetition penalty, frequency penalty, presence penalty, bias, mask, temperature, top-k, top-p, min-p. Each
//! filter keeps a beginning of the tokens sorted by logit (ties: lower token first), so that together they keep the
//! shortest of these beginnings; top-p's mass is of what top-k kept. Only the head of the distribution is collected,
//! and of it no more sorted than the cut needs.
//!
//! The random number of a draw is [`random`] of the row's seed and position, nothing else.
//!
//! *Invariant*: a row's result depends on that row alone, bit for bit.

#![allow(unsafe_code, reason = "threads write disjoint rows")]

use std::{
    cmp::Ordering,
    sync::{Mutex, PoisonError},
};

use sglhost_core::TokenMask;
use sglhost_kernels::cpu::{
    Isa, SharedMut,
    reduce::{RUN, exp_sum, find_at_least, max},
};

use super::Machine;
use crate::{
    DeviceError, RowRequest, RowResult, SampleRow,
    sample::{NONE_ALLOWED, NOT_NUMBERS, logprob, random},
};

/// How far below the largest logit (over the temperature) the head of the distribution is collected: first try, second
/// try; then all.
const HEAD_DEPTHS: [f32; 2] = [8.0, 16.0];
/// Below this many tokens, sorting is simpler than splitting further.
const SORT_MAX: usize = 64;

/// A number in [0, 1).
pub(super) fn uniform(seed: u64, position: u64) -> f64 {
    random(seed, position) as f64 / (1_u64 << 53) as f64
}

/// A token of the head.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    logit: f32,
    token: u32,
    /// Probability relative to the likeliest token's.
    weight: f32,
}

impl Candidate {
    /// Likeliest first, ties by token.
    fn order(&self, other: &Self) -> Ordering {
        // Zeros of either sign are equal; what is not a number is no candidate.
        other.logit.partial_cmp(&self.logit).unwrap_or(Ordering::Equal).then(self.token.cmp(&other.token))
    }
}

/// One thread's memory.
#[derive(Debug, Default)]
struct Scratch {
    weights: Vec<f32>,
    runs: Vec<f64>,
    raw: Vec<f32>,
    head: Vec<Candidate>,
}

/// Memory kept between calls.
#[derive(Debug, Default)]
pub(super) struct SampleState {
    scratch: Vec<Mutex<Scratch>>,
}

impl SampleState {
    /// Answers each row of `logits` `[rows.len(), vocabulary]`; logits are changed on the way.
    pub(super) fn run(
        &mut self,
        machine: &mut Machine,
        logits: &mut [f32],
        vocabulary: usize,
        rows: &[RowRequest],
    ) -> Result<Vec<RowResult>, DeviceError> {
        let isa = machine.isa;
        for (row, request) in rows.iter().enumerate() {
            check(row, request, vocabulary)?;
        }
        self.scratch.resize_with(machine.pool.threads(), Mutex::default);
        let mut results = vec![RowResult::default(); rows.len()];
        let (logits, shared) = (SharedMut::new(logits), SharedMut::new(&mut results));
        machine.pool.run(rows.len(), &|thread, row| {
            let mut scratch = self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: each chunk has a row of its own.
            let (logits, result) =
                unsafe { (logits.range(row * vocabulary..(row + 1) * vocabulary), &mut shared.range(row..row + 1)[0]) };
            *result = match &rows[row] {
                request if let Some(reason) = refused(isa, request, logits) => {
                    RowResult { refused: Some(reason), ..RowResult::default() }
                }
                RowRequest::Score { tokens, top } => scratch.score(isa, logits, tokens, *top),
                RowRequest::Sample(request) => scratch.sample(isa, logits, request),
            };
        });
        Ok(results)
    }
}

/// Refuses a row that asks for tokens which there are not.
fn check(row: usize, request: &RowRequest, vocabulary: usize) -> Result<(), DeviceError> {
    let RowRequest::Score { tokens, .. } = request else { return Ok(()) };
    match tokens.iter().find(|&&token| token as usize >= vocabulary) {
        None => Ok(()),
        Some(token) => {
            Err(DeviceError::Shape(format!("row {row} scores token {token} of a vocabulary of {vocabulary}")))
        }
    }
}

/// Why a row has no answer.
fn refused(isa: Isa, request: &RowRequest, logits: &[f32]) -> Option<&'static str> {
    if !max(isa, logits).is_finite() {
        return Some(NOT_NUMBERS);
    }
    let RowRequest::Sample(request) = request else { return None };
    let drawable = |token: u32| logits.get(token as usize).is_some_and(|logit| *logit > f32::NEG_INFINITY);
    let mask = request.mask.as_ref()?;
    (!mask.iter().any(drawable)).then_some(NONE_ALLOWED)
}

impl Scratch {
    fn score(&mut self, isa: Isa, logits: &[f32], tokens: &[u32], top: u32) -> RowResult {
        if tokens.is_empty() && top == 0 {
            return RowResult::default();
        }
        let total = self.log_sum(isa, logits);
        let logprob = |logit: f32| logprob((f64::from(logit) - total) as f32);
        let top = likeliest(isa, logits, top as usize).into_iter().map(|(token, x)| (token, logprob(x))).collect();
        let scores = tokens.iter().map(|&token| logprob(logits[token as usize])).collect();
        RowResult { scores, top, ..RowResult::default() }
    }

    fn sample(&mut self, isa: Isa, logits: &mut [f32], row: &SampleRow) -> RowResult {
        if row.top_logprobs.is_some() {
            self.raw.clear();
            self.raw.extend_from_slice(logits);
        }
        adjust(logits, row);
        let token = if row.temperature == 0.0 { greedy(isa, logits) } else { self.draw(isa, logits, row) };
        match row.top_logprobs {
            None => RowResult { token, ..RowResult::default() },
            Some(top) => {
                let raw = std::mem::take(&mut self.raw);
                let scored = self.score(isa, &raw, &[token], top);
                self.raw = raw;
                RowResult { token, logprob: scored.scores[0], top: scored.top, ..RowResult::default() }
            }
        }
    }

    /// Logarithm of the sum of the row's exponentials.
    fn log_sum(&mut self, isa: Isa, logits: &[f32]) -> f64 {
        let largest = max(isa, logits);
        f64::from(largest) + self.weigh(isa, logits, 1.0, largest).ln()
    }

    /// Fills `weights` and `runs`; gives the sum.
    fn weigh(&mut self, isa: Isa, logits: &[f32], scale: f32, largest: f32) -> f64 {
        self.weights.resize(logits.len(), 0.0);
        self.runs.resize(logits.len().div_ceil(RUN), 0.0);
        exp_sum(isa, logits, scale, largest, &mut self.weights, &mut self.runs)
    }

    fn draw(&mut self, isa: Isa, logits: &[f32], row: &SampleRow) -> u32 {
        let total = self.weigh(isa, logits, 1.0 / row.temperature, max(isa, logits));
        let u = uniform(row.seed, row.position);
        if row.top_k == 0 && row.top_p >= 1.0 {
            if row.min_p <= 0.0 {
                return self.draw_from_all(u * total);
            }
            self.collect(isa, logits, row.min_p);
        } else {
            self.cut(isa, logits, row, total);
            self.head.retain(|candidate| candidate.weight >= row.min_p);
            // Drawn in the order of tokens on every device: a seed gives the same tokens, as far as rounding does.
            self.head.sort_unstable_by_key(|candidate| candidate.token);
        }
        let kept: f64 = self.head.iter().map(|candidate| f64::from(candidate.weight)).sum();
        let mut rest = u * kept;
        let drawn = self.head.iter().find(|candidate| {
            rest -= f64::from(candidate.weight);
            rest < 0.0
        });
        // Sums round: a number at the very end may pass the last token.
        drawn.or(self.head.last()).map_or_else(|| greedy(isa, logits), |candidate| candidate.token)
    }

    /// The token at `rest` of the whole mass, in the order of tokens.
    fn draw_from_all(&self, mut rest: f64) -> u32 {
        let last = self.runs.iter().rposition(|&run| run > 0.0).unwrap_or(0);
        let mut run = 0;
        while run < last && rest >= self.runs[run] {
            rest -= self.runs[run];
            run += 1;
        }
        let start = run * RUN;
        let mut drawn = start;
        for (i, &weight) in self.weights[start..].iter().take(RUN).enumerate() {
            if weight > 0.0 {
                drawn = start + i;
                rest -= f64::from(weight);
                if rest < 0.0 {
                    break;
                }
            }
        }
        drawn as u32
    }

    /// Puts the tokens with at least the given weight into `head`, in the order of tokens.
    fn collect(&mut self, isa: Isa, logits: &[f32], weight: f32) {
        self.head.clear();
        let mut from = 0;
        while let Some(i) = find_at_least(isa, &self.weights, from, weight) {
            if logits[i] > f32::NEG_INFINITY {
                self.head.push(Candidate { logit: logits[i], token: i as u32, weight: self.weights[i] });
            }
            from = i + 1;
        }
    }

    /// Leaves in `head` what top-k and top-p keep, in an order that depends on the row alone.
    fn cut(&mut self, isa: Isa, logits: &[f32], row: &SampleRow, total: f64) {
        let (top_k, top_p) = (row.top_k as usize, f64::from(row.top_p));
        for depth in HEAD_DEPTHS.into_iter().map(Some).chain([None]) {
            self.collect(isa, logits, depth.map_or(0.0, |depth| (-depth).exp()));
            let whole = depth.is_none();
            if top_k > 0 {
                if !whole && self.head.len() < top_k {
                    continue;
                }
                if self.head.len() > top_k {
                    self.head.select_nth_unstable_by(top_k - 1, Candidate::order);
                    self.head.truncate(top_k);
                }
            }
            if top_p >= 1.0 {
                return;
            }
            let mass: f64 = self.head.iter().map(|candidate| f64::from(candidate.weight)).sum();
            let target = top_p * if top_k > 0 { mass } else { total };
            if whole || mass >= target {
                let kept = nucleus(&mut self.head, target);
                self.head.truncate(kept);
                return;
            }
        }
    }
}

/// How many of the likeliest candidates reach `target`; those are put first.
fn nucleus(head: &mut [Candidate], target: f64) -> usize {
    let (mut from, mut to, mut mass) = (0, head.len(), 0.0);
    while to - from > SORT_MAX {
        let middle = (to - from) / 2;
        let (upper, _, _) = head[from..to].select_nth_unstable_by(middle, Candidate::order);
        let upper: f64 = upper.iter().map(|candidate| f64::from(candidate.weight)).sum();
        if mass + upper >= target {
            to = from + middle;
        } else {
            mass += upper;
            from += middle;
        }
    }
    head[from..to].sort_unstable_by(Candidate::order);
    for (i, candidate) in head[from..to].iter().enumerate() {
        mass += f64::from(candidate.weight);
        if mass >= target {
            return from + i + 1;
        }
    }
    to
}

/// Penalties, bias and mask.
fn adjust(logits: &mut [f32], row: &SampleRow) {
    for &(token, count) in &row.counts {
        let Some(logit) = logits.get_mut(token as usize) else { continue };
        if row.repetition_penalty != 1.0 {
            *logit = if *logit > 0.0 { *logit / row.repetition_penalty } else { *logit * row.repetition_penalty };
        }
        *logit -= row.frequency_penalty * count as f32;
        if count > 0 {
            *logit -= row.presence_penalty;
        }
    }
    for &(token, bias) in &row.bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += bias;
        }
    }
    if let Some(mask) = &row.mask {
        forbid(logits, mask);
    }
}

/// Sets what the mask does not allow, or does not know, to negative infinity.
fn forbid(logits: &mut [f32], mask: &TokenMask) {
    let words = mask.words().iter().copied().chain(std::iter::repeat(0));
    for (logits, word) in logits.chunks_mut(32).zip(words) {
        match word {
            u32::MAX => {}
            0 => logits.fill(f32::NEG_INFINITY),
            // Without branches, and so that the compiler makes vectors of it: masks of text are full of such words.
            _ => logits.iter_mut().zip(BITS).for_each(|(logit, bit)| {
                let keep = if word & bit == bit { u32::MAX } else { 0 };
                *logit = f32::from_bits(logit.to_bits() & keep | f32::NEG_INFINITY.to_bits() & !keep);
            }),
        }
    }
}

const BITS: [u32; 32] = {
    let mut bits = [0; 32];
    let mut i = 0;
    while i < 32 {
        bits[i] = 1 << i;
        i += 1;
    }
    bits
};

/// The likeliest token, the lowest of equals.
fn greedy(isa: Isa, logits: &[f32]) -> u32 {
    find_at_least(isa, logits, 0, max(isa, logits)).unwrap_or(0) as u32
}

/// The `count` likeliest tokens with their logits, best first, ties by token.
fn likeliest(isa: Isa, logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count.min(logits.len()) + 1);
    let (mut from, mut least) = (0, f32::NEG_INFINITY);
    while count > 0
        && let Some(i) = find_at_least(isa, logits, from, least)
    {
        from = i + 1;
        // Tokens come in increasing order: one that equals the least of a full list is behind it.
        let place = best.partition_point(|&(_, logit)| logit >= logits[i]);
        if place < count {
            best.insert(place, (i as u32, logits[i]));
            best.truncate(count);
        }
        if best.len() == count {
            least = best[count - 1].1;
        }
    }
    best
}
