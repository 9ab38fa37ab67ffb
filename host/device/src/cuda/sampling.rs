//! What `sample.cu` and `logprobs.cu` are asked and what they answer, as words.
//!
//! All that is asked of a batch's rows is one piece of memory: a `Request` for each row, as `sampling.cuh` declares it,
//! then the lists and masks that these point to. The answers are another: a token for each row, which the next pass
//! takes as its input, what became of each row, and the log-probabilities of those that want any.
//!
//! *Not here*: the device. These are pure functions of the rows.

use std::sync::Arc;

use sglhost_core::{TokenMask, limits::TOP_LOGPROBS_MAX};

use crate::{DeviceError, RowRequest, RowResult, SampleRow, sample};

/// Threads of a block of either kernel; a block answers a row.
pub(super) const THREADS: usize = 512;
/// A token takes 18 bits of what the kernels compare.
const VOCABULARY_MAX: usize = 1 << 18;
/// Tokens that a block reads the mask of at once.
const MASK_SPREAD: usize = 8192;

const DRAWS: u32 = 1;
const GREEDY: u32 = 2;
const WANTS_LOGPROBS: u32 = 4;

const OK: u32 = 0;
const NOT_NUMBERS: u32 = 1;

/// Words of a [`Request`].
const REQUEST_WORDS: usize = 20;

/// What is asked of one row; `sampling.cuh` says what the fields mean.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    flags: u32,
    scale: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    random: u64,
    mask_at: u32,
    counts: List,
    biases: List,
    saved_at: u32,
    scores: List,
    top: u32,
    answer_at: u32,
}

/// Entries of a list, and the word at which they start.
#[derive(Clone, Copy, Debug, Default)]
struct List {
    at: u32,
    length: u32,
}

impl Request {
    fn words(&self) -> [u32; REQUEST_WORDS] {
        [
            self.flags,
            self.scale.to_bits(),
            self.top_k,
            self.top_p.to_bits(),
            self.min_p.to_bits(),
            self.repetition_penalty.to_bits(),
            self.frequency_penalty.to_bits(),
            self.presence_penalty.to_bits(),
            self.random as u32,
            (self.random >> 32) as u32,
            self.mask_at,
            self.counts.at,
            self.counts.length,
            self.biases.at,
            self.biases.length,
            self.saved_at,
            self.scores.at,
            self.scores.length,
            self.top,
            self.answer_at,
        ]
    }
}

/// All that is asked of a batch's rows.
#[derive(Debug)]
pub(super) struct Requests {
    requests: Vec<Request>,
    /// Counts, biases and tokens to score of all rows, which lie behind the requests.
    lists: Vec<u32>,
    /// Each mask once, and the word at which it starts.
    masks: Vec<(Arc<TokenMask>, usize)>,
    mask_words: usize,
    words: usize,
    saved_words: usize,
    answers: Answers,
}

impl Requests {
    /// Checks what is asked of `rows`, and lays it out.
    pub(super) fn new(rows: &[RowRequest], vocabulary: usize) -> Result<Self, DeviceError> {
        if vocabulary > VOCABULARY_MAX {
            let sizes = format!("a vocabulary of {vocabulary} tokens; the GPU draws from {VOCABULARY_MAX} at most");
            return Err(DeviceError::Unsupported(sizes));
        }
        let mut made = Self {
            requests: Vec::with_capacity(rows.len()),
            lists: Vec::new(),
            masks: Vec::new(),
            mask_words: vocabulary.div_ceil(MASK_SPREAD) * (MASK_SPREAD / 32),
            words: 0,
            saved_words: 0,
            answers: Answers { rows: Vec::with_capacity(rows.len()), words: 2 * rows.len() },
        };
        let lists_at = rows.len() * REQUEST_WORDS;
        for (row, asked) in rows.iter().enumerate() {
            let request = match asked {
                RowRequest::Sample(asked) => made.sample(asked, vocabulary, lists_at),
                RowRequest::Score { tokens, top } => {
                    if let Some(token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
                        let what = format!("row {row} scores token {token} of a vocabulary of {vocabulary}");
                        return Err(DeviceError::Shape(what));
                    }
                    made.score(tokens, *top, lists_at)
                }
            };
            if request.top > TOP_LOGPROBS_MAX {
                let what = format!("{} alternatives; the GPU gives {TOP_LOGPROBS_MAX} at most", request.top);
                return Err(DeviceError::Unsupported(what));
            }
            made.requests.push(request);
        }
        made.place_masks(rows, lists_at);
        let words = made.words.max(made.answers.words);
        if u32::try_from(4 * words).is_err() {
            return Err(DeviceError::Unsupported(format!("{words} words of sampling")));
        }
        Ok(made)
    }

    /// How many words there are.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// Words of memory that `sample` needs for itself.
    pub(super) fn saved_words(&self) -> usize {
        self.saved_words
    }

    /// Whether `logprobs` is to be launched.
    pub(super) fn want_logprobs(&self) -> bool {
        self.requests.iter().any(|request| request.flags & WANTS_LOGPROBS != 0)
    }

    /// Writes them all.
    ///
    /// # Panics
    /// If `out` is shorter than [`Self::words`].
    pub(super) fn fill(&self, out: &mut [u32]) {
        let (requests, rest) = out[..self.words].split_at_mut(self.requests.len() * REQUEST_WORDS);
        for (out, request) in requests.chunks_exact_mut(REQUEST_WORDS).zip(&self.requests) {
            out.copy_from_slice(&request.words());
        }
        rest[..self.lists.len()].copy_from_slice(&self.lists);
        for (mask, at) in &self.masks {
            let out = &mut out[*at..at + self.mask_words];
            // What the mask does not know it does not allow.
            let known = mask.words().len().min(out.len());
            out[..known].copy_from_slice(&mask.words()[..known]);
            out[known..].fill(0);
        }
    }

    /// What will be answered.
    pub(super) fn into_answers(self) -> Answers {
        self.answers
    }

    fn sample(&mut self, row: &SampleRow, vocabulary: usize, lists_at: usize) -> Request {
        let greedy = row.temperature == 0.0;
        let scale = std::f64::consts::LOG2_E / f64::from(row.temperature);
        let penalises = row.repetition_penalty != 1.0 || row.frequency_penalty != 0.0 || row.presence_penalty != 0.0;
        let counts = if penalises { row.counts.as_slice() } else { &[] };
        let saved_at = self.saved_words as u32;
        let counts = self.pairs(counts.iter().copied(), vocabulary, lists_at);
        let biases = row.bias.iter().map(|&(token, bias)| (token, bias.to_bits()));
        let biases = self.pairs(biases, vocabulary, lists_at);
        self.saved_words += (counts.length + biases.length) as usize;
        let mut flags = DRAWS;
        if greedy {
            flags |= GREEDY;
        }
        let (answer_at, top) = self.answer(&mut flags, 0, row.top_logprobs, true);
        Request {
            flags,
            scale: if greedy { 0.0 } else { (scale as f32).clamp(f32::MIN_POSITIVE, f32::MAX) },
            top_k: row.top_k,
            top_p: row.top_p,
            min_p: row.min_p,
            repetition_penalty: row.repetition_penalty,
            frequency_penalty: row.frequency_penalty,
            presence_penalty: row.presence_penalty,
            random: sample::random(row.seed, row.position) << 11,
            counts,
            biases,
            saved_at,
            top,
            answer_at,
            // The mask gets its place last, and nothing is scored.
            ..Request::default()
        }
    }

    fn score(&mut self, tokens: &[u32], top: u32, lists_at: usize) -> Request {
        let scores = List { at: (lists_at + self.lists.len()) as u32, length: tokens.len() as u32 };
        self.lists.extend_from_slice(tokens);
        let mut flags = 0;
        let asked = (top > 0 || !tokens.is_empty()).then_some(top);
        let (answer_at, top) = self.answer(&mut flags, tokens.len(), asked, false);
        Request { flags, scores, top, answer_at, ..Request::default() }
    }

    /// Adds pairs of tokens that the vocabulary has and what belongs to them, sorted by token; pairs of one token stay
    /// in their order.
    fn pairs(&mut self, pairs: impl Iterator<Item = (u32, u32)>, vocabulary: usize, lists_at: usize) -> List {
        // They start at 8 bytes.
        if !(lists_at + self.lists.len()).is_multiple_of(2) {
            self.lists.push(0);
        }
        let at = (lists_at + self.lists.len()) as u32;
        let mut pairs: Vec<(u32, u32)> = pairs.filter(|(token, _)| (*token as usize) < vocabulary).collect();
        if !pairs.is_sorted_by_key(|(token, _)| *token) {
            pairs.sort_by_key(|(token, _)| *token);
        }
        self.lists.extend(pairs.iter().flat_map(|&(token, what)| [token, what]));
        List { at, length: pairs.len() as u32 }
    }

    /// Makes room for a row's log-probabilities if it wants any: where they begin, and how many are the likeliest.
    fn answer(&mut self, flags: &mut u32, scores: usize, top: Option<u32>, draws: bool) -> (u32, u32) {
        let at = self.answers.words;
        let Some(top) = top else {
            self.answers.rows.push(Answer { draws, logprobs: None });
            return (0, 0);
        };
        *flags |= WANTS_LOGPROBS;
        self.answers.words += 2 + scores + 2 * top as usize;
        self.answers.rows.push(Answer { draws, logprobs: Some(Logprobs { at, scores, top: top as usize }) });
        (at as u32, top)
    }

    /// Gives each mask a place behind the lists; rows that share one share its place.
    fn place_masks(&mut self, rows: &[RowRequest], lists_at: usize) {
        let mut end = lists_at + self.lists.len();
        for (request, asked) in self.requests.iter_mut().zip(rows) {
            let RowRequest::Sample(row) = asked else { continue };
            let Some(mask) = &row.mask else { continue };
            let known = self.masks.iter().find(|(other, _)| Arc::ptr_eq(other, mask)).map(|(_, at)| *at);
            let at = known.unwrap_or_else(|| {
                self.masks.push((Arc::clone(mask), end));
                end += self.mask_words;
                end - self.mask_words
            });
            request.mask_at = at as u32;
        }
        self.words = end;
    }
}

/// What is answered about a batch's rows.
#[derive(Debug)]
pub(super) struct Answers {
    rows: Vec<Answer>,
    words: usize,
}

/// What is answered about one row.
#[derive(Clone, Copy, Debug)]
struct Answer {
    draws: bool,
    logprobs: Option<Logprobs>,
}

/// Where a row's log-probabilities are, and how many; `logprobs.cu` says how they lie.
#[derive(Clone, Copy, Debug)]
struct Logprobs {
    at: usize,
    scores: usize,
    top: usize,
}

impl Answers {
    /// How many words there are.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// The results of all rows.
    ///
    /// # Panics
    /// If `words` is shorter than [`Self::words`].
    pub(super) fn results(&self, words: &[u32]) -> Vec<RowResult> {
        let rows = self.rows.len();
        let (tokens, statuses) = (&words[..rows], &words[rows..2 * rows]);
        let rows = self.rows.iter().zip(tokens).zip(statuses);
        rows.map(|((answer, &token), &status)| match status {
            OK => answer.result(token, words),
            NOT_NUMBERS => RowResult { refused: Some(sample::NOT_NUMBERS), ..RowResult::default() },
            _ => RowResult { refused: Some(sample::NONE_ALLOWED), ..RowResult::default() },
        })
        .collect()
    }
}

impl Answer {
    fn result(&self, token: u32, words: &[u32]) -> RowResult {
        let mut result = RowResult { token, ..RowResult::default() };
        if let Some(Logprobs { at, scores, top }) = self.logprobs {
            let (head, rest) = words[at..].split_at(2);
            let (scored, rest) = rest.split_at(scores);
            let (tokens, logprobs) = rest.split_at(top);
            let found = top.min(head[1] as usize);
            if self.draws {
                result.logprob = f32::from_bits(head[0]);
            }
            result.scores = scored.iter().map(|&word| sample::logprob(f32::from_bits(word))).collect();
            let likeliest = tokens.iter().zip(logprobs).take(found);
            result.top = likeliest.map(|(&token, &word)| (token, f32::from_bits(word))).collect();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> SampleRow {
        SampleRow { seed: 7, ..SampleRow::default() }
    }

    fn sample(row: SampleRow) -> RowRequest {
        RowRequest::Sample(Box::new(row))
    }

    fn words(rows: &[RowRequest], vocabulary: usize) -> Vec<u32> {
        let requests = Requests::new(rows, vocabulary).unwrap();
        let mut words = vec![0xdead_beef; requests.words()];
        requests.fill(&mut words);
        words
    }

    #[test]
    fn lists_are_sorted_and_within_the_vocabulary() {
        let rows = [sample(SampleRow {
            counts: vec![(9, 2), (3, 1), (100, 5)],
            bias: vec![(5, 1.0), (2, -3.0), (5, 2.0)],
            presence_penalty: 0.5,
            ..row()
        })];
        let words = words(&rows, 100);
        let lists = |at: usize, length: usize| words[at..at + 2 * length].to_vec();
        assert_eq!(lists(words[11] as usize, words[12] as usize), [3, 1, 9, 2]);
        let bits = f32::to_bits;
        assert_eq!(lists(words[13] as usize, words[14] as usize), [2, bits(-3.0), 5, bits(1.0), 5, bits(2.0)]);
        assert_eq!(Requests::new(&rows, 100).unwrap().saved_words(), 5);
    }

    #[test]
    fn counts_without_penalties_are_left_out() {
        assert_eq!(words(&[sample(SampleRow { counts: vec![(3, 1)], ..row() })], 100)[12], 0);
    }

    #[test]
    fn shared_masks_are_sent_once() {
        let mut mask = TokenMask::none(40);
        mask.allow(33);
        let (mask, other) = (Arc::new(mask), Arc::new(TokenMask::all(40)));
        let masked = |mask: &Arc<TokenMask>| sample(SampleRow { mask: Some(Arc::clone(mask)), ..row() });
        let rows = [masked(&mask), sample(row()), masked(&other), masked(&mask)];
        // A vocabulary larger than the masks'.
        let words = words(&rows, 8193);
        let at = |row: usize| words[row * REQUEST_WORDS + 10] as usize;
        assert_eq!((at(0), at(1)), (at(3), 0));
        assert!(at(2) == at(0) + 512 && words.len() == at(2) + 512);
        assert_eq!(words[at(0)..at(0) + 3], [0, 2, 0]);
        assert_eq!(words[at(2)..at(2) + 3], [u32::MAX, 255, 0]);
        assert!(words[at(0) + 2..at(2)].iter().all(|&word| word == 0));
    }

    #[test]
    fn answers_are_read_where_they_are_asked_for() {
        let rows = [
            sample(row()),
            RowRequest::Score { tokens: vec![4, 5], top: 2 },
            sample(SampleRow { top_logprobs: Some(0), ..row() }),
            RowRequest::Score { tokens: Vec::new(), top: 0 },
        ];
        let requests = Requests::new(&rows, 100).unwrap();
        assert!(requests.want_logprobs());
        let packed = words(&rows, 100);
        let field = |row: usize, field: usize| packed[row * REQUEST_WORDS + field];
        assert_eq!([0, 1, 2, 3].map(|row| field(row, 0)), [DRAWS, WANTS_LOGPROBS, DRAWS | WANTS_LOGPROBS, 0]);
        assert_eq!((field(1, 17), field(1, 18), field(1, 19), field(2, 19)), (2, 2, 8, 16));
        assert_eq!(packed[field(1, 16) as usize..][..2], [4, 5]);
        let answers = requests.into_answers();
        assert_eq!(answers.words(), 18);
        let bits = f32::to_bits;
        let mut words = vec![11, 0, 12, 0, OK, OK, OK, OK];
        words.extend([99, 1, bits(-1.0), bits(-2.0), 7, 99, bits(-0.5), 99, bits(-0.25), 0]);
        let results = answers.results(&words);
        assert_eq!(results[0], RowResult { token: 11, ..RowResult::default() });
        assert_eq!(results[1], RowResult { scores: vec![-1.0, -2.0], top: vec![(7, -0.5)], ..RowResult::default() });
        assert_eq!(results[2], RowResult { token: 12, logprob: -0.25, ..RowResult::default() });
        assert_eq!(results[3], RowResult::default());
        words[6] = NOT_NUMBERS;
        assert_eq!(answers.results(&words)[2].refused, Some(sample::NOT_NUMBERS));
        assert_eq!(answers.results(&words)[0], results[0]);
    }

    #[test]
    fn what_the_kernels_cannot_do_is_refused() {
        let refused = |rows: &[RowRequest], vocabulary| Requests::new(rows, vocabulary).unwrap_err();
        let outside = [RowRequest::Score { tokens: vec![3, 8], top: 0 }];
        assert!(matches!(refused(&outside, 8), DeviceError::Shape(_)));
        let many = [RowRequest::Score { tokens: Vec::new(), top: TOP_LOGPROBS_MAX + 1 }];
        assert!(matches!(refused(&many, 1000), DeviceError::Unsupported(_)));
        assert!(matches!(refused(&[sample(row())], VOCABULARY_MAX + 1), DeviceError::Unsupported(_)));
        assert!(Requests::new(&[sample(row())], VOCABULARY_MAX).is_ok());
    }

    #[test]
    fn temperatures_become_finite_scales() {
        let scale = |temperature| f32::from_bits(words(&[sample(SampleRow { temperature, ..row() })], 10)[1]);
        assert_eq!(scale(1.0), std::f32::consts::LOG2_E);
        assert_eq!(scale(0.0), 0.0);
        assert!(scale(1e-40).is_finite() && scale(f32::MAX) >= f32::MIN_POSITIVE);
    }
}
