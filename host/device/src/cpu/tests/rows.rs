//! The row-wise operations: threads split rows and change nothing.

use super::*;

#[test]
fn rows_are_independent_of_each_other_and_of_threads() {
    let (rows, width) = (100, 200);
    let mut random = Random(31);
    let (x, y) = (random.floats(rows * 2 * width), random.floats(rows * width));
    let weight = random.floats(width);
    let run = |threads: usize, rows: Range<usize>, isa: Isa| -> Vec<f32> {
        let mut device = device(threads, Activations::Exact, isa);
        let count = rows.len();
        let gate_up = buffer(&mut device, &x[rows.start * 2 * width..rows.end * 2 * width]);
        let other = buffer(&mut device, &y[rows.start * width..rows.end * width]);
        let weight = buffer(&mut device, &weight);
        let (mut gated, mut normed) = (
            device.allocate(count * width, Precision::Full).unwrap(),
            device.allocate(count * width, Precision::Full).unwrap(),
        );
        device.silu_mul(&gate_up, count, width, &mut gated).unwrap();
        device.rms_norm(&gated, &weight, 1e-5, count, &mut normed).unwrap();
        let mut out = read(&mut device, &normed, count * width);
        device.add_rms_norm(&mut gated, &other, &weight, 1e-5, count, &mut normed).unwrap();
        out.extend(read(&mut device, &normed, count * width));
        out.extend(read(&mut device, &gated, count * width));
        out
    };
    for (isa, threads) in machines() {
        let whole = run(threads, 0..rows, isa);
        assert_eq!(whole, run(2, 0..rows, isa));
        for row in [0, 57, 99] {
            let alone = run(threads, row..row + 1, isa);
            for (part, alone) in alone.chunks(width).enumerate() {
                let at = (part * rows + row) * width;
                assert_eq!(alone, &whole[at..at + width], "{} row {row}", isa.name());
            }
        }
    }
}

#[test]
fn sample_rows_are_gathered() {
    let mut device = device(2, Activations::Exact, Isa::detect());
    let mut batch = batch_of(&[(3, &[0, 1, 2]), (2, &[3, 4])]);
    batch.sample_rows = vec![0, 2, 4];
    let batch = device.upload_batch(&batch).unwrap();
    let x = buffer(&mut device, &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]);
    let mut out = device.allocate(6, Precision::Full).unwrap();
    device.gather_sample_rows(&x, &batch, 2, &mut out).unwrap();
    assert_eq!(read(&mut device, &out, 6), [0.0, 0.5, 2.0, 2.5, 4.0, 4.5]);
}
