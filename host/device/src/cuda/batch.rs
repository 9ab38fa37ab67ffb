//! A batch's metadata on the device: checked, padded, and copied in one piece to one place.

use std::{ops::Range, sync::Arc};

use super::{
    context::Context,
    memory::{DeviceMemory, Pointer, Staging, words_of_mut},
};
use crate::{Batch, DeviceError};

/// Batches of more sequences than this are launched kernel by kernel: their kernels take longer than their launches.
pub(super) const BUCKET_MAX: usize = 256;
/// Contexts up to this length are not split, so that it makes no difference how long they are.
const CONTEXT_MIN: usize = 256;
/// What the place for metadata holds at first, 1 MiB: 256 sequences of 900 tokens.
const PLACE_BYTES: usize = 1 << 20;

/// Rows that a batch of `sequences` single tokens is padded to, so that one recorded pass serves several sizes.
pub(super) fn bucket(sequences: usize) -> Option<usize> {
    match sequences {
        0 => None,
        1..=8 => Some(sequences.next_power_of_two()),
        9..=BUCKET_MAX => Some(sequences.next_multiple_of(8)),
        _ => None,
    }
}

/// All that a recorded pass has baked in of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PassShape {
    /// T, padded.
    pub(super) tokens: usize,
    /// R, padded.
    pub(super) sampled: usize,
    /// Planes of positions.
    pub(super) planes: usize,
    /// A power of two that no context is longer than: it decides how many parts a context is split into.
    pub(super) context_max: usize,
}

/// A checked [`Batch`] on the device. It lies where every batch lies, so it is good until the next one is uploaded.
///
/// *Invariants*: those of `Batch::check`.
#[derive(Debug)]
pub struct CudaBatch {
    /// Differs from every other batch's of the device.
    pub(super) id: u64,
    pub(super) shape: PassShape,
    /// Whether a recorded pass may serve it.
    pub(super) padded: bool,
    /// The slot that padding writes to, where there is padding.
    pub(super) scratch_slot: Option<usize>,
    /// One more than the largest token, of those the host knows.
    pub(super) token_bound: usize,
    /// One more than the largest slot of the batch's own.
    pub(super) slot_bound: usize,
    /// Elements of the embeddings that are given, where any are.
    pub(super) given_columns: Option<usize>,
    /// How many sequences have one token, which the decode kernel takes.
    pub(super) singles: usize,
    pub(super) tiles: Tiles,
    pub(super) at: Places,
    /// What the prefill kernel takes.
    chunks: Vec<Chunk>,
}

/// New tokens of a sequence.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    sequence: u32,
    tokens: u32,
    /// Tokens of its context before them.
    before: u32,
}

/// How the prefill kernel's work is cut: a tile has `rows` rows, of which each token has one for each head of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Query heads of a KV head.
    pub(super) group: usize,
    /// Rows of a tile.
    pub(super) rows: usize,
}

/// What decides how a batch is cut, once attention has told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cutting {
    /// Query heads of a KV head.
    pub(super) group: usize,
    /// Rows of a tile, large and short.
    pub(super) rows: [usize; 2],
    /// With fewer large tiles than this, short ones keep more of the GPU busy.
    pub(super) tiles_enough: usize,
}

impl Cutting {
    fn cut(&self, chunks: &[Chunk]) -> Cut {
        let [large, short] = self.rows;
        let count = |chunk: &Chunk| (chunk.tokens as usize * self.group).div_ceil(large);
        let enough = chunks.iter().map(count).sum::<usize>() >= self.tiles_enough;
        Cut { group: self.group, rows: if enough { large } else { short } }
    }
}

/// The list of tiles that the prefill kernel works on: sequence, first row within its chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    pub(super) at: Pointer,
    pub(super) count: usize,
    pub(super) cut: Cut,
}

/// Where the metadata lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// `[T]`.
    pub(super) tokens: Pointer,
    /// `[T]` row of the last sampling, or -1.
    pub(super) sampled_rows: Pointer,
    /// `[P, T]`.
    pub(super) positions: Pointer,
    /// `[T]`.
    pub(super) slots: Pointer,
    /// `[S + 1]`.
    pub(super) sequence_starts: Pointer,
    /// `[S + 1]`.
    pub(super) context_starts: Pointer,
    /// `[R]`.
    pub(super) sample_rows: Pointer,
    /// Sequences of one token.
    pub(super) singles: Pointer,
    /// `[T]` row of `given`, or -1; null where none is given.
    pub(super) given_rows: Pointer,
    /// `[G, K]` f32, or null.
    pub(super) given: Pointer,
    /// Slot lists of all sequences.
    pub(super) context_slots: Pointer,
}

/// What a batch is uploaded for.
#[derive(Clone, Copy, Debug)]
pub(super) struct UploadOptions {
    /// The slot that padding may write to; none: nothing is padded.
    pub(super) scratch_slot: Option<usize>,
    /// Rows of the last sampling.
    pub(super) sampled: usize,
    /// Whether single tokens are the prefill kernel's too.
    pub(super) prefill_only: bool,
}

/// Brings batches to the device.
#[derive(Debug)]
pub(super) struct Uploader {
    context: Arc<Context>,
    place: DeviceMemory,
    staging: Staging,
    tiles: DeviceMemory,
    tile_staging: Staging,
    /// As attention wanted it last; none before it has.
    cutting: Option<Cutting>,
    /// Tiles of a batch that were cut after its upload, in `tiles`.
    cut_again: Option<(u64, Tiles)>,
    uploaded: u64,
}

impl Uploader {
    pub(super) fn new(context: &Arc<Context>) -> Result<Self, DeviceError> {
        let place = |bytes| DeviceMemory::new(context, bytes, "a batch's lists");
        Ok(Self {
            context: Arc::clone(context),
            place: place(PLACE_BYTES)?,
            staging: Staging::new(context, PLACE_BYTES)?,
            tiles: place(4096)?,
            tile_staging: Staging::new(context, 4096)?,
            cutting: None,
            cut_again: None,
            uploaded: 0,
        })
    }

    /// Whether `batch` is the last one.
    pub(super) fn holds(&self, batch: &CudaBatch) -> bool {
        batch.id == self.uploaded
    }

    /// Checks `batch` and starts to copy it.
    pub(super) fn upload(&mut self, batch: &Batch, options: UploadOptions) -> Result<CudaBatch, DeviceError> {
        let slot_bound = batch.check(options.sampled)?;
        let given_columns = given_columns(batch)?;
        let sequences = batch.sequence_count();
        let tokens = batch.token_count();
        let one_each = sequences == tokens && batch.sequence_starts.windows(2).all(|pair| pair[1] - pair[0] == 1);
        let scratch = options.scratch_slot.filter(|_| one_each && given_columns.is_none());
        let rows = scratch.and_then(|_| bucket(sequences));
        let padding = rows.map_or(0, |rows| rows - tokens);
        let plan = Plan {
            batch,
            padding,
            scratch: scratch.unwrap_or(0) as u32,
            sampled: match rows {
                Some(rows) if !batch.sample_rows.is_empty() => rows,
                _ => batch.sample_rows.len(),
            },
            given_columns,
            prefill_only: options.prefill_only,
        };
        let (singles, chunks) = plan.classify();
        let cut = self.cutting.map_or(Cut { group: 1, rows: 1 }, |cutting| cutting.cut(&chunks));
        let tiles = tiles(&chunks, cut);
        let ranges = plan.ranges(singles.len(), tiles.len());
        let words = ranges.context_slots.end;
        if u32::try_from(4 * words).is_err() {
            return Err(DeviceError::Unsupported(format!("a batch of {words} words of lists")));
        }
        if 4 * words > self.place.bytes() {
            let bytes = (4 * words).next_power_of_two();
            self.place = DeviceMemory::new(&self.context, bytes, "a batch's lists")?;
        }
        self.context.enter()?;
        self.staging
            .send(self.place.pointer(), 4 * words, |out| plan.fill(words_of_mut(out), &ranges, &singles, &tiles))?;
        self.uploaded += 1;
        let context_max = batch.context_starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let at = |range: &Range<usize>| self.place.pointer().at(4 * range.start);
        let or_null = |range: &Range<usize>| if given_columns.is_some() { at(range) } else { Pointer::NULL };
        Ok(CudaBatch {
            id: self.uploaded,
            shape: PassShape {
                tokens: tokens + padding,
                sampled: plan.sampled,
                planes: plan.planes(),
                context_max: (context_max as usize).next_power_of_two().max(CONTEXT_MIN),
            },
            padded: rows.is_some(),
            scratch_slot: scratch.filter(|_| padding > 0),
            token_bound: plan.token_bound(),
            slot_bound,
            given_columns,
            singles: singles.len(),
            tiles: Tiles { at: at(&ranges.tiles), count: tiles.len() / 2, cut },
            at: Places {
                tokens: at(&ranges.tokens),
                sampled_rows: at(&ranges.sampled_rows),
                positions: at(&ranges.positions),
                slots: at(&ranges.slots),
                sequence_starts: at(&ranges.sequence_starts),
                context_starts: at(&ranges.context_starts),
                sample_rows: at(&ranges.sample_rows),
                singles: at(&ranges.singles),
                given_rows: or_null(&ranges.given_rows),
                given: or_null(&ranges.given),
                context_slots: at(&ranges.context_slots),
            },
            chunks,
        })
    }

    /// The batch's tiles, cut like this, as the next batches' then are at once.
    pub(super) fn tiles_of(&mut self, batch: &CudaBatch, cutting: Cutting) -> Result<Tiles, DeviceError> {
        let cut = cutting.cut(&batch.chunks);
        let single = |cut: Cut| cut.group <= cut.rows && batch.chunks.iter().all(|chunk| chunk.tokens == 1);
        if batch.tiles.cut == cut || (single(cut) && single(batch.tiles.cut)) {
            return Ok(Tiles { cut, ..batch.tiles });
        }
        if let Some((id, tiles)) = self.cut_again
            && (id, tiles.cut) == (batch.id, cut)
        {
            return Ok(tiles);
        }
        if self.context.is_capturing() {
            return Err(DeviceError::Driver {
                call: "cuMemcpyHtoDAsync",
                reason: "launches are being recorded".to_owned(),
            });
        }
        self.cutting = Some(cutting);
        let list = tiles(&batch.chunks, cut);
        if 4 * list.len() > self.tiles.bytes() {
            self.tiles = DeviceMemory::new(&self.context, (4 * list.len()).next_power_of_two(), "a batch's lists")?;
        }
        let fill = |out: &mut [u8]| words_of_mut(out).copy_from_slice(&list);
        self.tile_staging.send(self.tiles.pointer(), 4 * list.len(), fill)?;
        let tiles = Tiles { at: self.tiles.pointer(), count: list.len() / 2, cut };
        self.cut_again = Some((batch.id, tiles));
        Ok(tiles)
    }
}

/// How a batch is laid out.
struct Plan<'a> {
    batch: &'a Batch,
    /// Rows added, each a sequence of one token in the scratch slot.
    padding: usize,
    scratch: u32,
    /// R, padded.
    sampled: usize,
    given_columns: Option<usize>,
    prefill_only: bool,
}

/// Which words hold what.
struct Ranges {
    tokens: Range<usize>,
    sampled_rows: Range<usize>,
    positions: Range<usize>,
    slots: Range<usize>,
    sequence_starts: Range<usize>,
    context_starts: Range<usize>,
    sample_rows: Range<usize>,
    singles: Range<usize>,
    tiles: Range<usize>,
    given_rows: Range<usize>,
    given: Range<usize>,
    context_slots: Range<usize>,
}

impl Plan<'_> {
    fn tokens(&self) -> usize {
        self.batch.tokens.len() + self.padding
    }

    fn planes(&self) -> usize {
        self.batch.positions.len() / self.batch.tokens.len().max(1)
    }

    /// Sequences for the decode kernel, and chunks for the prefill kernel.
    fn classify(&self) -> (Vec<u32>, Vec<Chunk>) {
        let batch = self.batch;
        let real = batch.sequence_count() as u32;
        let own = batch.sequence_starts.windows(2).zip(batch.context_starts.windows(2)).zip(0..real);
        let own = own.map(|((new, context), sequence)| {
            let tokens = new[1] - new[0];
            Chunk { sequence, tokens, before: context[1] - context[0] - tokens }
        });
        let padding = (real..real + self.padding as u32).map(|sequence| Chunk { sequence, tokens: 1, before: 0 });
        let (mut singles, mut chunks) = (Vec::new(), Vec::new());
        for chunk in own.chain(padding) {
            match chunk.tokens {
                0 => {}
                1 if !self.prefill_only => singles.push(chunk.sequence),
                _ => chunks.push(chunk),
            }
        }
        (singles, chunks)
    }

    /// One more than the largest token that the table is asked for.
    fn token_bound(&self) -> usize {
        let batch = self.batch;
        let mut tokens = batch.tokens.clone();
        for (row, _) in &batch.sampled_inputs {
            tokens[*row as usize] = 0;
        }
        for (row, _) in &batch.embedding_rows {
            tokens[*row as usize] = 0;
        }
        tokens.into_iter().max().map_or(0, |token| token as usize + 1)
    }

    fn ranges(&self, singles: usize, tile_words: usize) -> Ranges {
        let (tokens, sequences) = (self.tokens(), self.batch.sequence_count() + self.padding);
        let mut end = 0;
        // Each starts at 16 bytes: kernels may read several words at once.
        let mut take = |words: usize| {
            let start = usize::next_multiple_of(end, 4);
            end = start + words;
            start..end
        };
        let given = self.batch.embedding_rows.len();
        Ranges {
            tokens: take(tokens),
            sampled_rows: take(tokens),
            positions: take(self.planes() * tokens),
            slots: take(tokens),
            sequence_starts: take(sequences + 1),
            context_starts: take(sequences + 1),
            sample_rows: take(self.sampled),
            singles: take(singles),
            tiles: take(tile_words),
            given_rows: take(if given > 0 { tokens } else { 0 }),
            given: take(given * self.given_columns.unwrap_or(0)),
            // Last: all else of a recorded pass lies at the same place each time.
            context_slots: take(self.batch.context_slots.len() + self.padding),
        }
    }

    fn fill(&self, out: &mut [u32], ranges: &Ranges, singles: &[u32], tiles: &[u32]) {
        let batch = self.batch;
        let own = batch.tokens.len();
        put(out, &ranges.tokens, &batch.tokens, 0);
        put(out, &ranges.sampled_rows, &[], NONE);
        for &(row, from) in &batch.sampled_inputs {
            out[ranges.sampled_rows.start + row as usize] = from;
        }
        let plane = self.tokens();
        for (index, positions) in batch.positions.chunks_exact(own.max(1)).enumerate() {
            let start = ranges.positions.start + index * plane;
            put(out, &(start..start + plane), positions, 0);
        }
        put(out, &ranges.slots, &batch.slots, self.scratch);
        put_starts(out, &ranges.sequence_starts, &batch.sequence_starts);
        put_starts(out, &ranges.context_starts, &batch.context_starts);
        put(out, &ranges.sample_rows, &batch.sample_rows, 0);
        put(out, &ranges.singles, singles, 0);
        put(out, &ranges.tiles, tiles, 0);
        put(out, &ranges.given_rows, &[], NONE);
        let given = self.given_columns.unwrap_or(0);
        for (index, (row, values)) in batch.embedding_rows.iter().enumerate() {
            out[ranges.given_rows.start + *row as usize] = index as u32;
            let to = &mut out[ranges.given.start + index * given..][..given];
            to.iter_mut().zip(&values[..]).for_each(|(to, x)| *to = x.to_bits());
        }
        put(out, &ranges.context_slots, &batch.context_slots, self.scratch);
    }
}

/// -1 to kernels: no row.
const NONE: u32 = u32::MAX;

/// Writes `values` to the start of a range, `rest` to what is left of it.
fn put(out: &mut [u32], range: &Range<usize>, values: &[u32], rest: u32) {
    let out = &mut out[range.clone()];
    out[..values.len()].copy_from_slice(values);
    out[values.len()..].fill(rest);
}

/// Writes starts, and after them those of sequences of one.
fn put_starts(out: &mut [u32], range: &Range<usize>, starts: &[u32]) {
    put(out, range, starts, 0);
    let end = starts.last().copied().unwrap_or(0);
    let out = &mut out[range.start + starts.len().max(1)..range.end];
    out.iter_mut().zip(end + 1..).for_each(|(to, start)| *to = start);
}

/// Elements of the embeddings that are given.
fn given_columns(batch: &Batch) -> Result<Option<usize>, DeviceError> {
    let Some((_, first)) = batch.embedding_rows.first() else { return Ok(None) };
    match batch.embedding_rows.iter().find(|(_, values)| values.len() != first.len()) {
        None => Ok(Some(first.len())),
        Some((_, values)) => {
            let (one, other) = (first.len(), values.len());
            Err(DeviceError::Shape(format!("embeddings of {one} and of {other} elements")))
        }
    }
}

/// Tiles of all chunks. Those that see the most come first: they take the longest.
fn tiles(chunks: &[Chunk], cut: Cut) -> Vec<u32> {
    let mut list = Vec::new();
    for chunk in chunks {
        let firsts = (0..chunk.tokens as usize * cut.group).step_by(cut.rows);
        list.extend(firsts.map(|first| (chunk.before + (first / cut.group) as u32, chunk.sequence, first as u32)));
    }
    list.sort_unstable_by_key(|&(sees, sequence, first)| (std::cmp::Reverse(sees), sequence, first));
    list.into_iter().flat_map(|(_, sequence, first)| [sequence, first]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sizes_serve_all_decode_batches() {
        let mut sizes: Vec<usize> = (0..=300).filter_map(bucket).collect();
        assert!(sizes.is_sorted() && sizes.len() == 256);
        sizes.dedup();
        assert_eq!(sizes.len(), 35);
        assert_eq!(sizes[..8], [1, 2, 4, 8, 16, 24, 32, 40]);
        assert_eq!(sizes[34], 256);
    }

    #[test]
    fn tiles_cover_chunks_and_those_that_see_most_come_first() {
        let chunks = [
            Chunk { sequence: 0, tokens: 5, before: 0 },
            Chunk { sequence: 2, tokens: 1, before: 100 },
            Chunk { sequence: 3, tokens: 4, before: 2 },
        ];
        let list = tiles(&chunks, Cut { group: 3, rows: 8 });
        assert_eq!(list, [2, 0, 3, 8, 0, 8, 3, 0, 0, 0]);
        let cutting = |tiles_enough| Cutting { group: 3, rows: [8, 4], tiles_enough };
        assert_eq!([5, 6].map(|enough| cutting(enough).cut(&chunks).rows), [8, 4]);
    }
}
