//! Sampling: what is asked goes to the device in one copy, what is answered comes back in another.

use std::{collections::VecDeque, sync::Arc};

use super::{
    context::{Context, Event},
    kernels::{Kernels, LOGPROBS_SHARED, SAMPLE_SHARED},
    launch::{Argument, Shape},
    memory::{DeviceMemory, Pinned, Pointer, Staging, words_of, words_of_mut},
    sampling::{Answers, Requests, THREADS},
};
use crate::{DeviceError, RowRequest, RowResult};

/// Samplings whose results were not waited for.
const IN_FLIGHT_MAX: usize = 2;
/// What the places hold at first: 256 rows with a mask each of 4,096 tokens, or some with larger ones.
const REQUESTS_BYTES: usize = 1 << 18;
const SAVED_BYTES: usize = 1 << 16;
const ANSWERS_BYTES: usize = 1 << 16;

/// Sampling on this GPU.
#[derive(Debug)]
pub(super) struct Sampler {
    context: Arc<Context>,
    requests: DeviceMemory,
    staging: Staging,
    saved: DeviceMemory,
    /// Its first words are the tokens of the last sampling, which the next pass may take as its input.
    answers: DeviceMemory,
    /// Answers on the host, and the event behind their copy. Those that are not in flight are free.
    free: Vec<(Pinned, Event)>,
    in_flight: VecDeque<InFlight>,
    /// Rows of the last sampling.
    rows: usize,
}

#[derive(Debug)]
struct InFlight {
    expected: Answers,
    words: Pinned,
    copied: Event,
}

/// `[rows, vocabulary]`, f32.
struct Logits {
    at: Pointer,
    vocabulary: usize,
    rows: usize,
}

impl Sampler {
    pub(super) fn new(context: &Arc<Context>) -> Result<Self, DeviceError> {
        let piece = || Ok::<_, DeviceError>((Pinned::new(context, ANSWERS_BYTES)?, Event::new(context, false)?));
        Ok(Self {
            context: Arc::clone(context),
            requests: DeviceMemory::new(context, REQUESTS_BYTES, "requests of sampling")?,
            staging: Staging::new(context, REQUESTS_BYTES)?,
            saved: DeviceMemory::new(context, SAVED_BYTES, "saved logits")?,
            answers: DeviceMemory::zeroed(context, ANSWERS_BYTES, "answers of sampling")?,
            free: (0..IN_FLIGHT_MAX).map(|_| piece()).collect::<Result<_, _>>()?,
            in_flight: VecDeque::new(),
            rows: 0,
        })
    }

    /// Rows of the last sampling.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Where its tokens are.
    pub(super) fn sampled(&self) -> Pointer {
        self.answers.pointer()
    }

    /// Launches sampling of each row of `logits` `[rows, vocabulary]`.
    pub(super) fn launch(
        &mut self,
        kernels: &Kernels,
        logits: Pointer,
        vocabulary: usize,
        rows: &[RowRequest],
    ) -> Result<(), DeviceError> {
        let requests = Requests::new(rows, vocabulary)?;
        let Some((mut words, copied)) = self.free.pop() else {
            return Err(DeviceError::Shape(format!("{} samplings that nobody waited for", IN_FLIGHT_MAX + 1)));
        };
        let logits = Logits { at: logits, vocabulary, rows: rows.len() };
        match self.launch_requests(kernels, logits, requests, &mut words, &copied) {
            Ok(expected) => {
                self.rows = rows.len();
                self.in_flight.push_back(InFlight { expected, words, copied });
                Ok(())
            }
            Err(error) => {
                self.free.push((words, copied));
                Err(error)
            }
        }
    }

    /// Waits for the results of the oldest sampling; none if there is none.
    pub(super) fn wait(&mut self) -> Result<Vec<RowResult>, DeviceError> {
        let Some(InFlight { expected, words, copied }) = self.in_flight.pop_front() else { return Ok(Vec::new()) };
        let results = copied.wait().map(|()| expected.results(words_of(words.get())));
        self.free.push((words, copied));
        results
    }

    /// Forgets what is in flight. Its answers may still be arriving: whoever writes there waits for their event.
    pub(super) fn forget(&mut self) {
        self.free.extend(self.in_flight.drain(..).map(|InFlight { words, copied, .. }| (words, copied)));
    }

    fn launch_requests(
        &mut self,
        kernels: &Kernels,
        logits: Logits,
        requests: Requests,
        words: &mut Pinned,
        copied: &Event,
    ) -> Result<Answers, DeviceError> {
        grow(&mut self.requests, &self.context, requests.words())?;
        grow(&mut self.saved, &self.context, requests.saved_words())?;
        let want_logprobs = requests.want_logprobs();
        if requests.words() > 0 {
            self.staging.send(self.requests.pointer(), 4 * requests.words(), |out| requests.fill(words_of_mut(out)))?;
        }
        let expected = requests.into_answers();
        let bytes = 4 * expected.words();
        grow(&mut self.answers, &self.context, expected.words())?;
        if bytes > words.bytes() {
            *words = Pinned::new(&self.context, bytes.next_power_of_two())?;
        }
        let Logits { at: logits, vocabulary, rows } = logits;
        if rows > 0 {
            let (asked, saved, answers) = (self.requests.pointer(), self.saved.pointer(), self.answers.pointer());
            let shape = Shape { shared: SAMPLE_SHARED, ..Shape::line(rows, THREADS) };
            let arguments: &mut [Argument] =
                &mut [asked.into(), logits.into(), vocabulary.into(), saved.into(), answers.into()];
            kernels.sample.launch(&self.context, shape, arguments)?;
            if want_logprobs {
                let shape = Shape { shared: LOGPROBS_SHARED, ..shape };
                let arguments: &mut [Argument] = &mut [asked.into(), logits.into(), vocabulary.into(), answers.into()];
                kernels.logprobs.launch(&self.context, shape, arguments)?;
            }
            words.copy_from(answers, bytes)?;
        }
        copied.record()?;
        Ok(expected)
    }
}

/// Makes `memory` hold `words` words.
fn grow(memory: &mut DeviceMemory, context: &Arc<Context>, words: usize) -> Result<(), DeviceError> {
    if 4 * words > memory.bytes() {
        *memory = DeviceMemory::new(context, (4 * words).next_power_of_two(), "sampling")?;
    }
    Ok(())
}
