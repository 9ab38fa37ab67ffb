//! The CPU twin of a GPU: a stand-in for NVIDIA's driver and for cuBLASLt that runs the project's own kernels, compiled
//! as C++ (`cxx/`, whose headers say what it checks). It is built once into the target folder and loaded into this
//! process before the host looks for the real ones, so that the host's code for GPUs runs unchanged.
//!
//! With `SGLHOST_GPU=real` the machine's own GPU is used instead; tests whose names say `twin_only` then make no sense.

#![allow(unsafe_code, reason = "loading a library, and calling what it exports")]

use std::{
    collections::hash_map::DefaultHasher,
    ffi::{CString, c_char, c_int, c_void},
    hash::{Hash as _, Hasher as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::OnceLock,
};

use cudarc::driver::sys;
use sglhost_device::{CudaConfig, CudaDevice};

/// Errors of the driver, to be planted.
pub(crate) const INVALID_VALUE: c_int = 1;
pub(crate) const OUT_OF_MEMORY: c_int = 2;
pub(crate) const ILLEGAL_ADDRESS: c_int = 700;
/// One of cuBLASLt.
pub(crate) const EXECUTION_FAILED: c_int = 13;

/// Names the order in which threads and blocks run: 0 forwards, 1 backwards, else a seed.
pub(crate) const ORDER: &str = "SGLHOST_TWIN_ORDER";

const COMMON: [&str; 9] = [
    "-std=c++20",
    "-O2",
    "-g1",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
];
/// Kernels alone are checked: what these find is fatal (cxx/undefined.cpp).
const CHECKS: [&str; 2] = ["-fsanitize=alignment,bounds,shift,integer-divide-by-zero", "-fno-sanitize-recover"];
/// Sources that are no part of the driver's library.
const BESIDE: [&str; 2] = ["twin.cpp", "cublaslt.cpp"];

/// Makes the twin this process's driver, unless the real one is asked for.
pub(crate) fn load() {
    is_loaded();
}

/// As [`load`]; says whether it is the twin.
fn is_loaded() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        if std::env::var_os("SGLHOST_GPU").is_some_and(|which| which == "real") {
            return false;
        }
        let folder = build();
        // The names under which the host looks for them first: a library that is loaded is found by its name.
        let driver = open(&folder.join("libcuda.so"));
        open(&folder.join("libcublasLt.so"));
        if let Ok(order) = std::env::var(ORDER) {
            set_order(driver, order.parse().unwrap());
        }
        true
    })
}

/// The GPU with these settings.
pub(crate) fn device(config: CudaConfig) -> CudaDevice {
    load();
    CudaDevice::new(config).unwrap_or_else(|error| panic!("{error}"))
}

/// Lets the next call of this function of the driver, on whatever thread, answer `status`.
pub(crate) fn fail_next(function: &str, status: c_int) {
    let function = CString::new(function).unwrap();
    // SAFETY: the signature is that of cxx/trial.h.
    unsafe { exported::<unsafe extern "C" fn(*const c_char, c_int)>("twin_fail_next")(function.as_ptr(), status) }
}

/// Lets all calls of this function answer `status`; 0: none.
pub(crate) fn fail_always(function: &str, status: c_int) {
    let function = CString::new(function).unwrap();
    // SAFETY: as above.
    unsafe { exported::<unsafe extern "C" fn(*const c_char, c_int)>("twin_fail_always")(function.as_ptr(), status) }
}

/// Lets all calls of the driver answer `status` from now on.
pub(crate) fn break_down(status: c_int) {
    // SAFETY: as above.
    unsafe { exported::<unsafe extern "C" fn(c_int)>("twin_break")(status) }
}

/// Ends the process if a kernel wrote beside what was allocated: the twin sees that.
pub(crate) fn check_memory() {
    if is_loaded() {
        // SAFETY: as above.
        unsafe { exported::<unsafe extern "C" fn()>("twin_check")() }
    }
}

/// Sets an attribute of the device, as `cuDeviceGetAttribute` numbers them.
pub(crate) fn set_attribute(attribute: sys::CUdevice_attribute, value: c_int) {
    // SAFETY: as above.
    unsafe { exported::<unsafe extern "C" fn(c_int, c_int)>("twin_set_attribute")(attribute as c_int, value) }
}

/// How often something happened: see cxx/trial.h.
pub(crate) fn count(what: &str) -> u64 {
    let what = CString::new(what).unwrap();
    // SAFETY: as above.
    unsafe { exported::<unsafe extern "C" fn(*const c_char) -> u64>("twin_count")(what.as_ptr()) }
}

/// Runs `test` in a process of its own, which has nothing to do but this test: for what changes the whole device.
/// `name` is the test's own, with its modules.
pub(crate) fn in_another_process(name: &str, environment: &[(&str, &str)], test: impl FnOnce()) {
    const CHILD: &str = "SGLHOST_TWIN_CHILD";
    if std::env::var_os(CHILD).is_some_and(|child| child == name) {
        return test();
    }
    // What both need is built once.
    load();
    let environment: Vec<(&str, &str)> = environment.iter().copied().chain([(CHILD, name)]).collect();
    let (status, said) = child(&[name, "--exact", "--nocapture"], &environment);
    assert!(status.success(), "{name} in a process of its own: {said}");
    assert!(said.contains("1 passed"), "{name} is no test: {said}");
}

/// Runs this binary of tests with these arguments; how it ended, and what it said.
pub(crate) fn child(arguments: &[&str], environment: &[(&str, &str)]) -> (ExitStatus, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status, said)
}

/// A function that the twin exports for tests.
fn exported<F: Copy>(name: &str) -> F {
    load();
    // SAFETY: callers give the signature of cxx/trial.h; the library stays.
    unsafe { *sys::culib().get::<F>(name.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}")) }
}

unsafe extern "C" {
    fn dlopen(path: *const c_char, mode: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// A library that is loaded.
fn open(library: &Path) -> *mut c_void {
    // RTLD_NOW and RTLD_GLOBAL, as glibc and musl number them.
    const NOW_GLOBAL: c_int = 0x102;
    let path = CString::new(library.as_os_str().as_bytes()).unwrap();
    // SAFETY: the library is our own; its initialisers register kernels.
    let opened = unsafe { dlopen(path.as_ptr(), NOW_GLOBAL) };
    assert!(!opened.is_null(), "{} is not loaded", library.display());
    opened
}

/// Says in which order threads and blocks run: 0 forwards, 1 backwards, or a seed.
fn set_order(driver: *mut c_void, order: u64) {
    // SAFETY: the library exports this function with this signature.
    unsafe {
        let set = dlsym(driver, c"twin_set_order".as_ptr());
        assert!(!set.is_null(), "no twin");
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn(u64)>(set)(order);
    }
}

/// Where the libraries are, for another process to find.
pub(crate) fn folder() -> PathBuf {
    build()
}

/// The kernels' sources: the project's, or those that a test has spoilt.
pub(crate) fn kernels() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/cuda");
    std::env::var_os("SGLHOST_TWIN_KERNELS").map_or_else(own, PathBuf::from)
}

/// Builds the libraries if that was not done for these sources yet; gives their folder.
fn build() -> PathBuf {
    let (cxx, cuda) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda_twin/cxx"), kernels());
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_twin").join(cuda.file_name().unwrap());
    let folder = all.join(format!("{:016x}", hash(&[&cxx, &cuda])));
    if folder.exists() {
        return folder;
    }
    // Another process may do the same at the same time: each builds in a folder of its own, and the first one stays.
    remove_others(&all);
    let new = all.join(format!("new-{}", std::process::id()));
    std::fs::create_dir_all(&new).unwrap();
    let includes = ["-I".as_ref(), cuda.as_os_str(), "-I".as_ref(), cxx.as_os_str()];
    let mut objects = vec![new.join("kernels.o")];
    std::thread::scope(|scope| {
        let mut kernels = compiler();
        kernels.args(["-x", "c++", "-DSGLHOST_TWIN", "-c"]).args(CHECKS).args(includes);
        kernels.arg(cuda.join("kernels.cu")).arg("-o").arg(&objects[0]);
        scope.spawn(move || run(kernels));
        for source in sources(&cxx, &["cpp"]) {
            let name = source.file_name().unwrap().to_string_lossy().into_owned();
            if BESIDE.contains(&&*name) {
                continue;
            }
            let object = new.join(name).with_extension("o");
            let mut command = compiler();
            command.arg("-c").args(includes).arg(&source).arg("-o").arg(&object);
            run(command);
            objects.push(object);
        }
    });
    let library = |name: &str| {
        let mut command = compiler();
        command.args(["-shared", "-Wl,--no-undefined", "-pthread"]).arg(format!("-Wl,-soname,{name}"));
        command.arg("-o").arg(new.join(name));
        command
    };
    let mut driver = library("libcuda.so");
    driver.args(&objects);
    run(driver);
    let mut products = library("libcublasLt.so");
    products.arg("-O3").args(includes).arg(cxx.join("cublaslt.cpp")).arg(new.join("libcuda.so"));
    run(products);
    if std::fs::rename(&new, &folder).is_err() {
        assert!(folder.exists(), "{} cannot be written", folder.display());
        let _ = std::fs::remove_dir_all(&new);
    }
    folder
}

/// Removes what older sources were built to.
fn remove_others(all: &Path) {
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("new-") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn compiler() -> Command {
    let mut command = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    command.args(COMMON);
    command
}

fn run(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{error}: the CPU twin of a GPU is built with a C++ compiler, g++ 12 for instance: {command:?}")
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Of all sources, and of how they are built.
fn hash(folders: &[&Path]) -> u64 {
    let mut hasher = DefaultHasher::new();
    include_str!("twin.rs").hash(&mut hasher);
    std::env::var_os("CXX").hash(&mut hasher);
    for folder in folders {
        for source in sources(folder, &["cpp", "h", "cu", "cuh"]) {
            source.file_name().hash(&mut hasher);
            std::fs::read(source).unwrap().hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Files with these extensions, sorted.
fn sources(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let has = |path: &PathBuf| path.extension().is_some_and(|of| extensions.iter().any(|wanted| of == *wanted));
    let mut sources: Vec<PathBuf> = entries.filter(has).collect();
    sources.sort();
    sources
}
