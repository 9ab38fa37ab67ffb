//! Each instruction that kernels use, alone, held to what `device.cuh` says of it: the twin's reading on a machine without
//! a GPU, the hardware's on one with.

use half::bf16;

use crate::{
    direct::{Argument, launch},
    random::Random,
};

#[test]
fn conversions_round_to_nearest_even_and_powers_of_two_are_close() {
    let mut random = Random(1);
    let mut numbers: Vec<f32> = (0..200).map(|_| random.float() * 20.0).collect();
    numbers.extend([0.0, -0.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, 3.4e38, -126.0, -200.0]);
    // Halfway between two bf16, up to even and down to even.
    numbers.extend([f32::from_bits(0x3f80_8000), f32::from_bits(0x3f81_8000), f32::from_bits(0x3f80_8001)]);
    let count = numbers.len();
    let words: Vec<u32> = numbers.iter().map(|number| number.to_bits()).collect();
    let out = vec![0; 3 * count];
    let arguments = [Argument::Words(&words), Argument::Words(&out), Argument::Number(count as u32)];
    let result = launch("probe_numbers", 0, &arguments, 1);
    for (number, result) in numbers.into_iter().zip(result.chunks_exact(3)) {
        let (half, back, power) = (result[0] as u16, f32::from_bits(result[1]), f32::from_bits(result[2]));
        let expect = bf16::from_f32(number);
        if number.is_nan() {
            assert!(bf16::from_bits(half).is_nan() && back.is_nan() && power.is_nan(), "{number}");
            continue;
        }
        assert_eq!((half, back.to_bits()), (expect.to_bits(), expect.to_f32().to_bits()), "{number}");
        let exact = f64::from(number).exp2();
        // Subnormal results may be zero.
        let close = (f64::from(power) - exact).abs() <= exact * 3e-7 + f64::from(f32::MIN_POSITIVE);
        assert!(close || exact > f64::from(f32::MAX) && power == f32::INFINITY, "2^{number}: {power}");
    }
}

#[test]
fn warp_operations_reach_the_lanes_they_name() {
    let mut random = Random(2);
    let x: Vec<u32> = (0..32).map(|_| random.below(1000) as u32).collect();
    let out = vec![0; 7 * 32];
    let result = launch("probe_shuffles", 0, &[Argument::Words(&x), Argument::Words(&out)], 1);
    let ballot = (0..32).filter(|lane| x[*lane] % 2 == 1).fold(0, |mask, lane| mask | 1_u32 << lane);
    for lane in 0..32 {
        let expect = [
            x[(5 * lane + 3) % 32],
            x[lane ^ 5],
            x[if lane + 3 < 32 { lane + 3 } else { lane }],
            x[if lane >= 3 { lane - 3 } else { lane }],
            ballot,
            x.iter().sum(),
            *x.iter().max().unwrap(),
        ];
        let actual: Vec<u32> = (0..7).map(|row| result[32 * row + lane]).collect();
        assert_eq!(actual, expect, "lane {lane}");
    }
}

#[test]
fn copies_arrive_and_invalid_ones_are_zeros() {
    let mut random = Random(3);
    let x: Vec<u32> = (0..64 * 4).map(|_| random.next() as u32).collect();
    let out = vec![1; 96 * 4];
    let result = launch("probe_copies", 1024, &[Argument::Words(&x), Argument::Words(&out)], 1);
    for piece in 0..96 {
        let expect = match piece {
            0..32 => &x[4 * piece..][..4],
            // Copied by lane `piece - 32`, valid for even ones.
            32..64 if piece % 2 == 0 => &x[4 * piece..][..4],
            32..64 => &[0; 4],
            _ => &x[4 * (piece - 64)..][..4],
        };
        assert_eq!(&result[4 * piece..][..4], expect, "piece {piece}");
    }
}

#[test]
fn matrices_are_spread_over_the_lanes() {
    // Element (row, column) of matrix j is 64 j + 8 row + column.
    let x: Vec<u32> = (0..128).map(|word| (2 * word) | ((2 * word + 1) << 16)).collect();
    let result = launch("probe_matrices", 512, &[Argument::Words(&x), Argument::Words(&vec![0; 256])], 1);
    for (j, lane) in (0..4).flat_map(|j| (0..32).map(move |lane| (j, lane))) {
        let element = |row: u32, column: u32| 64 * j + 8 * row + column;
        let (row, column) = (lane / 4, lane % 4 * 2);
        let at = (32 * j + lane) as usize;
        assert_eq!(result[at], element(row, column) | element(row, column + 1) << 16, "matrix {j}, lane {lane}");
        let transposed = element(column, row) | element(column + 1, row) << 16;
        assert_eq!(result[128 + at], transposed, "matrix {j} transposed, lane {lane}");
    }
}

#[test]
fn products_are_sums_in_f32() {
    let mut random = Random(4);
    let mut words = |count: usize| -> (Vec<f32>, Vec<u32>) {
        let values: Vec<bf16> = (0..2 * count).map(|_| bf16::from_f32(random.float())).collect();
        let word = |pair: &[bf16]| u32::from(pair[0].to_bits()) | u32::from(pair[1].to_bits()) << 16;
        (values.iter().map(|value| value.to_f32()).collect(), values.chunks_exact(2).map(word).collect())
    };
    let ((a, a_words), (b, b_words)) = (words(128), words(64));
    let d: Vec<f32> = (0..128).map(|_| random.float()).collect();
    let d_words: Vec<u32> = d.iter().map(|value| value.to_bits()).collect();
    let arguments = [Argument::Words(&a_words), Argument::Words(&b_words), Argument::Words(&d_words)];
    let result = launch("probe_multiply_add", 0, &arguments, 2);
    for (row, column) in (0..16).flat_map(|row| (0..8).map(move |column| (row, column))) {
        let product: f64 = (0..16).map(|k| f64::from(a[16 * row + k]) * f64::from(b[16 * column + k])).sum();
        let expect = f64::from(d[8 * row + column]) + product;
        let actual = f64::from(f32::from_bits(result[8 * row + column]));
        assert!((actual - expect).abs() < 1e-5, "({row}, {column}): {actual} and not {expect}");
    }
}
