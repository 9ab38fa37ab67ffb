//! The compiled CUDA kernels, and which of their images a device takes.
//!
//! `cuda/build.py` makes the images out of `cuda/*.cu`. They are committed, so that only who changes a kernel needs a
//! CUDA compiler; the house tests fail while they are older than the sources.
//!
//! *Not here*: loading and launching (`host/device`), what the kernels need of a driver.

/// The kernels, compiled for one kind of device.
#[derive(Clone, Copy)]
pub struct Image {
    /// What they are compiled for, as CUDA's tools name it.
    pub architecture: &'static str,
    /// What `cuModuleLoadData` takes: an ELF file aligned to 16 bytes, or PTX with a zero at its end.
    pub bytes: &'static [u8],
}

/// For every device of compute capability 8.
const SM_80: Image = Image { architecture: "sm_80", bytes: &Aligned(*include_bytes!("../cuda/images/sm_80.cubin")).0 };
/// For 9.0 alone: the `a` stands for instructions that no other device has.
const SM_90A: Image =
    Image { architecture: "sm_90a", bytes: &Aligned(*include_bytes!("../cuda/images/sm_90a.cubin")).0 };
/// For what came later: the driver compiles it.
const COMPUTE_80: Image = Image {
    architecture: "compute_80",
    bytes: concat!(include_str!("../cuda/images/compute_80.ptx"), "\0").as_bytes(),
};

const MANIFEST: &str = include_str!("../cuda/images/manifest.txt");

/// SHA-256, in hexadecimal, of the sources that the images were made from: names one state of the kernels.
pub const SOURCES_SHA256: &str = MANIFEST.split_at("sources ".len()).1.split_at(64).0;

// The driver reads an ELF file's tables where they lie.
#[repr(align(16))]
struct Aligned<Bytes>(Bytes);

/// The image for a device of the compute capability `major.minor`; `None` for one below 8.0, which lacks bf16
/// arithmetic and asynchronous copies.
pub fn image(major: u32, minor: u32) -> Option<Image> {
    match (major, minor) {
        (..8, _) => None,
        (8, _) => Some(SM_80),
        (9, 0) => Some(SM_90A),
        _ => Some(COMPUTE_80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_from_8_0_on_has_an_image() {
        let check = |major, minor, expect| {
            assert_eq!(image(major, minor).map(|image| image.architecture), expect, "{major}.{minor}");
        };
        check(7, 5, None);
        check(8, 0, Some("sm_80"));
        check(8, 6, Some("sm_80"));
        check(8, 9, Some("sm_80"));
        check(9, 0, Some("sm_90a"));
        check(10, 0, Some("compute_80"));
        check(12, 1, Some("compute_80"));
    }

    #[test]
    fn images_are_what_a_driver_loads() {
        for image in [SM_80, SM_90A] {
            assert!(image.bytes.starts_with(b"\x7fELF"), "{}", image.architecture);
            assert_eq!(image.bytes.as_ptr().addr() % 16, 0, "{}", image.architecture);
        }
        assert_eq!(COMPUTE_80.bytes.iter().position(|&byte| byte == 0), Some(COMPUTE_80.bytes.len() - 1));
    }

    #[test]
    fn the_sources_are_named() {
        assert!(MANIFEST.starts_with("sources "));
        assert!(SOURCES_SHA256.bytes().all(|digit| digit.is_ascii_hexdigit()), "{SOURCES_SHA256}");
    }
}
