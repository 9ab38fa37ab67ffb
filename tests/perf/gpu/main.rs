//! The engine on a GPU beside its floors: decode, prefill and a serving mix, on weights made here.
//!
//! `gpu_bench [--shapes NAME,…] [--folder FOLDER] [--steps N] [--requests N] [--longest N] [--plans FOLDER]
//! [--deterministic true] [--graphs false] [--lt false] [--serving false]` prints Markdown. `--longest` bounds contexts and
//! prompts, `--copy-bytes` and `--matrix-size` what the floors are measured with. `gpu.sh` builds it, runs it and keeps what it prints.
//!
//! Floors: the bytes that a step must read over the larger of the copy bandwidth measured here and 4.3 TB/s; the
//! operations of a prefill over the larger of the matrix rate measured here and 770 TFLOP/s. Those two figures are an
//! H200's; `--bandwidth` and `--matrix-rate` name another GPU's.

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

mod floors;
mod serving;
mod shapes;
mod steps;

use std::{collections::HashMap, path::PathBuf};

use floors::Floors;
use sglhost_device::cuda::{CudaConfig, CudaDevice, probe};
use sglhost_model::{OpenOptions, load};
use shapes::{SHAPES, Shape};

/// Pairs of `--name value`.
struct Flags(HashMap<String, String>);

impl Flags {
    fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let pair = |pair: &[String]| match pair {
            [name, value] if name.starts_with("--") => (name[2..].to_owned(), value.clone()),
            other => panic!("flags come in pairs of --name value, not {other:?}"),
        };
        Self(words.chunks(2).map(pair).collect())
    }

    fn get<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        let parse = |value: &String| value.parse().unwrap_or_else(|_| panic!("--{name} {value}"));
        self.0.get(name).map_or(default, parse)
    }
}

fn main() {
    let flags = Flags::read();
    probe().unwrap_or_else(|reason| panic!("{reason}"));
    let config = || CudaConfig {
        deterministic: flags.get("deterministic", false),
        graphs: flags.get("graphs", true),
        lt: flags.get("lt", true),
        plans: flags.0.get("plans").map(PathBuf::from),
        ..CudaConfig::default()
    };
    let names: String = flags.get("shapes", SHAPES[..3].iter().map(|shape| shape.name).collect::<Vec<_>>().join(","));
    let folder = flags.get("folder", std::env::temp_dir().join("sglhost-shapes"));

    let mut device = CudaDevice::new(config()).unwrap();
    let (bandwidth, rate) = (
        device.measure_copy_bandwidth(flags.get("copy-bytes", 4 << 30)).unwrap(),
        device.measure_matrix_rate(flags.get("matrix-size", 8192)).unwrap(),
    );
    let floors = Floors {
        measured_bandwidth: bandwidth,
        measured_matrix_rate: rate,
        bandwidth: bandwidth.max(flags.get("bandwidth", 4.3e12)),
        matrix_rate: rate.max(flags.get("matrix-rate", 770e12)),
    };
    println!("{}\n\n{floors}", sglhost_device::Device::description(&device));
    drop(device);

    for name in names.split(',') {
        let shape = SHAPES.iter().find(|shape| shape.name == name).unwrap_or_else(|| panic!("no shape {name}"));
        run(shape, &folder, &flags, &config, &floors);
    }
}

fn run(shape: &Shape, folder: &std::path::Path, flags: &Flags, config: &dyn Fn() -> CudaConfig, floors: &Floors) {
    let path = folder.join(shape.name);
    shape.write(&path);
    let open = || {
        let started = std::time::Instant::now();
        let options = OpenOptions { memory_fraction: flags.get("mem-fraction", 0.88), ..OpenOptions::default() };
        let loaded = load(&path, CudaDevice::new(config()).unwrap(), &options).unwrap();
        (loaded, started.elapsed().as_secs_f64())
    };
    let (loaded, seconds) = open();
    let gigabytes = shape.weight_bytes() as f64 / 1e9;
    println!("\n### {}\n\n{gigabytes:.1} GB of weights loaded in {seconds:.1} s.\n", shape.name);
    let mut runner = loaded.runner;
    let longest = flags.get("longest", usize::MAX);
    steps::decode(shape, &mut runner, flags.get("steps", 64), longest, floors);
    steps::prefill(shape, &mut runner, longest, floors);
    drop(runner);
    if flags.get("serving", true) {
        serving::measure(open().0, flags.get("requests", 512), longest);
    }
    std::fs::remove_dir_all(&path).unwrap();
}
