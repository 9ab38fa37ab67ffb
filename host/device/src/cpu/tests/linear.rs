//! Matrix products and the embedding, over every format.

use super::*;

const FORMATS: [WeightFormat; 11] = [
    WeightFormat::F32,
    WeightFormat::F16,
    WeightFormat::BF16,
    WeightFormat::Q8_0,
    WeightFormat::Q4_0,
    WeightFormat::Q4_1,
    WeightFormat::Q5_0,
    WeightFormat::Q5_1,
    WeightFormat::Q4_K,
    WeightFormat::Q5_K,
    WeightFormat::Q6_K,
];

/// At least `columns`, and whole blocks.
fn whole_blocks(format: WeightFormat, columns: usize) -> usize {
    columns.next_multiple_of(format.block_elements())
}

fn product(rows: &[Vec<f32>], x: &[f32], bias: &[f32]) -> Vec<f64> {
    x.chunks(rows[0].len())
        .flat_map(|x| {
            rows.iter().zip(bias).map(move |(row, &bias)| {
                f64::from(bias) + row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>()
            })
        })
        .collect()
}

#[test]
fn products_equal_the_reference() {
    let mut random = Random(1);
    for format in FORMATS {
        for (rows, columns, count) in [(48, 64, 1), (50, 96, 7), (8, 32, 130)] {
            let columns = whole_blocks(format, columns);
            let order = RowOrder::RopeInterleaved { head_dim: 2 };
            // Fused from three parts: a permuted one, a natural one and one of another format.
            let parts = [
                stored(&mut random, format, rows, columns, order),
                stored(&mut random, format, 19, columns, RowOrder::Natural),
                stored(&mut random, WeightFormat::Q8_0, 5, columns, RowOrder::Natural),
            ];
            let weights: Vec<Vec<f32>> = parts.iter().flat_map(|stored| stored.rows.clone()).collect();
            let (x, bias) = (random.floats(count * columns), random.floats(weights.len()));
            let expect = product(&weights, &x, &bias);
            for (isa, threads) in machines() {
                for (activations, limit) in [(Activations::Exact, 1e-6), (Activations::Quantized, 1e-2)] {
                    let mut device = device(threads, activations, isa);
                    let weight = device.load_weight(&parts.each_ref().map(|stored| stored.part.clone())).unwrap();
                    let (input, bias) = (buffer(&mut device, &x), buffer(&mut device, &bias));
                    let mut out = device.allocate(expect.len(), Precision::Full).unwrap();
                    device.linear(&weight, Some(&bias), &input, count, &mut out).unwrap();
                    let whole = read(&mut device, &out, expect.len());
                    let error = relative_error(&whole, &expect);
                    assert!(error < limit, "{} {format:?} {activations:?}: {error}", isa.name());

                    for t in [0, count / 2, count - 1] {
                        let alone = buffer(&mut device, &x[t * columns..(t + 1) * columns]);
                        device.linear(&weight, Some(&bias), &alone, 1, &mut out).unwrap();
                        let alone = read(&mut device, &out, weights.len());
                        assert_eq!(alone, whole[t * weights.len()..(t + 1) * weights.len()], "row {t} alone");
                    }
                }
            }
        }
    }
}

#[test]
fn threads_do_not_change_results() {
    let mut random = Random(2);
    for format in FORMATS {
        let columns = whole_blocks(format, 64);
        let stored = stored(&mut random, format, 200, columns, RowOrder::Natural);
        let x = random.floats(9 * columns);
        let results = [1, 2, 5].map(|threads| {
            let mut device = device(threads, Activations::Quantized, Isa::detect());
            let weight = device.load_weight(std::slice::from_ref(&stored.part)).unwrap();
            let (input, mut out) = (buffer(&mut device, &x), device.allocate(9 * 200, Precision::Full).unwrap());
            device.linear(&weight, None, &input, 9, &mut out).unwrap();
            read(&mut device, &out, 9 * 200)
        });
        assert!(results[0] == results[1] && results[0] == results[2], "{format:?}");
    }
}

#[test]
fn embeddings_are_the_table_s_rows() {
    let mut random = Random(3);
    for format in FORMATS {
        let columns = whole_blocks(format, 64);
        let stored = stored(&mut random, format, 37, columns, RowOrder::Natural);
        let given = random.floats(columns);
        let mut batch = Batch::default();
        batch.push_sequence(&[0, 36, 17, 5], 0..4, &[0, 1, 2, 3]);
        batch.embedding_rows.push((2, shared(&given)));
        for (isa, threads) in machines() {
            let mut device = device(threads, Activations::Quantized, isa);
            let table = device.load_weight(std::slice::from_ref(&stored.part)).unwrap();
            let (uploaded, mut out) =
                (device.upload_batch(&batch).unwrap(), device.allocate(4 * columns, Precision::Full).unwrap());
            device.embed(&table, &uploaded, &mut out).unwrap();
            let out = read(&mut device, &out, 4 * columns);
            for (row, expect) in [(0, &stored.rows[0]), (1, &stored.rows[36]), (2, &given), (3, &stored.rows[5])] {
                for (x, expect) in out[row * columns..(row + 1) * columns].iter().zip(expect) {
                    assert!((x - expect).abs() < 2e-6, "{} {format:?} row {row}", isa.name());
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut device = device(1, Activations::Exact, Isa::portable());
    let part = |bytes: usize, format, rows, columns, order| WeightPart {
        data: mapped(&vec![0; bytes]),
        format,
        rows,
        columns,
        order,
    };
    let heads = RowOrder::RopeInterleaved { head_dim: 4 };
    let cases = [
        ("without columns", vec![]),
        ("whole number", vec![part(20, WeightFormat::Q4_1, 1, 33, RowOrder::Natural)]),
        ("bytes for", vec![part(21, WeightFormat::Q4_1, 1, 32, RowOrder::Natural)]),
        ("heads of 4", vec![part(40, WeightFormat::F32, 10, 1, heads)]),
        (
            "fused",
            vec![
                part(8, WeightFormat::F32, 1, 2, RowOrder::Natural),
                part(4, WeightFormat::F32, 1, 1, RowOrder::Natural),
            ],
        ),
    ];
    for (expect, parts) in cases {
        let error = device.load_weight(&parts).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
    let weight = device.load_weight(&[part(8, WeightFormat::F32, 1, 2, RowOrder::Natural)]).unwrap();
    let (x, mut out) = (buffer(&mut device, &[1.0]), device.allocate(1, Precision::Full).unwrap());
    assert!(matches!(device.linear(&weight, None, &x, 1, &mut out), Err(DeviceError::Shape(_))));
    let mut batch = Batch::default();
    batch.push_sequence(&[1], 0..1, &[0]);
    let batch = device.upload_batch(&batch).unwrap();
    assert!(matches!(device.embed(&weight, &batch, &mut out), Err(DeviceError::Shape(_))));
}
