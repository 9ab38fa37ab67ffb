//! Where a model computes: the device that was asked for, or the best one here.

use sglhost_device::{
    CpuConfig, CpuDevice,
    cuda::{self, CudaConfig, CudaDevice, GpuInfo},
};

use crate::{config::ModelConfig, failure::Failure, flags::DeviceChoice};

/// The GPU to use, if one is to be used. Where there is none and nobody insists, that is said in a line.
///
/// # Errors
/// `--device cuda` on a machine that cannot.
pub(crate) fn gpu(choice: DeviceChoice) -> Result<Option<GpuInfo>, Failure> {
    let found = match choice {
        DeviceChoice::Cpu => return Ok(None),
        DeviceChoice::Auto | DeviceChoice::Cuda => cuda::probe(),
    };
    match (found, choice) {
        (Ok(gpu), _) => Ok(Some(gpu)),
        (Err(reason), DeviceChoice::Cuda) => Err(Failure::Usage(format!("--device cuda: {reason}"))),
        (Err(reason), _) => {
            eprintln!("note: computing on the CPU: {reason}");
            Ok(None)
        }
    }
}

/// The GPU as a device.
///
/// # Errors
/// Another process has it, or it failed.
pub(crate) fn cuda(config: &ModelConfig, gpu: &GpuInfo) -> Result<CudaDevice, Failure> {
    let plans = Some(config.plans.clone());
    let settings = CudaConfig { deterministic: config.deterministic, plans, ..CudaConfig::default() };
    CudaDevice::new(settings).map_err(|error| Failure::Other(format!("{}: {error}", gpu.name)))
}

/// The CPU as a device.
pub(crate) fn cpu(config: &ModelConfig) -> CpuDevice {
    let default = CpuConfig::default();
    CpuDevice::new(CpuConfig { threads: config.threads.unwrap_or(default.threads), ..default })
}
