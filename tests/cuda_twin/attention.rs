//! Rotation, KV memory and attention over ragged batches.

use sglhost_device::{
    AttentionShape, Batch, CudaConfig, CudaDevice, DType, Device, DeviceError, HeadNorm, KvLayout, Precision, Rope,
};

use crate::{
    both::{Tolerance, buffer, check_near, cpu, gpu, read},
    random::Random,
    twin,
};

/// Values of bf16 whose weights are rounded to bf16.
const NEAR: Tolerance = Tolerance { relative: 0.01, absolute: 0.012 };
const SLOTS: usize = 2048;

/// An attention layer and a sequence of batches for it.
struct Case {
    shape: AttentionShape,
    /// Weights of the norms of queries' and keys' heads.
    norms: Option<[Vec<f32>; 2]>,
    sections: [usize; 3],
    steps: Vec<Step>,
}

/// One batch, with its QKV rows.
struct Step {
    batch: Batch,
    qkv: Vec<f32>,
}

/// Sequences that grow by chunks.
struct Sequences {
    random: Random,
    free: Vec<u32>,
    contexts: Vec<Vec<u32>>,
    planes: usize,
}

impl Sequences {
    fn new(seed: u64, count: usize, planes: usize) -> Self {
        let mut random = Random(seed);
        let free = random.permutation(SLOTS);
        Self { random, free, contexts: vec![Vec::new(); count], planes }
    }

    /// A batch in which each sequence gets so many tokens; those with none are left out.
    fn step(&mut self, shape: &AttentionShape, tokens: &[usize]) -> Step {
        let mut batch = Batch::default();
        for (context, &count) in self.contexts.iter_mut().zip(tokens) {
            if count == 0 {
                continue;
            }
            let first = context.len() as u32;
            context.extend(self.free.drain(..count));
            batch.push_sequence(&vec![0; count], first..first + count as u32, context);
        }
        let total = batch.token_count();
        for plane in 1..self.planes as u32 {
            let (first, random) = (&batch.positions[..total].to_vec(), &mut self.random);
            batch.positions.extend(first.iter().map(|&position| position / (plane + 1) + random.below(3) as u32));
        }
        let width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
        Step { batch, qkv: self.random.halves(total * width) }
    }
}

fn frequencies(head_dim: usize) -> Vec<f32> {
    (0..head_dim / 2).map(|i| 1e4_f32.powf(-2.0 * i as f32 / head_dim as f32)).collect()
}

fn shape(heads: usize, kv_heads: usize, head_dim: usize, window: Option<u32>) -> AttentionShape {
    // Larger than usual: sharp weights show what a context's end does.
    AttentionShape { heads, kv_heads, head_dim, scale: 3.0 / (head_dim as f32).sqrt(), window }
}

impl Case {
    fn new(shape: AttentionShape, steps: Vec<Step>) -> Self {
        Self { shape, norms: None, sections: [shape.head_dim / 2, 0, 0], steps }
    }

    /// The results of all steps.
    fn run<D: Device>(&self, device: &mut D) -> Vec<Vec<f32>> {
        let &AttentionShape { heads, kv_heads, head_dim, .. } = &self.shape;
        let dtype = device.kv_dtype();
        let layout = KvLayout { layers: 2, kv_heads, head_dim, dtype, page_tokens: 1 };
        let mut kv = device.allocate_kv(layout, SLOTS).unwrap();
        let inverse_frequencies = buffer(device, &frequencies(head_dim), Precision::Full);
        let norms = self.norms.as_ref().map(|norms| norms.each_ref().map(|norm| buffer(device, norm, Precision::Full)));
        let step = |step: &Step| {
            let batch = device.upload_batch(&step.batch).unwrap();
            let rows = device.rows(&batch).tokens;
            let mut padded = step.qkv.clone();
            padded.resize(rows * (heads + 2 * kv_heads) * head_dim, 0.5);
            let mut qkv = buffer(device, &padded, Precision::Activation);
            let mut out = device.allocate(rows * heads * head_dim, Precision::Activation).unwrap();
            let head_norm = norms.as_ref().map(|[query, key]| HeadNorm { query, key, epsilon: 1e-5 });
            let rope = Rope { inverse_frequencies: &inverse_frequencies, sections: self.sections, head_norm };
            device.rope_and_write_kv(&mut qkv, &rope, &self.shape, &batch, &mut kv, 1).unwrap();
            device.attention(&qkv, &self.shape, &batch, &kv, 1, &mut out).unwrap();
            read(device, &out, step.batch.token_count() * heads * head_dim)
        };
        self.steps.iter().map(step).collect()
    }

    fn check(&self, what: &str, device: &mut CudaDevice) {
        let (got, expect) = (self.run(device), self.run(&mut cpu()));
        for (index, (got, expect)) in got.iter().zip(&expect).enumerate() {
            check_near(&format!("{what}, {:?}, step {index}", self.shape), got, expect, NEAR);
        }
    }
}

/// Prompts in chunks and single tokens, side by side and alone.
fn ragged(seed: u64, shape: &AttentionShape, planes: usize) -> Vec<Step> {
    let mut sequences = Sequences::new(seed, 4, planes);
    let steps = [[70, 1, 0, 5], [1, 1, 3, 0], [33, 0, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1], [0, 140, 0, 1]];
    steps.iter().map(|tokens| sequences.step(shape, tokens)).collect()
}

#[test]
fn ragged_batches_of_every_kind_of_head() {
    let mut device = gpu(CudaConfig::default());
    let shapes = [
        shape(2, 2, 8, None),
        shape(4, 2, 16, Some(20)),
        shape(3, 1, 32, None),
        shape(9, 3, 64, Some(33)),
        shape(2, 1, 80, None),
        shape(8, 1, 96, None),
        shape(4, 4, 128, Some(64)),
        shape(20, 1, 128, None),
        shape(2, 1, 256, None),
    ];
    for (index, shape) in shapes.into_iter().enumerate() {
        Case::new(shape, ragged(50 + index as u64, &shape, 1)).check("ragged", &mut device);
    }
}

#[test]
fn long_contexts() {
    for (heads, kv_heads, window) in [(4, 2, None), (2, 1, Some(700))] {
        let shape = shape(heads, kv_heads, 32, window);
        let mut sequences = Sequences::new(60, 3, 1);
        let steps = [[900, 255, 1], [1, 1, 1], [1, 1, 1]].iter().map(|tokens| sequences.step(&shape, tokens)).collect();
        Case::new(shape, steps).check("long", &mut gpu(CudaConfig::default()));
    }
}

#[test]
fn twin_only_long_contexts_are_split() {
    let before = twin::count("combine_attention");
    long_contexts();
    assert!(twin::count("combine_attention") > before, "no context was split");
}

#[test]
fn heads_are_normalised_and_turned_by_three_planes() {
    let mut device = gpu(CudaConfig::default());
    for (head_dim, sections) in [(64, [16, 8, 8]), (128, [16, 24, 24]), (32, [16, 0, 0])] {
        let shape = shape(4, 2, head_dim, None);
        let planes = if sections[1] == 0 { 1 } else { 3 };
        let mut random = Random(70);
        let norms = [random.floats(head_dim), random.floats(head_dim)];
        let case = Case { norms: Some(norms), sections, ..Case::new(shape, ragged(71, &shape, planes)) };
        case.check("norms", &mut device);
    }
}

#[test]
fn a_token_is_the_same_bits_in_any_chunk_where_that_is_asked_for() {
    let config = || CudaConfig { deterministic: true, ..CudaConfig::default() };
    for (shape, tokens) in [(shape(4, 2, 64, None), 150), (shape(6, 2, 128, Some(40)), 90), (shape(2, 2, 8, None), 40)]
    {
        let width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
        let whole = Sequences::new(80, 1, 1).step(&shape, &[tokens]);
        let qkv = whole.qkv.clone();
        let expect = Case::new(shape, vec![whole]).run(&mut gpu(config())).concat();
        for chunks in [vec![1; tokens], vec![tokens - 1, 1], vec![7, 30, tokens - 37]] {
            let mut sequences = Sequences::new(80, 1, 1);
            let mut first = 0;
            let steps = chunks.iter().map(|&count| {
                let mut step = sequences.step(&shape, &[count]);
                step.qkv = qkv[first * width..(first + count) * width].to_vec();
                first += count;
                step
            });
            let case = Case::new(shape, steps.collect());
            assert!(case.run(&mut gpu(config())).concat() == expect, "{shape:?} in {chunks:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut device = gpu(CudaConfig::default());
    let layout = KvLayout { layers: 1, kv_heads: 2, head_dim: 16, dtype: DType::BF16, page_tokens: 1 };
    let mut refuse = |layout, expect: &str| {
        let error = device.allocate_kv(layout, 8).unwrap_err();
        assert!(matches!(error, DeviceError::Unsupported(_)) && error.to_string().contains(expect), "{error}");
    };
    refuse(KvLayout { dtype: DType::F16, ..layout }, "BF16");
    refuse(KvLayout { head_dim: 12, ..layout }, "multiples of 8 up to 256");
    refuse(KvLayout { head_dim: 264, ..layout }, "multiples of 8 up to 256");
    let kv = device.allocate_kv(layout, 8).unwrap();
    let shape = shape(2, 2, 16, None);
    let mut batch = Batch::default();
    batch.push_sequence(&[0, 0], 0..2, &[3, 8]);
    let outside = device.upload_batch(&batch).unwrap();
    let qkv = buffer(&mut device, &[0.0; 2 * 6 * 16], Precision::Activation);
    let mut out = device.allocate(2 * 2 * 16, Precision::Activation).unwrap();
    let mut check = |device: &mut CudaDevice, batch: &_, layer, expect: &str| {
        let error = device.attention(&qkv, &shape, batch, &kv, layer, &mut out).unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
    };
    check(&mut device, &outside, 0, "slot 8 of 8");
    batch.context_slots[1] = 4;
    batch.slots[1] = 4;
    let inside = device.upload_batch(&batch).unwrap();
    check(&mut device, &inside, 1, "layer 1");
    check(&mut device, &outside, 0, "after the next was uploaded");
}
