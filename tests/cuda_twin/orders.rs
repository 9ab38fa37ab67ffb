//! Kernels give the same results in whatever order blocks and threads run.

use std::process::Command;

use crate::twin;

/// Backwards, and shuffled.
const ORDERS: [u64; 2] = [1, 20];
const KERNELS: [&str; 4] = ["rows::", "linear::", "attention::", "sample::"];

#[test]
fn twin_only_kernels_pass_in_other_orders() {
    twin::load();
    for order in ORDERS {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(KERNELS).args(["--test-threads", "1"]).env(twin::ORDER, order.to_string());
        let output = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !said.contains(" 0 passed"), "order {order}: {said}");
    }
}
