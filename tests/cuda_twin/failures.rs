//! What the driver refuses, and what a device that is lost says.

use sglhost_device::{
    CudaConfig, CudaDevice, Device, DeviceError, Precision,
    cuda::{self, NoGpu},
};
use sglhost_model::{ModelError, OpenOptions, open};
use sglhost_tests::golden::folder;

use crate::{
    both::{buffer, gpu, read},
    twin,
};

#[test]
fn a_machine_without_a_driver_is_no_panic() {
    // Whatever this machine has: in a process that has loaded nothing, there is an answer.
    twin::in_another_process("failures::a_machine_without_a_driver_is_no_panic", &[], || match cuda::probe() {
        Ok(gpu) => println!("{gpu:?}"),
        Err(NoGpu::NoDriver) => {
            let error = CudaDevice::new(CudaConfig::default()).err().unwrap();
            assert!(error.to_string().starts_with("no NVIDIA GPU: libcuda.so.1 was not found"), "{error}");
        }
        Err(other) => println!("{other}"),
    });
}

#[test]
fn twin_only_what_is_missing_is_said_in_a_line() {
    const NAME: &str = "failures::twin_only_what_is_missing_is_said_in_a_line";
    twin::in_another_process(NAME, &[], || {
        use cudarc::driver::sys::CUdevice_attribute as Attribute;
        let check = |expect: &str| {
            let said = cuda::probe().unwrap_err().to_string();
            assert!(said.contains(expect) && !said.contains('\n'), "{said:?} does not say {expect:?}");
        };
        twin::load();
        let gpu = cuda::probe().unwrap();
        assert_eq!((gpu.ordinal, gpu.compute, gpu.name.is_empty()), (0, (9, 0), false));
        assert!(matches!(cuda::probe_device(1), Err(NoGpu::NoSuchDevice { ordinal: 1, count: 1 })));
        for (function, status, expect) in [
            ("cuInit", 100, "MIG is on"),
            ("cuInit", 999, "kernel's module may not be loaded"),
            ("cuInit", 803, "different drivers"),
            ("cuInit", 34, "stub"),
            ("cuDeviceGetCount", 304, "may not be opened"),
            ("cuDeviceTotalMem", 46, "exclusively"),
        ] {
            twin::fail_next(function, status);
            check(expect);
        }
        twin::set_attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 7);
        twin::set_attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 5);
        check("has compute capability 7.5; 8.0 (Ampere) or newer is needed");
        let error = CudaDevice::new(CudaConfig::default()).err().unwrap();
        assert!(matches!(error, DeviceError::NoGpu(NoGpu::OldDevice { .. })), "{error}");
    });
}

#[test]
fn twin_only_too_little_memory_names_what_for() {
    twin::in_another_process("failures::twin_only_too_little_memory_names_what_for", &[], || {
        let mut device = gpu(CudaConfig::default());
        let free = device.memory().unwrap().unwrap().free_bytes;
        let error = device.allocate(free / 4 + 1, Precision::Full).unwrap_err();
        assert!(matches!(error, DeviceError::OutOfMemory { bytes, .. } if bytes == 4 * (free / 4 + 1)), "{error}");
        // What is dropped is there again, though work in flight may have used it.
        for _ in 0..4 {
            let mut half = device.allocate(free / 8, Precision::Full).unwrap();
            device.write_f32(&mut half, &[1.0]).unwrap();
            drop(half);
        }
        assert_eq!(device.memory().unwrap().unwrap().free_bytes, free);
        twin::fail_next("cuMemAlloc", twin::OUT_OF_MEMORY);
        let error = device.random_weight(8, 8, 0).unwrap_err();
        assert_eq!(error.to_string(), "the device has no room for 128 bytes of weights");
    });
}

#[test]
fn twin_only_a_model_that_is_too_large_names_the_numbers() {
    twin::in_another_process("failures::twin_only_a_model_that_is_too_large_names_the_numbers", &[], || {
        let refused = |options: OpenOptions, failing: bool| {
            let device = gpu(CudaConfig::default());
            if failing {
                twin::fail_always("cuMemAlloc", twin::OUT_OF_MEMORY);
            }
            match open(&folder().join("tiny-bf16"), device, &options).map(drop).unwrap_err() {
                ModelError::NoRoom(reason) => reason,
                other => panic!("{other}"),
            }
        };
        let said = refused(OpenOptions { memory_fraction: 0.01, ..OpenOptions::default() }, false);
        assert!(said.starts_with("the device has no room for KV memory: 68 of its 1073 MB are taken"), "{said}");
        assert!(said.ends_with("a fraction of 0.01 may be taken in all (memory_fraction)"), "{said}");
        let said = refused(OpenOptions { kv_slots: Some(1 << 24), ..OpenOptions::default() }, false);
        assert!(said.contains("KV memory; fewer tokens need less: 1005 of its 1073 MB were free before"), "{said}");
        let said = refused(OpenOptions::default(), true);
        assert!(said.contains("bytes of weights: 1005 of its 1073 MB were free before"), "{said}");
    });
}

#[test]
fn twin_only_memory_is_given_back_though_a_call_fails() {
    twin::in_another_process("failures::twin_only_memory_is_given_back_though_a_call_fails", &[], || {
        let mut device = gpu(CudaConfig::default());
        let live = || twin::count("live allocations");
        let before = live();
        let mut give_back_four = |failing| {
            let four = [0; 4].map(|_| device.allocate(64, Precision::Full).unwrap());
            assert_eq!(live(), before + 4);
            drop(four);
            twin::fail_next(failing, twin::INVALID_VALUE);
            device.memory().unwrap_err();
            let left = live() - before;
            device.memory().unwrap();
            (left, live() - before)
        };
        // Nothing is freed before the device is known to be idle.
        assert_eq!(give_back_four("cuStreamSynchronize"), (4, 0));
        assert_eq!(give_back_four("cuMemFree"), (1, 1));
    });
}

#[test]
fn twin_only_a_failed_call_is_named_and_a_later_one_may_succeed() {
    twin::in_another_process("failures::twin_only_a_failed_call_is_named_and_a_later_one_may_succeed", &[], || {
        let mut device = gpu(CudaConfig::default());
        twin::fail_next("cuLaunchKernel", twin::INVALID_VALUE);
        let x = buffer(&mut device, &[1.0; 64], Precision::Full);
        let mut out = device.allocate(64, Precision::Activation).unwrap();
        let error = device.rms_norm(&x, &x, 0.0, 1, &mut out).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, DeviceError::Driver { call: "cuLaunchKernel", .. }), "{said}");
        assert!(said.contains("rms_norm: CUDA_ERROR_INVALID_VALUE"), "{said}");
        device.rms_norm(&x, &x, 0.0, 1, &mut out).unwrap();
        assert_eq!(read(&mut device, &out, 64), [1.0; 64]);
    });
}

#[test]
fn twin_only_a_lost_device_says_so_to_the_end() {
    twin::in_another_process("failures::twin_only_a_lost_device_says_so_to_the_end", &[], || {
        let mut device = gpu(CudaConfig::default());
        let x = buffer(&mut device, &[1.0; 64], Precision::Full);
        let mut out = device.allocate(64, Precision::Activation).unwrap();
        for status in [twin::ILLEGAL_ADDRESS, 719, 214] {
            twin::break_down(status);
            let check = |error: DeviceError| assert!(matches!(error, DeviceError::Lost { .. }), "{error}");
            check(device.rms_norm(&x, &x, 0.0, 1, &mut out).unwrap_err());
            check(device.read_f32(&x, &mut [0.0]).unwrap_err());
            check(device.allocate(1, Precision::Full).unwrap_err());
            check(device.synchronize().unwrap_err());
        }
        // Nothing of it panics or waits for ever.
        drop((x, out, device));
    });
}

/// Buffers may outlive their device, as they do in a runner.
#[test]
fn buffers_may_outlive_their_device() {
    let mut device = gpu(CudaConfig::default());
    let x = buffer(&mut device, &[1.0; 64], Precision::Full);
    let weight = device.random_weight(8, 8, 1).unwrap();
    drop(device);
    let mut values = vec![0.0; 64];
    std::thread::spawn(move || drop((x, weight))).join().unwrap();
    let mut device = gpu(CudaConfig::default());
    let x = buffer(&mut device, &[2.0; 64], Precision::Full);
    device.read_f32(&x, &mut values).unwrap();
    assert_eq!(values, [2.0; 64]);
}
