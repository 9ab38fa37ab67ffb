//! Products by cuBLASLt, where the machine has it.
//!
//! The library is column-major: a row-major `[rows, n]` is its `[n, rows]`. So `out = x Wᵀ` is to it `out = op(W) x`
//! with W stored as `[k, n]` and transposed. f32 sums; a product that is split over k is summed in f32, in a fixed
//! order.
//!
//! Which of its algorithms is the fastest for a kind of product is measured when such a product is first launched, and
//! remembered. Where measuring is impossible (while a pass is recorded) it is the one that the library thinks best.
//!
//! An algorithm that fails is given up for good, and the next one takes its place; without any left, the kind of product
//! is not the library's any more. While a pass is recorded the recording may be what fails: then that is given up.

#![allow(unsafe_code, reason = "calls of the library")]

use std::{
    collections::{HashMap, HashSet},
    ffi::c_void,
    path::Path,
    sync::Arc,
};

use cudarc::{
    cublaslt::{
        result::{self, CublasError},
        sys::{
            self, cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
            cublasLtMatmulDescAttributes_t as DescAttribute, cublasLtMatmulHeuristicResult_t,
            cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute,
            cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t as LayoutAttribute, cudaDataType_t,
        },
    },
    driver::sys as driver_sys,
};

use super::{
    context::{Context, Event},
    driver::check,
    memory::{DeviceMemory, Pointer},
    plans::{AlgorithmBits, PlanFile, ProductKind, rows_class},
    probe::GpuInfo,
};
use crate::DeviceError;

/// What algorithms may use beside their matrices: cuBLAS itself takes 32 MiB on Hopper. As large as a second-level
/// cache, so that writing it empties one.
const WORKSPACE_BYTES: usize = 64 << 20;
/// `CUBLAS_OP_T` of `cublasOperation_t`.
const TRANSPOSED: i32 = 1;
/// Algorithms that are measured.
const CANDIDATES: usize = 8;
/// How often each is measured; the shortest time counts.
const RUNS: usize = 3;
/// A product that takes longer is measured once.
const LONG_MS: f32 = 2.0;

/// A product `out = x Wᵀ (+ bias)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    /// `[n, k]`.
    pub(super) weight: Pointer,
    /// `[n]`.
    pub(super) bias: Option<Pointer>,
    /// `[rows, k]`.
    pub(super) x: Pointer,
    /// `[rows, n]`.
    pub(super) out: Pointer,
    pub(super) rows: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    /// Whether `out` is f32.
    pub(super) full: bool,
}

/// The library, with its plans.
#[derive(Debug)]
pub(super) struct Lt {
    context: Arc<Context>,
    preference: Preference,
    workspace: DeviceMemory,
    version: usize,
    /// None for what the library cannot do.
    plans: HashMap<ProductKind, Option<Plan>>,
    /// Algorithms that failed.
    failed: HashSet<(ProductKind, AlgorithmBits)>,
    file: PlanFile,
    clock: [Event; 2],
    /// What has to be written so that nothing of a product is left in the second-level cache.
    cache_bytes: usize,
    /// After the plans, which were made with it.
    handle: Handle,
}

/// The library, or why there is none.
#[derive(Debug)]
pub(super) enum Found {
    /// Ready.
    Lt(Box<Lt>),
    /// The machine has none.
    Nothing,
    /// It does not work here; what it said.
    Refused(String),
}

// SAFETY: handles may be used from any thread, from one at a time.
unsafe impl Send for Lt {}

impl Lt {
    /// Looks for the library. Plans are kept in `folder`.
    pub(super) fn find(context: &Arc<Context>, gpu: &GpuInfo, folder: Option<&Path>) -> Result<Found, DeviceError> {
        // SAFETY: looks for the library. Every other call below would panic without it.
        if !unsafe { sys::is_culib_present() } {
            return Ok(Found::Nothing);
        }
        context.enter()?;
        // One that wants a newer driver refuses here.
        let handle = match result::create_handle() {
            Ok(handle) => Handle(handle),
            Err(CublasError(status)) => return Ok(Found::Refused(format!("{status:?}"))),
        };
        // SAFETY: asks for a number.
        let version = unsafe { sys::cublasLtGetVersion() };
        Ok(Found::Lt(Box::new(Self {
            context: Arc::clone(context),
            preference: Preference::new()?,
            workspace: DeviceMemory::new(context, WORKSPACE_BYTES, "the workspace of products")?,
            version,
            plans: HashMap::new(),
            failed: HashSet::new(),
            file: PlanFile::open(folder, gpu, version),
            clock: [Event::new(context, true)?, Event::new(context, true)?],
            cache_bytes: gpu.cache_bytes.min(WORKSPACE_BYTES),
            handle,
        })))
    }

    /// "13.1": its version.
    pub(super) fn version(&self) -> String {
        format!("{}.{}", self.version / 10_000, self.version % 10_000 / 100)
    }

    /// Launches the product; false if the library cannot do it.
    pub(super) fn launch(&mut self, product: &Product) -> Result<bool, DeviceError> {
        let &Product { n, k, rows, full, bias, .. } = product;
        let kind = ProductKind { n, k, rows: rows_class(rows), full, bias: bias.is_some() };
        let capturing = self.context.is_capturing();
        // Each turn but the last gives an algorithm up.
        loop {
            let known = self.plans.get(&kind).map(|plan| plan.as_ref().map(|plan| plan.measured));
            match known {
                Some(None) => return Ok(false),
                Some(Some(measured)) if measured || capturing => {}
                Some(Some(_)) | None => {
                    let plan = self.plan(kind, product, !capturing)?;
                    self.plans.insert(kind, plan);
                }
            }
            let Some(Some(plan)) = self.plans.get_mut(&kind) else { return Ok(false) };
            if plan.rows != rows {
                plan.resize(rows)?;
                plan.algorithm = match plan.accepts(self.handle.0, &plan.chosen) {
                    true => Some(plan.chosen),
                    false => plan.candidates(self.handle.0, &self.preference, &kind, &self.failed).first().copied(),
                };
            }
            let Some(algorithm) = plan.algorithm else { return Ok(false) };
            plan.point_to(bias)?;
            let launched = plan.launch(self.handle.0, product, &algorithm, &self.workspace, &self.context);
            match launched.map_err(fail("cublasLtMatmul")) {
                Ok(()) => return Ok(true),
                Err(error) if capturing => return Err(error),
                Err(error) => self.give_up(kind, &algorithm, &error)?,
            }
            self.plans.remove(&kind);
        }
    }

    /// Writes new plans to their file.
    pub(super) fn save(&mut self) {
        self.file.save();
    }

    /// A plan for a kind of product; none if there is no algorithm.
    fn plan(&mut self, kind: ProductKind, product: &Product, measure: bool) -> Result<Option<Plan>, DeviceError> {
        let mut plan = Plan::new(product)?;
        let remembered = self.file.get(&kind).map(|data| cublasLtMatmulAlgo_t { data });
        if let Some(algorithm) = remembered.filter(|algorithm| plan.accepts(self.handle.0, algorithm)) {
            plan.choose(algorithm, true);
            return Ok(Some(plan));
        }
        let candidates = plan.candidates(self.handle.0, &self.preference, &kind, &self.failed);
        let chosen =
            if measure { self.fastest(kind, &plan, product, &candidates)? } else { candidates.first().copied() };
        let Some(chosen) = chosen else { return Ok(None) };
        plan.choose(chosen, measure);
        if measure {
            self.file.insert(kind, chosen.data);
        }
        Ok(Some(plan))
    }

    /// The algorithm that takes the shortest; none if none works.
    fn fastest(
        &mut self,
        kind: ProductKind,
        plan: &Plan,
        product: &Product,
        candidates: &[cublasLtMatmulAlgo_t],
    ) -> Result<Option<cublasLtMatmulAlgo_t>, DeviceError> {
        let mut best = (f32::INFINITY, None);
        for algorithm in candidates {
            match self.shortest(plan, product, algorithm) {
                Ok(time) if time < best.0 => best = (time, Some(*algorithm)),
                Ok(_) => {}
                Err(lost @ DeviceError::Lost { .. }) => return Err(lost),
                Err(error) => self.give_up(kind, algorithm, &error)?,
            }
        }
        Ok(best.1)
    }

    /// Remembers that an algorithm failed. An error if what failed is the device.
    fn give_up(
        &mut self,
        kind: ProductKind,
        algorithm: &cublasLtMatmulAlgo_t,
        error: &DeviceError,
    ) -> Result<(), DeviceError> {
        self.context.synchronize()?;
        if self.failed.is_empty() {
            let ProductKind { n, k, rows, .. } = kind;
            tracing::warn!(
                "a product of {rows} rows by {n} x {k}: {error}; another algorithm or an own kernel computes it from now \
                 on, and others that fail are not told of"
            );
        }
        self.failed.insert((kind, algorithm.data));
        self.file.remove(&kind);
        Ok(())
    }

    /// Milliseconds of the shortest of some runs.
    fn shortest(&self, plan: &Plan, product: &Product, algorithm: &cublasLtMatmulAlgo_t) -> Result<f32, DeviceError> {
        // The first run loads the kernel.
        plan.launch(self.handle.0, product, algorithm, &self.workspace, &self.context)
            .map_err(fail("cublasLtMatmul"))?;
        let mut shortest = f32::INFINITY;
        for _ in 0..RUNS {
            shortest = shortest.min(self.time(plan, product, algorithm)?);
            if shortest > LONG_MS {
                break;
            }
        }
        Ok(shortest)
    }

    /// Milliseconds that a product takes whose weight comes from memory, as it does in a pass.
    fn time(&self, plan: &Plan, product: &Product, algorithm: &cublasLtMatmulAlgo_t) -> Result<f32, DeviceError> {
        let [start, end] = &self.clock;
        // SAFETY: the workspace is as large; what it holds is of no use between products.
        let result = unsafe {
            let to = self.workspace.pointer().0;
            driver_sys::cuMemsetD8Async(to, 0, self.cache_bytes, self.context.stream())
        };
        check("cuMemsetD8Async", result)?;
        start.record()?;
        plan.launch(self.handle.0, product, algorithm, &self.workspace, &self.context)
            .map_err(fail("cublasLtMatmul"))?;
        end.record()?;
        end.wait()?;
        end.milliseconds_since(start)
    }
}

impl Drop for Lt {
    fn drop(&mut self) {
        self.save();
        // What it launched may be in flight.
        let _ = self.context.synchronize();
    }
}

/// The library's own state.
#[derive(Debug)]
struct Handle(cublasLtHandle_t);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is ours.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// A kind of product as the library wants it described, and how it is computed.
#[derive(Debug)]
struct Plan {
    description: Description,
    weight: Layout,
    x: Layout,
    out: Layout,
    /// Rows that the layouts say.
    rows: usize,
    /// The algorithm of the kind.
    chosen: cublasLtMatmulAlgo_t,
    /// The one for these rows; none if there is none.
    algorithm: Option<cublasLtMatmulAlgo_t>,
    /// Whether `chosen` is the fastest that was measured.
    measured: bool,
}

impl Plan {
    fn new(product: &Product) -> Result<Self, DeviceError> {
        let &Product { n, k, rows, full, bias, .. } = product;
        let out_type = if full { cudaDataType_t::CUDA_R_32F } else { cudaDataType_t::CUDA_R_16BF };
        let description = Description::new()?;
        description.set(DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA, &TRANSPOSED)?;
        if bias.is_some() {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            description.set(DescAttribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        }
        let plan = Self {
            description,
            weight: Layout::new(cudaDataType_t::CUDA_R_16BF, k, n)?,
            x: Layout::new(cudaDataType_t::CUDA_R_16BF, k, rows)?,
            out: Layout::new(out_type, n, rows)?,
            rows,
            chosen: cublasLtMatmulAlgo_t { data: [0; 8] },
            algorithm: None,
            measured: false,
        };
        plan.point_to(bias)?;
        Ok(plan)
    }

    fn choose(&mut self, algorithm: cublasLtMatmulAlgo_t, measured: bool) {
        self.chosen = algorithm;
        self.algorithm = Some(algorithm);
        self.measured = measured;
    }

    /// Makes the layouts those of so many rows.
    fn resize(&mut self, rows: usize) -> Result<(), DeviceError> {
        self.x.set_columns(rows)?;
        self.out.set_columns(rows)?;
        self.rows = rows;
        Ok(())
    }

    fn point_to(&self, bias: Option<Pointer>) -> Result<(), DeviceError> {
        match bias {
            Some(Pointer(bias)) => self.description.set(DescAttribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias),
            None => Ok(()),
        }
    }

    /// The algorithms that the library thinks best, the best first, without those that failed.
    fn candidates(
        &self,
        handle: cublasLtHandle_t,
        preference: &Preference,
        kind: &ProductKind,
        failed: &HashSet<(ProductKind, AlgorithmBits)>,
    ) -> Vec<cublasLtMatmulAlgo_t> {
        let mut results = [unanswered(cublasLtMatmulAlgo_t { data: [0; 8] }); CANDIDATES];
        let mut found = 0;
        // SAFETY: all handles live; the library writes at most `CANDIDATES` results.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle,
                self.description.0,
                self.weight.0,
                self.x.0,
                self.out.0,
                self.out.0,
                preference.0,
                CANDIDATES as i32,
                results.as_mut_ptr(),
                &raw mut found,
            )
        };
        if status.result().is_err() {
            return Vec::new();
        }
        let results = results.iter().take(found as usize);
        let works = results.filter(|result| result.state.result().is_ok()).map(|result| result.algo);
        works.filter(|algorithm| !failed.contains(&(*kind, algorithm.data))).collect()
    }

    /// Whether the library takes the algorithm for these layouts, in the workspace there is.
    fn accepts(&self, handle: cublasLtHandle_t, algorithm: &cublasLtMatmulAlgo_t) -> bool {
        let mut checked = unanswered(*algorithm);
        // SAFETY: all handles live; the library writes one result.
        let status = unsafe {
            sys::cublasLtMatmulAlgoCheck(
                handle,
                self.description.0,
                self.weight.0,
                self.x.0,
                self.out.0,
                self.out.0,
                algorithm,
                &raw mut checked,
            )
        };
        status.result().is_ok() && checked.workspaceSize <= WORKSPACE_BYTES
    }

    fn launch(
        &self,
        handle: cublasLtHandle_t,
        product: &Product,
        algorithm: &cublasLtMatmulAlgo_t,
        workspace: &DeviceMemory,
        context: &Context,
    ) -> Result<(), CublasError> {
        let (one, zero) = (1.0_f32, 0.0_f32);
        let address = |pointer: Pointer| pointer.0 as *const c_void;
        // SAFETY: all handles live, and the layouts are those of the matrices, whose sizes the caller has checked.
        unsafe {
            result::matmul(
                handle,
                self.description.0,
                (&raw const one).cast(),
                (&raw const zero).cast(),
                address(product.weight),
                self.weight.0,
                address(product.x),
                self.x.0,
                address(product.out),
                self.out.0,
                address(product.out).cast_mut(),
                self.out.0,
                algorithm,
                address(workspace.pointer()).cast_mut(),
                workspace.bytes(),
                context.stream().cast(),
            )
        }
    }
}

/// What the library writes its answer about an algorithm over.
fn unanswered(algo: cublasLtMatmulAlgo_t) -> cublasLtMatmulHeuristicResult_t {
    let state = sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED;
    cublasLtMatmulHeuristicResult_t { algo, workspaceSize: 0, state, wavesCount: 0.0, reserved: [0; 4] }
}

/// A `cublasLtMatmulDesc_t`.
#[derive(Debug)]
struct Description(cublasLtMatmulDesc_t);

impl Description {
    fn new() -> Result<Self, DeviceError> {
        let (compute, scale) = (cublasComputeType_t::CUBLAS_COMPUTE_32F, cudaDataType_t::CUDA_R_32F);
        Ok(Self(result::create_matmul_desc(compute, scale).map_err(fail("cublasLtMatmulDescCreate"))?))
    }

    fn set<T>(&self, attribute: DescAttribute, value: &T) -> Result<(), DeviceError> {
        let from = std::ptr::from_ref(value).cast();
        // SAFETY: the handle lives; the value is of the attribute's type, as the callers above write it.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, from, size_of::<T>()) }
            .map_err(fail("cublasLtMatmulDescSetAttribute"))
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: the handle is ours.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// A `cublasLtMatrixLayout_t` without gaps.
#[derive(Debug)]
struct Layout(cublasLtMatrixLayout_t);

impl Layout {
    fn new(element: cudaDataType_t, rows: usize, columns: usize) -> Result<Self, DeviceError> {
        let made = result::create_matrix_layout(element, rows as u64, columns as u64, rows as i64);
        Ok(Self(made.map_err(fail("cublasLtMatrixLayoutCreate"))?))
    }

    fn set_columns(&self, columns: usize) -> Result<(), DeviceError> {
        let columns = columns as u64;
        let (attribute, from) = (LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_COLS, (&raw const columns).cast());
        // SAFETY: the handle lives; the attribute is a u64.
        unsafe { result::set_matrix_layout_attribute(self.0, attribute, from, size_of::<u64>()) }
            .map_err(fail("cublasLtMatrixLayoutSetAttribute"))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: the handle is ours.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// A `cublasLtMatmulPreference_t`: the workspace there is, and f32 for what is split over k.
#[derive(Debug)]
struct Preference(cublasLtMatmulPreference_t);

impl Preference {
    fn new() -> Result<Self, DeviceError> {
        let made = Self(result::create_matmul_pref().map_err(fail("cublasLtMatmulPreferenceCreate"))?);
        made.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(WORKSPACE_BYTES as u64))?;
        // Not in the type of the result, which may be bf16, nor in place, which depends on who comes first.
        let schemes = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        made.set(PreferenceAttribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes)?;
        Ok(made)
    }

    fn set<T>(&self, attribute: PreferenceAttribute, value: &T) -> Result<(), DeviceError> {
        let from = std::ptr::from_ref(value).cast();
        // SAFETY: the handle lives; the value is of the attribute's type, as the callers above write it.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, from, size_of::<T>()) }
            .map_err(fail("cublasLtMatmulPreferenceSetAttribute"))
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: the handle is ours.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

/// The library's errors are no more than that: what the GPU is lost to shows in the driver's next answer.
fn fail(call: &'static str) -> impl Fn(CublasError) -> DeviceError {
    move |CublasError(status)| DeviceError::Driver { call, reason: format!("{status:?}") }
}
