//! Kernels give the same results in whatever order blocks and threads run.

use crate::twin;

/// Backwards, and shuffled.
const ORDERS: [u64; 2] = [1, 20];
const KERNELS: [&str; 4] = ["rows::", "linear::", "attention::", "sample::"];

#[test]
fn twin_only_kernels_pass_in_other_orders() {
    twin::load();
    for order in ORDERS {
        let arguments = [&KERNELS[..], &["--test-threads", "1"]].concat();
        let (status, said) = twin::child(&arguments, &[(twin::ORDER, &order.to_string())]);
        assert!(status.success() && !said.contains(" 0 passed"), "order {order}: {said}");
    }
}
