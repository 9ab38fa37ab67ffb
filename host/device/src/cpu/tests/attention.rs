//! Rotation, KV memory and attention over ragged batches.

use super::*;
use crate::{DType, HeadNorm};

/// A small model's attention layer, run over whole batches of sequences.
struct Layer {
    device: CpuDevice,
    shape: AttentionShape,
    frequencies: CpuBuffer,
    /// Weights of the norms of queries' and keys' heads.
    norms: Option<[CpuBuffer; 2]>,
    kv: CpuKv,
}

const SLOTS: usize = 4096;

impl Layer {
    fn new(device: CpuDevice, shape: AttentionShape, dtype: DType) -> Self {
        let mut device = device;
        let layout = KvLayout { layers: 2, kv_heads: shape.kv_heads, head_dim: shape.head_dim, dtype, page_tokens: 1 };
        let frequencies = buffer(&mut device, &frequencies(shape.head_dim));
        let kv = device.allocate_kv(layout, SLOTS).unwrap();
        Self { device, shape, frequencies, norms: None, kv }
    }

    /// With norms of the heads.
    fn with_norms(mut self, weights: &[Vec<f32>; 2]) -> Self {
        self.norms = Some(weights.each_ref().map(|weight| buffer(&mut self.device, weight)));
        self
    }

    /// Runs one batch whose QKV rows are `qkv`.
    fn run(&mut self, batch: &Batch, qkv: &[f32]) -> Vec<f32> {
        let uploaded = self.device.upload_batch(batch).unwrap();
        let mut qkv = buffer(&mut self.device, qkv);
        let count = batch.token_count() * self.shape.heads * self.shape.head_dim;
        let mut out = self.device.allocate(count, Precision::Full).unwrap();
        let (shape, kv) = (&self.shape, &mut self.kv);
        let head_norm = self.norms.as_ref().map(|[query, key]| HeadNorm { query, key, epsilon: 1e-5 });
        let rope = Rope { inverse_frequencies: &self.frequencies, sections: [shape.head_dim / 2, 0, 0], head_norm };
        self.device.rope_and_write_kv(&mut qkv, &rope, shape, &uploaded, kv, 1).unwrap();
        self.device.attention(&qkv, shape, &uploaded, kv, 1, &mut out).unwrap();
        read(&mut self.device, &out, count)
    }
}

fn frequencies(head_dim: usize) -> Vec<f32> {
    (0..head_dim / 2).map(|i| 1e4_f32.powf(-2.0 * i as f32 / head_dim as f32)).collect()
}

fn shape(heads: usize, kv_heads: usize, head_dim: usize, window: Option<u32>) -> AttentionShape {
    AttentionShape { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), window }
}

/// One sequence: the QKV rows of all of its tokens and the slots they go to.
struct Sequence {
    qkv: Vec<f32>,
    slots: Vec<u32>,
}

impl Sequence {
    fn rows(&self, shape: &AttentionShape, tokens: Range<usize>) -> &[f32] {
        let width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
        &self.qkv[tokens.start * width..tokens.end * width]
    }

    /// Attention of every token, in f64.
    fn reference(&self, shape: &AttentionShape, dtype: DType) -> Vec<f64> {
        let (dim, count) = (shape.head_dim, self.slots.len());
        let narrow = |x: f32| if dtype == DType::F16 { half::f16::from_f32(x).to_f32() } else { x };
        let rotated: Vec<Vec<f32>> = (0..count)
            .map(|t| {
                let mut row = self.rows(shape, t..t + 1).to_vec();
                for head in row[..(shape.heads + shape.kv_heads) * dim].chunks_mut(dim) {
                    for (i, f) in frequencies(dim).into_iter().enumerate() {
                        let (sin, cos) = (t as f32 * f).sin_cos();
                        let (a, b) = (head[i], head[i + dim / 2]);
                        head[i] = a * cos - b * sin;
                        head[i + dim / 2] = b * cos + a * sin;
                    }
                }
                row
            })
            .collect();
        let mut out = Vec::new();
        for t in 0..count {
            for head in 0..shape.heads {
                let kv_head = head / (shape.heads / shape.kv_heads);
                let key = (shape.heads + kv_head) * dim;
                let value = key + shape.kv_heads * dim;
                let from = shape.window.map_or(0, |window| (t + 1).saturating_sub(window as usize));
                let weights: Vec<f64> = (from..=t)
                    .map(|i| {
                        let query = &rotated[t][head * dim..][..dim];
                        let score: f64 = query
                            .iter()
                            .zip(&rotated[i][key..])
                            .map(|(&q, &k)| f64::from(q) * f64::from(narrow(k)))
                            .sum();
                        (score * f64::from(shape.scale)).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                out.extend((0..dim).map(|d| {
                    let values = rotated[from..=t].iter().map(|row| f64::from(narrow(row[value + d])));
                    values.zip(&weights).map(|(v, w)| v * w).sum::<f64>() / total
                }));
            }
        }
        out
    }
}

fn sequence(random: &mut Random, shape: &AttentionShape, length: usize, slots: &mut Vec<u32>) -> Sequence {
    let width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    Sequence {
        qkv: random.floats(length * width).iter().map(|x| 2.0 * x).collect(),
        slots: slots.split_off(slots.len() - length),
    }
}

/// All slots in a random order.
fn shuffled(random: &mut Random) -> Vec<u32> {
    let mut slots: Vec<u32> = (0..SLOTS as u32).collect();
    for i in 0..SLOTS {
        slots.swap(i, i + random.below(SLOTS - i));
    }
    slots
}

/// Feeds the sequences in chunks of the given lengths, all sequences side by side, and gives each one's outputs.
fn feed(layer: &mut Layer, sequences: &[Sequence], chunk: impl Fn(usize, usize) -> usize) -> Vec<Vec<f32>> {
    let mut done = vec![0; sequences.len()];
    let mut outputs = vec![Vec::new(); sequences.len()];
    let width = layer.shape.heads * layer.shape.head_dim;
    while done.iter().zip(sequences).any(|(&done, sequence)| done < sequence.slots.len()) {
        let (mut parts, mut qkv, mut fed) = (Vec::new(), Vec::new(), Vec::new());
        for (s, sequence) in sequences.iter().enumerate() {
            let new = chunk(s, done[s]).min(sequence.slots.len() - done[s]);
            if new > 0 {
                parts.push((new, &sequence.slots[..done[s] + new]));
                qkv.extend_from_slice(sequence.rows(&layer.shape, done[s]..done[s] + new));
                fed.push((s, new));
            }
        }
        let mut out = &layer.run(&batch_of(&parts), &qkv)[..];
        for (s, new) in fed {
            let (own, rest) = out.split_at(new * width);
            outputs[s].extend_from_slice(own);
            done[s] += new;
            out = rest;
        }
    }
    outputs
}

#[test]
fn ragged_batches_equal_the_reference_however_they_are_chunked() {
    let mut random = Random(11);
    let shapes = [shape(9, 3, 64, None), shape(4, 4, 16, None), shape(6, 2, 24, Some(50)), shape(2, 1, 80, Some(1))];
    for (shape, dtype) in shapes.into_iter().zip([DType::F16, DType::F32, DType::F16, DType::F32]) {
        let mut slots = shuffled(&mut random);
        let sequences = [1, 130, 40, 300].map(|length| sequence(&mut random, &shape, length, &mut slots));
        let expect: Vec<_> = sequences.iter().map(|sequence| sequence.reference(&shape, dtype)).collect();
        for (isa, threads) in machines() {
            let mut layer = Layer::new(device(threads, Activations::Exact, isa), shape, dtype);
            let whole = feed(&mut layer, &sequences, |_, _| usize::MAX);
            for (out, expect) in whole.iter().zip(&expect) {
                let error = relative_error(out, expect);
                assert!(error < 3e-6, "{} {shape:?} {dtype:?}: {error}", isa.name());
            }
            let singly = feed(&mut layer, &sequences, |_, _| 1);
            assert!(singly == whole, "{}, {threads} threads: token by token is not as whole", isa.name());
            let ragged = feed(&mut layer, &sequences, |s, done| 1 + (s * 7 + done * 13) % 61);
            assert!(ragged == whole, "{}, {threads} threads: in chunks is not as whole", isa.name());
            let alone = feed(&mut layer, &sequences[3..], |_, _| 64);
            assert!(alone[0] == whole[3], "{}, {threads} threads: alone is not as among others", isa.name());
        }
    }
}

#[test]
fn heads_are_normalised_before_they_are_rotated() {
    let mut random = Random(14);
    let shape = shape(6, 2, 24, None);
    let weights = [random.floats(24), random.floats(24)];
    let mut slots = shuffled(&mut random);
    let sequences = [sequence(&mut random, &shape, 50, &mut slots)];
    let mut normed = Sequence { qkv: sequences[0].qkv.clone(), slots: Vec::new() };
    normed.slots.clone_from(&sequences[0].slots);
    for row in normed.qkv.chunks_mut(10 * 24) {
        for (head, x) in row[..8 * 24].chunks_mut(24).enumerate() {
            let inverse = (x.iter().map(|x| x * x).sum::<f32>() / 24.0 + 1e-5).sqrt().recip();
            x.iter_mut().zip(&weights[usize::from(head >= 6)]).for_each(|(x, weight)| *x *= inverse * weight);
        }
    }
    let expect = normed.reference(&shape, DType::F32);
    for (isa, threads) in machines() {
        let layer = || Layer::new(device(threads, Activations::Exact, isa), shape, DType::F32);
        let out = feed(&mut layer().with_norms(&weights), &sequences, |_, done| 1 + done);
        let error = relative_error(&out[0], &expect);
        assert!(error < 3e-6, "{}: {error}", isa.name());
    }
}

#[test]
fn sequences_may_share_slots() {
    let mut random = Random(12);
    let shape = shape(6, 2, 32, None);
    let mut slots = shuffled(&mut random);
    let first = sequence(&mut random, &shape, 200, &mut slots);
    let mut fork = sequence(&mut random, &shape, 200, &mut slots);
    // The fork's first 150 tokens are the first one's, in its slots.
    let width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    fork.qkv[..150 * width].copy_from_slice(&first.qkv[..150 * width]);
    for (isa, threads) in machines() {
        let device = || device(threads, Activations::Exact, isa);
        let mut apart = Layer::new(device(), shape, DType::F16);
        let expect = feed(&mut apart, std::slice::from_ref(&fork), |_, _| usize::MAX);

        let mut layer = Layer::new(device(), shape, DType::F16);
        layer.run(&batch_of(&[(160, &first.slots[..160])]), first.rows(&shape, 0..160));
        let context: Vec<u32> = first.slots[..150].iter().chain(&fork.slots[150..]).copied().collect();
        let qkv = [first.rows(&shape, 160..200), fork.rows(&shape, 150..200)].concat();
        let out = layer.run(&batch_of(&[(40, &first.slots), (50, &context)]), &qkv);
        let width = shape.heads * shape.head_dim;
        assert!(out[40 * width..] == expect[0][150 * width..], "{}, {threads} threads", isa.name());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut layer = Layer::new(device(1, Activations::Exact, Isa::portable()), shape(2, 1, 16, None), DType::F32);
    let mut qkv = layer.device.allocate(64, Precision::Full).unwrap();
    let mut refuse = |shape: AttentionShape, slot: u32, layer_index: usize, expect: &str| {
        let batch = layer.device.upload_batch(&batch_of(&[(1, &[slot])])).unwrap();
        let rope =
            Rope { inverse_frequencies: &layer.frequencies, sections: [shape.head_dim / 2, 0, 0], head_norm: None };
        let outcome = layer.device.rope_and_write_kv(&mut qkv, &rope, &shape, &batch, &mut layer.kv, layer_index);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    refuse(shape(2, 1, 16, None), SLOTS as u32, 0, "slot 4096 of 4096");
    refuse(shape(2, 1, 16, None), 0, 2, "layer 2");
    refuse(shape(2, 2, 16, None), 0, 0, "KV memory");
    refuse(shape(3, 2, 16, None), 0, 0, "attention of");
    let layout = |dtype, page_tokens| KvLayout { layers: 1, kv_heads: 1, head_dim: 16, dtype, page_tokens };
    assert!(matches!(layer.device.allocate_kv(layout(DType::BF16, 1), 8), Err(DeviceError::Unsupported(_))));
    assert!(matches!(layer.device.allocate_kv(layout(DType::F16, 0), 8), Err(DeviceError::Shape(_))));
}

#[test]
fn each_plane_of_positions_turns_its_own_pairs() {
    let mut random = Random(14);
    let (shape, sections) = (shape(3, 1, 16, None), [2, 5, 1]);
    let (rows, width) = (3, 5 * 16);
    let qkv = random.floats(rows * width);
    let planes = [[3, 4, 5], [100, 7, 0], [0, 1, 999]];
    let mut layer = Layer::new(device(2, Activations::Exact, Isa::detect()), shape, DType::F32);
    let mut rotated = |positions: Vec<u32>, sections: [usize; 3]| {
        let batch = Batch { positions, ..batch_of(&[(rows, &[9, 8, 7])]) };
        let batch = layer.device.upload_batch(&batch).unwrap();
        let mut qkv = buffer(&mut layer.device, &qkv);
        let rope = Rope { inverse_frequencies: &layer.frequencies, sections, head_norm: None };
        layer.device.rope_and_write_kv(&mut qkv, &rope, &shape, &batch, &mut layer.kv, 0).unwrap();
        read(&mut layer.device, &qkv, rows * width)
    };
    let expect = planes.map(|plane| rotated(plane.to_vec(), [8, 0, 0]));
    let actual = rotated(planes.concat(), sections);
    for (index, value) in actual.into_iter().enumerate() {
        let plane = [0, 0, 1, 1, 1, 1, 1, 2][index % 8];
        assert_eq!(value, expect[plane][index], "element {index}");
    }
}

#[test]
fn pages_do_not_change_addressing() {
    let mut random = Random(13);
    let shape = shape(4, 2, 16, None);
    let mut slots = shuffled(&mut random);
    let sequences = [sequence(&mut random, &shape, 70, &mut slots)];
    let outputs = [1, 16].map(|page_tokens| {
        let mut layer = Layer::new(device(2, Activations::Exact, Isa::detect()), shape, DType::F16);
        layer.kv = layer.device.allocate_kv(KvLayout { page_tokens, ..layer.kv.layout }, SLOTS).unwrap();
        feed(&mut layer, &sequences, |_, _| 32)
    });
    assert!(outputs[0] == outputs[1]);
}
