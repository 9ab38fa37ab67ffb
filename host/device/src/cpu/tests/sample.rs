//! Sampling against a plain implementation that sorts the whole vocabulary.

use sglhost_core::TokenMask;

use super::*;
use crate::{
    SampleRow,
    cpu::sample::uniform,
    sample::{NONE_ALLOWED, NOT_NUMBERS},
};

fn row() -> SampleRow {
    SampleRow { seed: 7, ..SampleRow::default() }
}

fn sample_with(device: &mut CpuDevice, logits: &[f32], rows: &[RowRequest]) -> Result<Vec<RowResult>, DeviceError> {
    let mut buffer = buffer(device, logits);
    device.sample(&mut buffer, logits.len() / rows.len(), rows)?;
    device.wait_sampled()
}

fn sample(logits: &[f32], row: &SampleRow) -> RowResult {
    let mut device = device(1, Activations::Exact, Isa::detect());
    sample_with(&mut device, logits, &[RowRequest::Sample(Box::new(row.clone()))]).unwrap().remove(0)
}

/// The tokens that may be drawn, with their probabilities, by sorting.
fn reference(logits: &[f32], row: &SampleRow) -> Vec<(u32, f64)> {
    let mut tokens: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|&x| f64::from(x))).collect();
    for &(token, count) in &row.counts {
        let x = &mut tokens[token as usize].1;
        *x = if *x > 0.0 { *x / f64::from(row.repetition_penalty) } else { *x * f64::from(row.repetition_penalty) };
        *x -= f64::from(row.frequency_penalty) * f64::from(count) + f64::from(row.presence_penalty);
    }
    for &(token, bias) in &row.bias {
        tokens[token as usize].1 += f64::from(bias);
    }
    tokens.retain(|(token, _)| row.mask.as_ref().is_none_or(|mask| mask.allows(*token)));
    tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let max = tokens[0].1;
    tokens.iter_mut().for_each(|(_, x)| *x = ((*x - max) / f64::from(row.temperature)).exp());
    if row.top_k > 0 {
        tokens.truncate(row.top_k as usize);
    }
    let target = f64::from(row.top_p) * tokens.iter().map(|(_, p)| p).sum::<f64>();
    let mut mass = 0.0;
    tokens.retain(|(_, p)| {
        let keep = row.top_p >= 1.0 || mass < target;
        mass += p;
        keep
    });
    tokens.retain(|(_, p)| *p >= f64::from(row.min_p));
    let total: f64 = tokens.iter().map(|(_, p)| p).sum();
    tokens.iter().map(|&(token, p)| (token, p / total)).collect()
}

/// Draws often and compares with the reference's set and frequencies.
fn check(name: &str, logits: &[f32], row: &SampleRow) {
    const DRAWS: u64 = 4000;
    let expect = reference(logits, row);
    let mut device = device(2, Activations::Exact, Isa::detect());
    let mut counts = std::collections::HashMap::new();
    let requests: Vec<RowRequest> =
        (0..DRAWS).map(|position| RowRequest::Sample(Box::new(SampleRow { position, ..row.clone() }))).collect();
    for requests in requests.chunks(100) {
        for result in sample_with(&mut device, &logits.repeat(requests.len()), requests).unwrap() {
            *counts.entry(result.token).or_insert(0_u64) += 1;
        }
    }
    for token in counts.keys() {
        assert!(expect.iter().any(|(kept, _)| kept == token), "{name}: token {token} is not kept");
    }
    for (token, p) in expect {
        let (n, count) = (DRAWS as f64, counts.get(&token).copied().unwrap_or(0) as f64);
        // Five standard deviations and a little: the draws are the same in every run.
        let spread = 5.0 * (n * p * (1.0 - p)).sqrt() + 3.0;
        assert!((count - n * p).abs() < spread, "{name}: token {token} {count} times, expected {}", n * p);
    }
}

#[test]
fn draws_follow_the_filtered_distribution() {
    let mut random = Random(41);
    let peaked: Vec<f32> = random.floats(5000).iter().map(|x| 9.0 * x * x * x).collect();
    let small = [1.0, 3.0, 2.0, 3.0, -1.0, 0.0, 2.5];
    let mut mask = TokenMask::none(5000);
    (0..5000).step_by(7).for_each(|token| mask.allow(token));
    let mask = Some(Arc::new(mask));
    let cases = [
        ("plain", SampleRow { ..row() }),
        ("cold", SampleRow { temperature: 0.3, ..row() }),
        ("top-k", SampleRow { top_k: 5, ..row() }),
        ("top-k above all", SampleRow { top_k: 100_000, ..row() }),
        ("top-p", SampleRow { top_p: 0.3, ..row() }),
        ("top-p of nearly all", SampleRow { top_p: 0.999, temperature: 3.0, ..row() }),
        ("tiny top-p", SampleRow { top_p: 1e-6, ..row() }),
        ("min-p", SampleRow { min_p: 0.5, ..row() }),
        ("top-k and top-p", SampleRow { top_k: 20, top_p: 0.5, ..row() }),
        ("all three", SampleRow { top_k: 300, top_p: 0.9, min_p: 0.4, temperature: 1.3, ..row() }),
        ("bias", SampleRow { bias: vec![(3, 5.0), (0, -2.0)], top_k: 3, ..row() }),
        (
            "penalties",
            SampleRow {
                counts: vec![(1, 2), (4, 1), (6, 3)],
                frequency_penalty: 0.5,
                presence_penalty: 0.25,
                repetition_penalty: 1.5,
                ..row()
            },
        ),
    ];
    for (name, row) in &cases {
        check(name, &small, row);
        check(name, &peaked, row);
        check(&format!("{name}, masked"), &peaked, &SampleRow { mask: mask.clone(), ..row.clone() });
    }
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let greedy = SampleRow { temperature: 0.0, ..row() };
    assert_eq!(sample(&[1.0, 5.0, 2.0, 5.0], &greedy).token, 1);
    assert_eq!(sample(&[f32::NAN, -5.0, -2.0, f32::NEG_INFINITY], &greedy).token, 2);
    let mut mask = TokenMask::none(3);
    mask.allow(0);
    mask.allow(2);
    // A mask that speaks of fewer tokens than there are logits allows none of the others.
    let masked = SampleRow { mask: Some(Arc::new(mask)), ..greedy };
    assert_eq!(sample(&[1.0, 5.0, 2.0, 5.0], &masked).token, 2);
}

#[test]
fn equal_tokens_are_cut_by_number() {
    let flat = vec![0.5; 300];
    for (row, kept) in [(SampleRow { top_k: 100, ..row() }, 100), (SampleRow { top_p: 0.25, ..row() }, 75)] {
        let drawn = (0..400).map(|position| sample(&flat, &SampleRow { position, ..row.clone() }).token);
        assert!(drawn.max().unwrap() < kept + 1);
    }
}

#[test]
fn logprobs_are_of_the_raw_distribution() {
    let mut random = Random(42);
    let logits: Vec<f32> = random.floats(3000).iter().map(|x| 8.0 * x).collect();
    let total = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
    let mut order: Vec<u32> = (0..3000).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
    let near = |a: f32, token: u32| (f64::from(a) - (f64::from(logits[token as usize]) - total)).abs() < 2e-6;
    let request = SampleRow { top_logprobs: Some(20), temperature: 0.1, bias: vec![(order[9], 100.0)], ..row() };
    let result = sample(&logits, &request);
    assert_eq!(result.token, order[9]);
    assert!(near(result.logprob, order[9]));
    assert_eq!(result.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), order[..20]);
    assert!(result.top.iter().all(|&(token, logprob)| near(logprob, token)));

    let mut device = device(1, Activations::Exact, Isa::detect());
    let scored =
        sample_with(&mut device, &logits, &[RowRequest::Score { tokens: vec![17, 4], top: 5000 }]).unwrap().remove(0);
    assert!(near(scored.scores[0], 17) && near(scored.scores[1], 4) && scored.top.len() == 3000);
    assert_eq!(sample(&logits, &row()).logprob, 0.0);
}

#[test]
fn rows_do_not_depend_on_batch_or_threads() {
    let mut random = Random(43);
    let logits: Vec<f32> = random.floats(40 * 1111).iter().map(|x| 6.0 * x).collect();
    let requests: Vec<RowRequest> = (0..40_u64)
        .map(|i| {
            if i % 5 == 0 {
                return RowRequest::Score { tokens: vec![i as u32, 7], top: 3 };
            }
            let (top_k, top_p) = ([0, 10][i as usize % 2], [1.0, 0.8, 0.4][i as usize % 3]);
            RowRequest::Sample(Box::new(SampleRow { top_k, top_p, seed: i, top_logprobs: Some(2), ..row() }))
        })
        .collect();
    for isa in Isa::available() {
        let results: Vec<_> = [1, 2, 4]
            .map(|threads| sample_with(&mut device(threads, Activations::Exact, isa), &logits, &requests).unwrap())
            .into();
        assert!(results[0] == results[1] && results[0] == results[2]);
        let mut device = device(1, Activations::Exact, isa);
        for (i, request) in requests.iter().enumerate() {
            let alone = sample_with(&mut device, &logits[i * 1111..(i + 1) * 1111], std::slice::from_ref(request));
            assert_eq!(alone.unwrap()[0], results[0][i]);
        }
    }
}

#[test]
fn rows_without_an_answer_are_named() {
    let mut device = device(1, Activations::Exact, Isa::detect());
    let good = RowRequest::Sample(Box::new(row()));
    let masked = |mask: TokenMask| RowRequest::Sample(Box::new(SampleRow { mask: Some(Arc::new(mask)), ..row() }));
    let mut beyond = TokenMask::none(9);
    beyond.allow(5);
    let mut refused = |logits: &[f32], rows: &[RowRequest]| -> Vec<Option<&str>> {
        sample_with(&mut device, logits, rows).unwrap().iter().map(|result| result.refused).collect()
    };
    for mask in [TokenMask::none(3), beyond] {
        let rows = [good.clone(), masked(mask)];
        assert_eq!(refused(&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0], &rows), [None, Some(NONE_ALLOWED)]);
    }
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        assert_eq!(refused(&[bad; 3], std::slice::from_ref(&good)), [Some(NOT_NUMBERS)]);
    }
    let outside = RowRequest::Score { tokens: vec![1, 3], top: 0 };
    assert!(matches!(sample_with(&mut device, &[0.0; 3], &[outside]), Err(DeviceError::Shape(_))));
}

#[test]
fn random_numbers_are_spread_and_settled() {
    let mean = (0..10_000).map(|position| uniform(1, position)).sum::<f64>() / 1e4;
    assert!((mean - 0.5).abs() < 0.01);
    assert!((0..10_000).all(|seed| (0.0..1.0).contains(&uniform(seed, 3))));
    // Changing these numbers changes what every recorded seed gives.
    let numbers = [uniform(0, 0), uniform(0, 1), uniform(1, 0)];
    assert!(numbers[0] != numbers[1] && numbers[0] != numbers[2] && numbers[1] != numbers[2]);
}
