//! Fetches a repository of a Hugging Face hub: the files that a model is made of, with the digests the hub gives.

use std::{fs, path::PathBuf, time::Duration};

use serde::Deserialize;
use ureq::Agent;

use super::{
    ModelStore, ModelStoreError, RepositoryName,
    download::{RemoteFile, explain, fetch_file},
    progress::Progress,
};
use crate::{environment::HubSettings, interrupt::Interrupt};

/// A hub that does not take a connection by then is told to the user as one that cannot be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A hub's answer about a repository of ten thousand files is about 2 MB.
const METADATA_BYTES_MAX: u64 = 32 << 20;

/// A hub, and a connection to it.
#[derive(Debug)]
pub(crate) struct Hub {
    settings: HubSettings,
    agent: Agent,
}

/// What a hub says of a repository at one revision.
#[derive(Debug, Deserialize)]
struct Metadata {
    /// The commit that the revision stands for.
    sha: String,
    siblings: Vec<Sibling>,
}

/// A file of a repository.
#[derive(Clone, Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LargeFile>,
}

/// A large file: those have a SHA-256.
#[derive(Clone, Debug, Deserialize)]
struct LargeFile {
    sha256: String,
}

impl Hub {
    /// No connection is made yet.
    pub(crate) fn new(settings: HubSettings) -> Self {
        let configuration = Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("sglhost/", env!("CARGO_PKG_VERSION")));
        Self { settings, agent: configuration.build().into() }
    }

    /// Fetches `repository` to the store and gives its folder. `file` chooses one of several GGUF files. A repository
    /// that is there is given as it is. Blocks.
    ///
    /// # Errors
    /// The hub cannot be reached, does not have it or shows it to nobody without a token; no model in it; several GGUF
    /// files and none chosen.
    pub(crate) fn fetch(
        &self,
        repository: &RepositoryName,
        file: Option<&str>,
        store: &ModelStore,
        interrupt: &Interrupt,
    ) -> Result<PathBuf, ModelStoreError> {
        let destination = store.repository_path(repository);
        let staging = store.stage(&repository.folder_name(), interrupt)?;
        if file.map_or(destination.exists(), |file| destination.join(file).exists()) {
            return Ok(destination);
        }
        let metadata = self.metadata(repository)?;
        let files = choose(&metadata.siblings, file).map_err(|reason| fetch_error(repository, reason))?;
        let total = files.iter().filter_map(|file| file.size).sum();
        let progress = Progress::new(&format!("fetching {repository}"), total);
        for file in files {
            let path = staging.folder().join(&file.rfilename);
            if path.exists() {
                progress.advance(file.size.unwrap_or(0));
                continue;
            }
            let remote = self.remote_file(repository, &metadata.sha, &file);
            fetch_file(&self.agent, &remote, &path, &progress, interrupt)?;
        }
        drop(progress);
        if destination.exists() {
            // Another GGUF file of a repository that is here already: it joins the others.
            for entry in fs::read_dir(staging.folder()).map_err(ModelStoreError::io(staging.folder()))?.flatten() {
                let path = destination.join(entry.file_name());
                fs::rename(entry.path(), &path).map_err(ModelStoreError::io(&path))?;
            }
        } else {
            fs::rename(staging.folder(), &destination).map_err(ModelStoreError::io(&destination))?;
        }
        Ok(destination)
    }

    fn metadata(&self, repository: &RepositoryName) -> Result<Metadata, ModelStoreError> {
        let endpoint = &self.settings.endpoint;
        let RepositoryName { owner, name, revision } = repository;
        let revision = revision.as_deref().unwrap_or("main");
        let mut request =
            self.agent.get(format!("{endpoint}/api/models/{owner}/{name}/revision/{revision}?blobs=true"));
        if let Some(authorization) = self.authorization() {
            request = request.header("authorization", authorization);
        }
        let mut response = request.call().map_err(|error| {
            let reason = match error {
                ureq::Error::StatusCode(_) => explain(&error),
                _ => format!("the hub {endpoint} cannot be reached: {error} (HF_ENDPOINT names another hub)"),
            };
            fetch_error(repository, reason)
        })?;
        let body = response.body_mut().with_config().limit(METADATA_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| fetch_error(repository, explain(&error)))?;
        serde_json::from_slice(&body).map_err(|error| {
            fetch_error(repository, format!("{endpoint} gave no description of a repository: {error}"))
        })
    }

    fn remote_file(&self, repository: &RepositoryName, commit: &str, file: &Sibling) -> RemoteFile {
        let RepositoryName { owner, name, .. } = repository;
        RemoteFile {
            name: format!("{} of {repository}", file.rfilename),
            url: format!("{}/{owner}/{name}/resolve/{commit}/{}", self.settings.endpoint, file.rfilename),
            authorization: self.authorization(),
            bytes: file.size,
            sha256: file.lfs.as_ref().map(|large| large.sha256.to_lowercase()),
        }
    }

    fn authorization(&self) -> Option<String> {
        self.settings.token.as_ref().map(|token| format!("Bearer {token}"))
    }
}

fn fetch_error(repository: &RepositoryName, reason: String) -> ModelStoreError {
    ModelStoreError::Fetch { what: format!("the model {repository}"), reason }
}

/// The files that make up the model: a chosen GGUF, the only GGUF, or configuration, tokenizer and safetensors.
fn choose(files: &[Sibling], wanted: Option<&str>) -> Result<Vec<Sibling>, String> {
    // Files in folders are other forms of the same model. A name with a separator could also leave the staging folder.
    let top_level = || files.iter().filter(|file| !file.rfilename.contains(['/', '\\']) && file.rfilename != "..");
    let ends_with = |end: &'static str| top_level().filter(move |file| file.rfilename.ends_with(end));
    if let Some(wanted) = wanted {
        let file = top_level().find(|file| file.rfilename == wanted);
        return file.map(|file| vec![file.clone()]).ok_or_else(|| {
            let names: Vec<_> = ends_with(".gguf").map(|file| file.rfilename.as_str()).collect();
            format!("it has no file {wanted}; its GGUF files are: {}", names.join(", "))
        });
    }
    if ends_with(".safetensors").next().is_none() {
        let files: Vec<_> = ends_with(".gguf").cloned().collect();
        return match files.len() {
            0 => Err("it has neither safetensors nor GGUF files".to_owned()),
            1 => Ok(files),
            _ => {
                let names: Vec<_> = files.iter().map(|file| file.rfilename.as_str()).collect();
                Err(format!("it has several GGUF files; choose one with `--file`: {}", names.join(", ")))
            }
        };
    }
    // Some repositories carry the weights twice; the ones that transformers reads begin with "model".
    let named_model = |name: &str| name.starts_with("model") && name.ends_with(".safetensors");
    let has_named_model = top_level().any(|file| named_model(&file.rfilename));
    let belongs = |name: &str| {
        let weights = if has_named_model { named_model(name) } else { name.ends_with(".safetensors") };
        let description = ["config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json"]
            .contains(&name)
            || name.starts_with("tokenizer")
            || ["vocab.json", "merges.txt", "chat_template.json", "chat_template.jinja"].contains(&name)
            || name.ends_with(".safetensors.index.json");
        weights || description
    };
    Ok(top_level().filter(|file| belongs(&file.rfilename)).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[&str], wanted: Option<&str>, expect: Result<&[&str], &str>) {
        let siblings: Vec<_> =
            files.iter().map(|name| Sibling { rfilename: (*name).to_owned(), size: None, lfs: None }).collect();
        let chosen = choose(&siblings, wanted);
        match (chosen, expect) {
            (Ok(chosen), Ok(expect)) => {
                assert_eq!(chosen.iter().map(|file| file.rfilename.as_str()).collect::<Vec<_>>(), expect);
            }
            (Err(reason), Err(expect)) => assert_eq!(reason, expect),
            (chosen, expect) => panic!("{files:?}: {chosen:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn the_files_of_a_model() {
        check(
            &[
                "README.md",
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "onnx/model.onnx",
                "consolidated.safetensors",
            ],
            None,
            Ok(&["config.json", "model.safetensors", "tokenizer.json"]),
        );
        check(
            &["config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"],
            None,
            Ok(&["config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"]),
        );
        check(&["a.gguf", "README.md"], None, Ok(&["a.gguf"]));
        check(&["a.gguf", "b.gguf"], Some("b.gguf"), Ok(&["b.gguf"]));
        check(&["a.gguf", "b.gguf"], None, Err("it has several GGUF files; choose one with `--file`: a.gguf, b.gguf"));
        check(&["a.gguf"], Some("../a"), Err("it has no file ../a; its GGUF files are: a.gguf"));
        check(&["x/../../model.safetensors"], None, Err("it has neither safetensors nor GGUF files"));
    }
}
