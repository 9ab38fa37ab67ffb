//! Whole passes: padding, recording, replaying, and running one step ahead.

use sglhost_device::{
    AttentionShape, Batch, BatchRows, CudaConfig, CudaDevice, Device, DeviceError, KvLayout, Precision, Rope,
    RowRequest, SampleRow, WeightPart,
};

use crate::{
    both::{Tolerance, buffer, check_near, cpu, gpu, read},
    random::{self, Random},
    twin,
};

const SHAPE: AttentionShape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 16, scale: 0.25, window: None };
const HIDDEN: usize = 32;
const QKV: usize = 8 * 16;
const VOCABULARY: usize = 50;
const SLOTS: usize = 700;
const ROWS_MAX: usize = 64;

/// One layer of attention between an embedding and its transpose.
struct Model {
    table: Vec<WeightPart>,
    qkv: Vec<WeightPart>,
    output: Vec<WeightPart>,
}

impl Model {
    fn new() -> Self {
        let mut random = Random(100);
        let mut matrix = |rows, columns| vec![random::matrix(&mut random, rows, columns)];
        Self { table: matrix(VOCABULARY, HIDDEN), qkv: matrix(QKV, HIDDEN), output: matrix(HIDDEN, 4 * 16) }
    }
}

/// The model on a device.
struct Loaded<D: Device> {
    device: D,
    table: D::Weight,
    qkv: D::Weight,
    output: D::Weight,
    norm: D::Buffer,
    frequencies: D::Buffer,
    kv: D::Kv,
    a: Activations<D>,
}

struct Activations<D: Device> {
    residual: D::Buffer,
    normed: D::Buffer,
    qkv: D::Buffer,
    attended: D::Buffer,
    sampled_attended: D::Buffer,
    sampled_residual: D::Buffer,
    projected: D::Buffer,
    logits: D::Buffer,
}

impl<D: Device> Loaded<D> {
    fn new(mut device: D) -> Self {
        let model = Model::new();
        let layout = KvLayout {
            layers: 1,
            kv_heads: SHAPE.kv_heads,
            head_dim: SHAPE.head_dim,
            dtype: device.kv_dtype(),
            page_tokens: 1,
        };
        let frequencies: Vec<f32> = (0..8).map(|i| 0.3_f32.powi(i)).collect();
        let mut allocate = |width, precision| device.allocate(ROWS_MAX * width, precision).unwrap();
        let a = Activations {
            residual: allocate(HIDDEN, Precision::Full),
            normed: allocate(HIDDEN, Precision::Activation),
            qkv: allocate(QKV, Precision::Activation),
            attended: allocate(64, Precision::Activation),
            sampled_attended: allocate(64, Precision::Activation),
            sampled_residual: allocate(HIDDEN, Precision::Full),
            projected: allocate(HIDDEN, Precision::Activation),
            logits: allocate(VOCABULARY, Precision::Full),
        };
        Self {
            table: device.load_weight(&model.table).unwrap(),
            qkv: device.load_weight(&model.qkv).unwrap(),
            output: device.load_weight(&model.output).unwrap(),
            norm: buffer(&mut device, &[1.0; HIDDEN], Precision::Full),
            frequencies: buffer(&mut device, &frequencies, Precision::Full),
            kv: device.allocate_kv(layout, SLOTS).unwrap(),
            a,
            device,
        }
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), DeviceError> {
        let uploaded = self.device.upload_batch(batch)?;
        let BatchRows { tokens, sampled } = self.device.rows(&uploaded);
        let (a, kv) = (&mut self.a, &mut self.kv);
        let (table, qkv, output, norm) = (&self.table, &self.qkv, &self.output, &self.norm);
        let rope = || Rope { inverse_frequencies: &self.frequencies, sections: [8, 0, 0], head_norm: None };
        self.device.run_pass(&uploaded, &mut |device| {
            device.embed(table, &uploaded, &mut a.residual)?;
            device.rms_norm(&a.residual, norm, 1e-5, tokens, &mut a.normed)?;
            device.linear(qkv, None, &a.normed, tokens, &mut a.qkv)?;
            device.rope_and_write_kv(&mut a.qkv, &rope(), &SHAPE, &uploaded, kv, 0)?;
            device.attention(&a.qkv, &SHAPE, &uploaded, kv, 0, &mut a.attended)?;
            if sampled == 0 {
                return Ok(());
            }
            device.gather_sample_rows(&a.attended, &uploaded, 64, &mut a.sampled_attended)?;
            device.gather_sample_rows(&a.residual, &uploaded, HIDDEN, &mut a.sampled_residual)?;
            device.linear(output, None, &a.sampled_attended, sampled, &mut a.projected)?;
            device.add_rms_norm(&mut a.sampled_residual, &a.projected, norm, 1e-5, sampled, &mut a.normed)?;
            device.linear(table, None, &a.normed, sampled, &mut a.logits)
        })
    }

    fn logits(&mut self, batch: &Batch) -> Vec<f32> {
        self.forward(batch).unwrap();
        read(&mut self.device, &self.a.logits, batch.sample_rows.len() * VOCABULARY)
    }
}

/// Sequences of random tokens that grow.
struct Text {
    random: Random,
    contexts: Vec<Vec<u32>>,
    free: Vec<u32>,
}

impl Text {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let free = random.permutation(SLOTS);
        Self { random, contexts: Vec::new(), free }
    }

    /// A batch in which sequence s gets so many tokens, and its last row is sampled.
    fn step(&mut self, tokens: &[usize]) -> Batch {
        let mut batch = Batch::default();
        self.contexts.resize(self.contexts.len().max(tokens.len()), Vec::new());
        for (context, &count) in self.contexts.iter_mut().zip(tokens).filter(|(_, count)| **count > 0) {
            let first = context.len() as u32;
            context.extend(self.free.drain(..count));
            let new: Vec<u32> = (0..count).map(|_| self.random.below(VOCABULARY) as u32).collect();
            batch.push_sequence(&new, first..first + count as u32, context);
            batch.sample_rows.push(batch.tokens.len() as u32 - 1);
        }
        batch
    }
}

/// bf16 throughout, against f32.
const NEAR: Tolerance = Tolerance { relative: 0.05, absolute: 0.15 };

#[test]
fn recorded_passes_compute_what_launched_ones_do() {
    for deterministic in [false, true] {
        let config = |graphs| CudaConfig { graphs, deterministic, ..CudaConfig::default() };
        let mut cpu = Loaded::new(cpu());
        let mut launched = Loaded::new(gpu(config(false)));
        let mut recorded = Loaded::new(gpu(config(true)));
        let mut text = Text::new(101);
        // Prompts; then decoding of three, padded to four; of five, padded to eight; and both again with longer
        // contexts.
        let mut steps = vec![text.step(&[5, 17, 1, 9, 2])];
        steps.extend((0..6).map(|_| text.step(&[1, 1, 0, 1, 0])));
        steps.extend((0..4).map(|_| text.step(&[1, 1, 1, 1, 1])));
        steps.push(text.step(&[1, 1, 1, 30, 1]));
        steps.extend((0..4).map(|_| text.step(&[0, 1, 1, 1, 0])));
        for (index, step) in steps.iter().enumerate() {
            let expect = cpu.logits(step);
            let what = format!("step {index}, deterministic {deterministic}");
            check_near(&format!("{what}, launched"), &launched.logits(step), &expect, NEAR);
            check_near(&format!("{what}, recorded"), &recorded.logits(step), &expect, NEAR);
        }
        assert_eq!(launched.device.replays(), 0);
        assert!(recorded.device.replays() >= 9, "{} replays", recorded.device.replays());
    }
}

/// A decode step: one copy and one graph for the pass; one copy, one kernel and one copy for sampling.
#[test]
fn twin_only_a_step_launches_little_and_waits_for_its_answers_alone() {
    twin::in_another_process("passes::twin_only_a_step_launches_little_and_waits_for_its_answers_alone", &[], || {
        let mut model = Loaded::new(gpu(CudaConfig::default()));
        let mut text = Text::new(102);
        let requests: Vec<RowRequest> = (0..3).map(|seed| RowRequest::Sample(Box::new(greedy(seed)))).collect();
        let mut step = |model: &mut Loaded<CudaDevice>| {
            model.forward(&text.step(&[1, 1, 1])).unwrap();
            model.device.sample(&mut model.a.logits, VOCABULARY, &requests).unwrap();
            model.device.wait_sampled().unwrap();
        };
        (0..3).for_each(|_| step(&mut model));
        let counts = || {
            let what = ["graph launches", "launches", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync"];
            let never = ["allocations", "pinned allocations", "cuStreamSynchronize", "cuMemFree"];
            (what.map(twin::count), never.map(twin::count))
        };
        let before = counts();
        (0..2).for_each(|_| step(&mut model));
        let after = counts();
        assert_eq!([0, 1, 2, 3].map(|i| after.0[i] - before.0[i]), [2, 2, 4, 2]);
        assert_eq!(after.1, before.1);
    });
}

fn greedy(seed: u64) -> SampleRow {
    SampleRow { temperature: 0.0, seed, ..SampleRow::default() }
}

#[test]
fn memory_that_is_taken_or_given_back_ends_recordings() {
    let mut model = Loaded::new(gpu(CudaConfig::default()));
    let mut cpu = Loaded::new(cpu());
    let mut text = Text::new(103);
    for step in 0..12 {
        let batch = text.step(&[1, 1]);
        let expect = cpu.logits(&batch);
        check_near(&format!("step {step}"), &model.logits(&batch), &expect, NEAR);
        if step == 4 {
            let replays = model.device.replays();
            assert_eq!(replays, 4);
            model.a.logits = model.device.allocate(ROWS_MAX * VOCABULARY, Precision::Full).unwrap();
        }
    }
    assert_eq!(model.device.replays(), 11, "recorded again at once, since the pass was launched before");
}

#[test]
fn a_replay_is_refused_what_a_launch_is_refused() {
    let mut model = Loaded::new(gpu(CudaConfig::default()));
    let mut text = Text::new(104);
    for _ in 0..3 {
        model.forward(&text.step(&[1, 1])).unwrap();
    }
    let mut batch = text.step(&[1, 1]);
    batch.tokens[1] = VOCABULARY as u32;
    assert_eq!(model.forward(&batch).unwrap_err().to_string(), "shape: token 50 of a table of 50 rows");
    batch.tokens[1] = 0;
    batch.context_slots[0] = SLOTS as u32;
    assert_eq!(model.forward(&batch).unwrap_err().to_string(), "shape: slot 700 of 700");
}

/// Greedy decoding in which no token comes to the host before the next pass is launched.
#[test]
fn the_next_pass_takes_tokens_that_the_host_does_not_know() {
    fn decode<D: Device>(model: &mut Loaded<D>, ahead: bool) -> Vec<Vec<u32>> {
        let request = |position| {
            RowRequest::Sample(Box::new(SampleRow { bias: vec![(position as u32 % 50, 3.0)], ..greedy(position) }))
        };
        let mut text = Text::new(105);
        let mut sampled: Vec<Vec<u32>> = Vec::new();
        let mut batch = text.step(&[3, 6, 2]);
        for position in 0..8 {
            model.forward(&batch).unwrap();
            let requests: Vec<RowRequest> = (0..3).map(|row| request(10 * position + row)).collect();
            if ahead && position > 0 {
                sampled.push(model.device.wait_sampled().unwrap().iter().map(|result| result.token).collect());
            }
            model.device.sample(&mut model.a.logits, VOCABULARY, &requests).unwrap();
            batch = text.step(&[1, 1, 1]);
            // Rows of the sampling in another order than the batch's.
            let from = [2, 0, 1];
            if ahead {
                batch.tokens = vec![9999; 3];
                batch.sampled_inputs = (0..3).map(|row| (row, from[row as usize])).collect();
            } else {
                sampled.push(model.device.wait_sampled().unwrap().iter().map(|result| result.token).collect());
                batch.tokens = from.map(|row| sampled[position as usize][row as usize]).to_vec();
            }
        }
        if ahead {
            sampled.push(model.device.wait_sampled().unwrap().iter().map(|result| result.token).collect());
        }
        sampled
    }
    let config = || CudaConfig { deterministic: true, ..CudaConfig::default() };
    let mut ahead = Loaded::new(gpu(config()));
    let expect = decode(&mut Loaded::new(gpu(config())), false);
    assert_eq!(decode(&mut ahead, true), expect);
    assert!(ahead.device.replays() > 3);
}

#[test]
fn a_failure_while_recording_is_no_failure_of_the_pass() {
    let mut model = Loaded::new(gpu(CudaConfig::default()));
    let mut cpu = Loaded::new(cpu());
    let mut text = Text::new(106);
    let allocate_once = |device: &mut CudaDevice| device.allocate(16, Precision::Full).map(drop);
    for step in 0..4 {
        let batch = text.step(&[1, 1]);
        let expect = cpu.logits(&batch);
        if step == 1 {
            // What must not happen in a pass, and would break a recording.
            let uploaded = model.device.upload_batch(&batch).unwrap();
            model.device.run_pass(&uploaded, &mut |device| allocate_once(device)).unwrap();
        }
        check_near(&format!("step {step}"), &model.logits(&batch), &expect, NEAR);
    }
}

#[test]
fn twin_only_what_cannot_be_recorded_or_replayed_is_launched() {
    const NAME: &str = "passes::twin_only_what_cannot_be_recorded_or_replayed_is_launched";
    twin::in_another_process(NAME, &[], || {
        let calls = ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch"];
        // The second step of a shape is recorded, the third and fourth are replayed.
        for (function, failing) in calls.map(|call| (call, 1)).into_iter().chain([("cuGraphLaunch", 3)]) {
            let (mut model, mut cpu) = (Loaded::new(gpu(CudaConfig::default())), Loaded::new(cpu()));
            let mut text = Text::new(107);
            for step in 0..6 {
                let batch = text.step(&[1, 1]);
                if step == failing {
                    twin::fail_next(function, twin::OUT_OF_MEMORY);
                }
                let what = format!("{function} fails at step {failing}, step {step}");
                check_near(&what, &model.logits(&batch), &cpu.logits(&batch), NEAR);
            }
            assert_eq!(model.device.replays(), failing - 1, "{function} was tried again");
            // Another shape is not concerned.
            for _ in 0..3 {
                model.forward(&text.step(&[1, 1, 1])).unwrap();
            }
            assert_eq!(model.device.replays(), failing + 1, "{function}");
        }
        for function in calls {
            let (mut model, mut text) = (Loaded::new(gpu(CudaConfig::default())), Text::new(108));
            model.forward(&text.step(&[1])).unwrap();
            twin::fail_next(function, twin::ILLEGAL_ADDRESS);
            let error = model.forward(&text.step(&[1])).unwrap_err();
            assert!(matches!(error, DeviceError::Lost { .. }), "{function}: {error}");
        }
    });
}

#[test]
fn twin_only_graphs_go_before_the_kernels_that_they_hold() {
    twin::in_another_process("passes::twin_only_graphs_go_before_the_kernels_that_they_hold", &[], || {
        let (mut model, mut text) = (Loaded::new(gpu(CudaConfig::default())), Text::new(109));
        (0..3).for_each(|_| model.forward(&text.step(&[1, 1])).unwrap());
        assert_eq!(model.device.replays(), 2);
        drop(model);
        assert_eq!(["cuModuleUnload", "unloads before graphs"].map(twin::count), [1, 0]);
    });
}
