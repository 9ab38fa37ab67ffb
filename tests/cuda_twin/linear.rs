//! Products: each of the ways to compute one, and which is taken when.

use std::path::Path;

use sglhost_device::{CudaConfig, CudaDevice, Device, DeviceError, Precision, WeightPart};

use crate::{
    both::{BF16, F32, Tolerance, buffer, check_near, cpu, gpu, read},
    random::{self, Random},
    twin,
};

/// A product `[rows, k]` × `[n, k]`.
struct Case {
    parts: Vec<WeightPart>,
    bias: Option<Vec<f32>>,
    x: Vec<f32>,
    rows: usize,
    n: usize,
    precision: Precision,
}

impl Case {
    fn new(random: &mut Random, rows: usize, n: usize, k: usize, bias: bool, precision: Precision) -> Self {
        Self {
            parts: vec![random::matrix(random, n, k)],
            bias: bias.then(|| random.halves(n)),
            x: random.halves(rows * k),
            rows,
            n,
            precision,
        }
    }

    fn run<D: Device>(&self, device: &mut D) -> Vec<f32> {
        let weight = device.load_weight(&self.parts).unwrap();
        let bias = self.bias.as_ref().map(|bias| buffer(device, bias, Precision::Activation));
        let x = buffer(device, &self.x, Precision::Activation);
        let mut out = device.allocate(self.rows * self.n, self.precision).unwrap();
        device.linear(&weight, bias.as_ref(), &x, self.rows, &mut out).unwrap();
        read(device, &out, self.rows * self.n)
    }

    fn check(&self, device: &mut CudaDevice) {
        let k = self.parts[0].columns;
        // Sums of k terms below 1 come in another order.
        let rounding = 1e-6 * k as f32;
        let Tolerance { relative, .. } = if self.precision == Precision::Full { F32 } else { BF16 };
        let tolerance = Tolerance { relative, absolute: rounding };
        let what = format!("{} x {k} by {} x {k}, {:?}", self.rows, self.n, self.precision);
        check_near(&what, &self.run(device), &self.run(&mut cpu()), tolerance);
    }
}

/// Rows, n, k: tails everywhere.
const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 8),
    (1, 70, 1024),
    (2, 33, 584),
    (3, 130, 72),
    (4, 256, 2048),
    (5, 40, 64),
    (8, 129, 200),
    (17, 96, 136),
    (33, 300, 64),
    (65, 257, 72),
    (129, 130, 88),
    (300, 64, 40),
];

fn all(device: &mut CudaDevice) {
    let mut random = Random(40);
    for (rows, n, k) in SHAPES {
        for precision in [Precision::Activation, Precision::Full] {
            let bias = random.below(2) == 0;
            Case::new(&mut random, rows, n, k, bias, precision).check(device);
        }
    }
}

#[test]
fn products_with_the_library() {
    all(&mut gpu(CudaConfig::default()));
}

#[test]
fn products_without_the_library() {
    let mut device = gpu(CudaConfig { lt: false, ..CudaConfig::default() });
    assert!(device.description().contains("own products"), "{}", device.description());
    all(&mut device);
}

#[test]
fn a_row_is_the_same_bits_among_any_others_where_that_is_asked_for() {
    let mut random = Random(41);
    let mut device = gpu(CudaConfig { deterministic: true, ..CudaConfig::default() });
    let (n, k) = (150, 200);
    let mut case = Case::new(&mut random, 200, n, k, true, Precision::Full);
    case.check(&mut device);
    let whole = case.run(&mut device);
    let x = case.x.clone();
    for (first, rows) in [(0, 1), (7, 1), (199, 1), (3, 2), (20, 16), (50, 17), (64, 64), (1, 130)] {
        case.rows = rows;
        case.x = x[first * k..(first + rows) * k].to_vec();
        assert!(case.run(&mut device) == whole[first * n..(first + rows) * n], "{rows} rows from {first}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut random = Random(42);
    let mut device = gpu(CudaConfig::default());
    let error = device.load_weight(&[random::matrix(&mut random, 4, 12)]).unwrap_err();
    assert_eq!(error.to_string(), "weight: 12 columns; a GPU takes multiples of 8");
    let two = [random::matrix(&mut random, 4, 16), random::matrix(&mut random, 4, 8)];
    assert!(device.load_weight(&two).unwrap_err().to_string().contains("cannot be fused"));
    let weight = device.load_weight(&two[..1]).unwrap();
    let full = buffer(&mut device, &[0.0; 16], Precision::Full);
    let halves = buffer(&mut device, &[0.0; 16], Precision::Activation);
    let mut out = device.allocate(4, Precision::Full).unwrap();
    let mut check = |device: &mut CudaDevice, x, bias, rows, expect: &str| {
        let error = device.linear(&weight, bias, x, rows, &mut out).unwrap_err();
        assert!(matches!(error, DeviceError::Shape(_)) && error.to_string().contains(expect), "{error}");
    };
    check(&mut device, &full, None, 1, "Full precision");
    check(&mut device, &halves, Some(&full), 1, "Full precision");
    check(&mut device, &halves, None, 2, "16 elements is used for 32");
}

/// The library's algorithms are measured once, and kept for the next start.
#[test]
fn twin_only_measured_algorithms_are_kept() {
    twin::in_another_process("linear::twin_only_measured_algorithms_are_kept", &[], || {
        let folder = tempfile::tempdir().unwrap();
        let config = || CudaConfig { plans: Some(folder.path().join("plans")), ..CudaConfig::default() };
        let mut random = Random(43);
        let cases: Vec<Case> =
            [6, 7, 9].map(|rows| Case::new(&mut random, rows, 40, 64, rows == 9, Precision::Activation)).into();
        let measured = |twin: &str| twin::count(twin);
        let mut device = gpu(config());
        assert!(device.description().contains("cuBLASLt"), "{}", device.description());
        let before = measured("cuEventElapsedTime");
        cases.iter().for_each(|case| case.check(&mut device));
        let after = measured("cuEventElapsedTime");
        assert!(after > before, "nothing was measured");
        // Rows of a class share what was measured; another start finds it.
        cases.iter().for_each(|case| case.check(&mut device));
        drop(device);
        let files: Vec<_> =
            std::fs::read_dir(folder.path().join("plans")).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(std::fs::read_to_string(&files[0]).unwrap().lines().count(), 3, "a header, two kinds");
        let mut device = gpu(config());
        cases.iter().for_each(|case| case.check(&mut device));
        assert_eq!(measured("cuEventElapsedTime"), after, "measured again");
        drop(device);
        // What cannot be read is no plan.
        std::fs::write(&files[0], "sglhost products 1\n40 64 8 0 0 0 0 0 0 0 0 0 7\n").unwrap();
        let mut device = gpu(config());
        cases.iter().for_each(|case| case.check(&mut device));
        assert!(measured("cuEventElapsedTime") > after, "an algorithm that is none was taken");
    });
}

/// The lines of the one file of plans, without its header.
fn plans(folder: &Path) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    std::fs::read_to_string(&files[0]).unwrap().lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn twin_only_an_algorithm_that_fails_gives_way_to_another_and_then_to_our_own() {
    const NAME: &str = "linear::twin_only_an_algorithm_that_fails_gives_way_to_another_and_then_to_our_own";
    twin::in_another_process(NAME, &[], || {
        let folder = tempfile::tempdir().unwrap();
        let config = || CudaConfig { plans: Some(folder.path().join("plans")), ..CudaConfig::default() };
        let plans = || plans(&folder.path().join("plans"));
        let own = || twin::count("gemm_bf16_32x16");
        let products = || twin::count("cublasLtMatmul");
        let case = Case::new(&mut Random(44), 6, 40, 64, true, Precision::Activation);

        // One that cannot be measured is left out.
        let mut device = gpu(config());
        twin::fail_next("cublasLtMatmul", twin::EXECUTION_FAILED);
        twin::fail_next("cuEventElapsedTime", twin::INVALID_VALUE);
        case.check(&mut device);
        drop(device);
        let first = plans();
        assert_eq!((first.len(), own()), (1, 0));

        // One that is remembered and fails is not remembered; nor tried again.
        let mut device = gpu(config());
        twin::fail_next("cublasLtMatmul", twin::EXECUTION_FAILED);
        case.check(&mut device);
        let before = products();
        case.check(&mut device);
        assert_eq!((products() - before, own()), (1, 0));
        drop(device);
        let second = plans();
        assert!(second.len() == 1 && second != first, "{first:?} {second:?}");

        // Where none works, nothing is remembered, and ours computes.
        let mut device = gpu(config());
        twin::fail_always("cublasLtMatmul", twin::EXECUTION_FAILED);
        case.check(&mut device);
        let before = products();
        case.check(&mut device);
        assert_eq!((products(), own()), (before, 2));
        drop(device);
        assert_eq!(plans(), [""; 0]);
        // Nor where none is to be measured.
        twin::fail_always("cublasLtMatmul", 0);
        twin::fail_always("cuEventElapsedTime", twin::INVALID_VALUE);
        let mut device = gpu(config());
        case.check(&mut device);
        assert_eq!(own(), 3);
        drop(device);
        assert_eq!(plans(), [""; 0]);

        // What takes the device with it is no algorithm's failure.
        twin::fail_always("cuEventElapsedTime", 0);
        for lost in ["cuEventRecord", "cuStreamSynchronize"] {
            let mut device = gpu(config());
            let weight = device.load_weight(&case.parts).unwrap();
            let x = buffer(&mut device, &case.x, Precision::Activation);
            let mut out = device.allocate(case.rows * case.n, Precision::Activation).unwrap();
            twin::fail_next("cublasLtMatmul", twin::EXECUTION_FAILED);
            twin::fail_next(lost, twin::ILLEGAL_ADDRESS);
            let error = device.linear(&weight, None, &x, case.rows, &mut out).unwrap_err();
            assert!(matches!(error, DeviceError::Lost { .. }), "{lost}: {error}");
        }
    });
}

/// Who computed the product: as its kernels' names begin, or the library.
fn taken(device: &mut CudaDevice, case: &Case) -> &'static str {
    let tiles = ["32x16", "64x16", "128x16", "64x64", "128x64", "128x128", "256x128"];
    let ours = |name: &'static str, sizes: &[&str]| {
        let counts =
            sizes.iter().flat_map(|size| ["bf16", "f32"].map(|to| twin::count(&format!("{name}_{to}_{size}"))));
        (name, counts.sum::<u64>())
    };
    let counts = || [ours("gemv", &["1", "2", "4"]), ours("gemm", &tiles), ("library", twin::count("cublasLtMatmul"))];
    let before = counts();
    case.run(device);
    let risen: Vec<_> = counts().into_iter().zip(before).filter(|(after, before)| after != before).collect();
    let [((name, _), _)] = risen[..] else { panic!("{risen:?}") };
    name
}

#[test]
fn twin_only_each_product_takes_its_kernel() {
    twin::in_another_process("linear::twin_only_each_product_takes_its_kernel", &[], || {
        const HALF: Precision = Precision::Activation;
        const FULL: Precision = Precision::Full;
        // Longer rows than four of them fit shared memory.
        const LONG: usize = 29_064;
        let default = || CudaConfig::default();
        let mut random = Random(45);
        let mut check = |config: CudaConfig, cases: &[(usize, usize, bool, Precision, &str)]| {
            let mut device = gpu(config);
            for &(rows, k, bias, precision, expect) in cases {
                let case = Case::new(&mut random, rows, 6, k, bias, precision);
                assert_eq!(taken(&mut device, &case), expect, "{rows} rows of {k}, bias {bias}, {precision:?}");
            }
        };
        check(
            default(),
            &[
                (1, 64, false, HALF, "gemv"),
                (2, 64, true, FULL, "gemv"),
                (4, 64, true, HALF, "gemv"),
                (5, 64, false, HALF, "library"),
                (5, 64, true, HALF, "library"),
                (300, 64, false, FULL, "library"),
                (5, 64, true, FULL, "gemm"),
                (2, LONG, false, HALF, "gemv"),
                (4, LONG, false, HALF, "library"),
            ],
        );
        let without = CudaConfig { lt: false, ..default() };
        check(without, &[(4, 64, false, HALF, "gemv"), (5, 64, false, HALF, "gemm"), (4, LONG, false, HALF, "gemm")]);
        let deterministic = CudaConfig { deterministic: true, ..default() };
        check(deterministic, &[(1, 64, false, HALF, "gemm"), (5, 64, true, HALF, "gemm")]);
    });
}

#[test]
fn random_weights_need_no_file() {
    let mut device = gpu(CudaConfig::default());
    let mut rows = |seed| {
        let table = device.random_weight(6, 64, seed).unwrap();
        let mut batch = sglhost_device::Batch::default();
        batch.push_sequence(&[0, 1, 2, 3, 4, 5], 0..6, &[0, 1, 2, 3, 4, 5]);
        let batch = device.upload_batch(&batch).unwrap();
        let mut out = device.allocate(6 * 64, Precision::Full).unwrap();
        device.embed(&table, &batch, &mut out).unwrap();
        read(&mut device, &out, 6 * 64)
    };
    let (one, again, other) = (rows(1), rows(1), rows(2));
    assert!(one == again && one != other);
    assert!(one.iter().all(|x| x.abs() <= 0.125), "within 1 / sqrt(64)");
    assert!((one.iter().sum::<f32>() / 384.0).abs() < 0.02, "around 0");
}
