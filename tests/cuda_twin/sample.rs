//! Sampling and scoring of rows of logits.

use std::sync::Arc;

use sglhost_core::TokenMask;
use sglhost_device::{CudaConfig, Device, DeviceError, Precision, RowRequest, RowResult, SampleRow};

use crate::{
    both::{Tolerance, buffer, check_near, cpu, gpu, read},
    random::Random,
};

fn row(seed: u64) -> SampleRow {
    SampleRow { seed, position: seed * 3, ..SampleRow::default() }
}

/// A row of every kind.
fn requests(random: &mut Random, vocabulary: usize) -> Vec<RowRequest> {
    let token = |random: &mut Random| random.below(vocabulary) as u32;
    let mut mask = TokenMask::none(vocabulary);
    (0..vocabulary / 3).for_each(|_| mask.allow(token(random)));
    let mask = Some(Arc::new(mask));
    let counts: Vec<(u32, u32)> = (0..20).map(|_| (token(random), 1 + random.below(3) as u32)).collect();
    let bias: Vec<(u32, f32)> = (0..20).map(|_| (token(random), 4.0 * random.float())).collect();
    let mut rows = vec![
        SampleRow { temperature: 0.0, ..row(1) },
        SampleRow { temperature: 0.0, mask: mask.clone(), top_logprobs: Some(3), ..row(2) },
        row(3),
        SampleRow { temperature: 0.7, top_logprobs: Some(0), ..row(4) },
        SampleRow { top_k: 5, ..row(5) },
        SampleRow { top_p: 0.9, ..row(6) },
        SampleRow { top_k: 40, top_p: 0.8, min_p: 0.02, top_logprobs: Some(20), ..row(7) },
        SampleRow { min_p: 0.1, mask: mask.clone(), ..row(8) },
        SampleRow { top_p: 0.999, temperature: 2.0, ..row(9) },
        SampleRow {
            frequency_penalty: 0.5,
            presence_penalty: 0.3,
            repetition_penalty: 1.2,
            counts: counts.clone(),
            bias: bias.clone(),
            top_logprobs: Some(5),
            ..row(10)
        },
        SampleRow { counts, bias, repetition_penalty: 1.1, mask, temperature: 0.0, ..row(11) },
    ];
    // A token counts once.
    for row in &mut rows {
        row.counts.sort_unstable();
        row.counts.dedup_by_key(|(token, _)| *token);
    }
    let mut requests: Vec<RowRequest> = rows.into_iter().map(|row| RowRequest::Sample(Box::new(row))).collect();
    requests.push(RowRequest::Score { tokens: vec![], top: 0 });
    requests.push(RowRequest::Score { tokens: (0..7).map(|_| token(random)).collect(), top: 0 });
    requests.push(RowRequest::Score { tokens: vec![token(random)], top: 11 });
    requests
}

fn results<D: Device>(device: &mut D, logits: &[f32], requests: &[RowRequest]) -> Vec<RowResult> {
    let vocabulary = logits.len() / requests.len();
    let mut logits = buffer(device, logits, Precision::Full);
    device.sample(&mut logits, vocabulary, requests).unwrap();
    device.wait_sampled().unwrap()
}

/// Log-probabilities are differences of logits and a logarithm.
const NEAR: Tolerance = Tolerance { relative: 1e-5, absolute: 1e-5 };

fn check(what: &str, got: &[RowResult], expect: &[RowResult]) {
    assert_eq!(got.len(), expect.len(), "{what}");
    for (row, (got, expect)) in got.iter().zip(expect).enumerate() {
        let what = format!("{what}, row {row}");
        assert_eq!(got.token, expect.token, "{what}");
        check_near(&what, &[got.logprob], &[expect.logprob], NEAR);
        check_near(&what, &got.scores, &expect.scores, NEAR);
        let split = |top: &[(u32, f32)]| -> (Vec<u32>, Vec<f32>) { top.iter().copied().unzip() };
        let ((got, got_logprobs), (expect, logprobs)) = (split(&got.top), split(&expect.top));
        assert_eq!(got, expect, "{what}");
        check_near(&what, &got_logprobs, &logprobs, NEAR);
    }
}

#[test]
fn every_kind_of_row_is_answered_as_on_the_cpu() {
    let mut device = gpu(CudaConfig::default());
    for (seed, vocabulary) in [(90, 130), (91, 1001), (92, 4096), (93, 20_003)] {
        let mut random = Random(seed);
        let requests = requests(&mut random, vocabulary);
        let logits: Vec<f32> =
            random.floats(requests.len() * vocabulary).into_iter().map(|x| 12.0 * x * x * x).collect();
        let expect = results(&mut cpu(), &logits, &requests);
        check(&format!("{vocabulary} tokens"), &results(&mut device, &logits, &requests), &expect);
    }
}

#[test]
fn logits_are_left_as_they_were_for_scores_of_the_raw_distribution() {
    let mut random = Random(95);
    let mut device = gpu(CudaConfig::default());
    let requests = requests(&mut random, 500);
    let logits = random.floats(requests.len() * 500);
    let mut on_device = buffer(&mut device, &logits, Precision::Full);
    device.sample(&mut on_device, 500, &requests).unwrap();
    device.wait_sampled().unwrap();
    assert!(read(&mut device, &on_device, logits.len()) == logits);
}

#[test]
fn two_samplings_may_be_in_flight() {
    let mut random = Random(96);
    let (mut cpu, mut device) = (cpu(), gpu(CudaConfig::default()));
    let requests = requests(&mut random, 300);
    let logits: Vec<Vec<f32>> = (0..4).map(|_| random.floats(requests.len() * 300)).collect();
    let expect: Vec<_> = logits.iter().map(|logits| results(&mut cpu, logits, &requests)).collect();
    let mut on_device: Vec<_> = logits.iter().map(|logits| buffer(&mut device, logits, Precision::Full)).collect();
    device.sample(&mut on_device[0], 300, &requests).unwrap();
    for next in 1..4 {
        device.sample(&mut on_device[next], 300, &requests).unwrap();
        check("in flight", &device.wait_sampled().unwrap(), &expect[next - 1]);
    }
    device.sample(&mut on_device[0], 300, &requests[..0]).unwrap();
    assert!(matches!(device.sample(&mut on_device[0], 300, &requests), Err(DeviceError::Shape(_))));
    check("in flight", &device.wait_sampled().unwrap(), &expect[3]);
    assert_eq!(device.wait_sampled().unwrap(), []);
    assert_eq!(device.wait_sampled().unwrap(), [], "nothing is in flight");
}

#[test]
fn what_is_not_a_number_counts_as_negative_infinity() {
    let mut device = gpu(CudaConfig::default());
    for (seed, vocabulary) in [(97, 1001), (98, 20_003)] {
        let mut random = Random(seed);
        let mut requests = requests(&mut random, vocabulary);
        requests.push(RowRequest::Score { tokens: vec![0, 1, 2], top: 3 });
        let logits: Vec<f32> =
            random.floats(requests.len() * vocabulary).into_iter().map(|x| 12.0 * x * x * x).collect();
        // Some that would be drawn, and of each row the first.
        let with = |nothing: f32| -> Vec<f32> {
            let replaced = |(i, x): (usize, &f32)| if i % vocabulary == 0 || *x > 11.0 { nothing } else { *x };
            logits.iter().enumerate().map(replaced).collect()
        };
        let expect = results(&mut cpu(), &with(f32::NEG_INFINITY), &requests);
        assert_eq!(expect[requests.len() - 1].scores[0], f32::NEG_INFINITY);
        for nothing in [f32::NAN, -f32::NAN] {
            check("on the CPU", &results(&mut cpu(), &with(nothing), &requests), &expect);
            check("on the GPU", &results(&mut device, &with(nothing), &requests), &expect);
        }
    }
}

#[test]
fn rows_without_an_answer_are_named() {
    let mut device = gpu(CudaConfig::default());
    let requests: Vec<RowRequest> = (0..3).map(|seed| RowRequest::Sample(Box::new(row(seed)))).collect();
    let mut logits = vec![0.5; 3 * 40];
    logits[40..80].fill(f32::NAN);
    let mut buffer_of = buffer(&mut device, &logits, Precision::Full);
    device.sample(&mut buffer_of, 40, &requests).unwrap();
    let got = device.wait_sampled().unwrap();
    assert_eq!([0, 1, 2].map(|row: usize| got[row].refused), [None, Some("its logits are not numbers"), None]);
    // The next one is not touched by that.
    let logits = vec![0.25; 3 * 40];
    let expect = results(&mut cpu(), &logits, &requests);
    check("after", &results(&mut device, &logits, &requests), &expect);
    let mut nothing = row(0);
    nothing.mask = Some(Arc::new(TokenMask::none(40)));
    let mut buffer_of = buffer(&mut device, &logits[..40], Precision::Full);
    device.sample(&mut buffer_of, 40, &[RowRequest::Sample(Box::new(nothing))]).unwrap();
    assert_eq!(device.wait_sampled().unwrap()[0].refused, Some("its mask allows no token"));
}
