//! Everything that is read from the environment, in one place and once.
//!
//! *Not here*: what `build` needs of a toolchain, which `build.rs` documents beside its options.

use std::{ffi::OsString, path::PathBuf, time::Duration};

/// Where models, compiled programs and downloads under way live; `SGLHOST_CACHE` by default below the user's cache.
pub(crate) const CACHE: &str = "SGLHOST_CACHE";
/// Where a server keeps programs, tenants and runs; by default below the user's data.
const DATA: &str = "SGLHOST_DATA";
/// The model of `run` when no `--model` is given.
const MODEL: &str = "SGLHOST_MODEL";
/// The device of `run` when no `--device` is given.
const DEVICE: &str = "SGLHOST_DEVICE";
/// Another hub than the public one, as Hugging Face's own tools name it.
const HUB_ENDPOINT: &str = "HF_ENDPOINT";
/// A token for the hub, as Hugging Face's own tools name it.
const HUB_TOKEN: &str = "HF_TOKEN";
/// The server of commands that speak to one, when no `--server` is given.
pub(crate) const SERVER: &str = "SGLHOST_SERVER";
/// The key that a server asks for, when no `--key-file` is given. Never a flag: everybody sees a process's flags.
pub(crate) const KEY: &str = "SGLHOST_KEY";
/// When this process started itself again after it lost its device, in seconds since the Unix epoch: from itself, to
/// itself.
pub(crate) const RESTARTED: &str = "SGLHOST_RESTARTED";
/// The public hub of model repositories.
const DEFAULT_HUB_ENDPOINT: &str = "https://huggingface.co";

/// What the environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// The cache folder.
    pub(crate) cache: PathBuf,
    /// When this process started itself again, if it did.
    pub(crate) restarted_at: Option<Duration>,
    /// The data folder of `serve` and `tenant` when no flag names one.
    pub(crate) data: PathBuf,
    /// The model to use when no flag names one.
    pub(crate) model: Option<String>,
    /// The device to use when no flag names one.
    pub(crate) device: Option<String>,
    /// No colours where none are asked for (the convention of no-color.org).
    pub(crate) no_color: bool,
    /// The hub that `org/name` is looked up in.
    pub(crate) hub: HubSettings,
    /// The server to speak to when no flag names one.
    pub(crate) server: Option<String>,
    /// The key to show it when no flag names one.
    pub(crate) key: Option<Secret>,
}

/// A text that has no business in a log.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// How to reach a hub of model repositories.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct HubSettings {
    /// Without a slash at its end.
    pub(crate) endpoint: String,
    /// Sent as a bearer token to the endpoint, never to where it redirects.
    pub(crate) token: Option<String>,
}

impl std::fmt::Debug for HubSettings {
    /// Without the token, which has no business in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubSettings").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads the process's environment.
    pub(crate) fn read() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        // An empty variable is one that is not set, as the XDG specification asks.
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().into_owned());
        let cache = set(CACHE)
            .map(PathBuf::from)
            .or_else(|| set("XDG_CACHE_HOME").map(|folder| PathBuf::from(folder).join("sglhost")))
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache/sglhost")))
            // A service without a home still works; what it downloads is then gone with its temporary folder.
            .unwrap_or_else(|| std::env::temp_dir().join("sglhost"));
        let data = set(DATA)
            .map(PathBuf::from)
            .or_else(|| set("XDG_DATA_HOME").map(|folder| PathBuf::from(folder).join("sglhost")))
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/share/sglhost")))
            // What must not be lost does not go to a temporary folder.
            .unwrap_or_else(|| PathBuf::from("sglhost-data"));
        let endpoint = text(HUB_ENDPOINT).unwrap_or_else(|| DEFAULT_HUB_ENDPOINT.to_owned());
        Self {
            cache,
            data,
            restarted_at: text(RESTARTED).and_then(|text| text.parse().ok()).map(Duration::from_secs),
            model: text(MODEL),
            device: text(DEVICE),
            no_color: set("NO_COLOR").is_some(),
            server: text(SERVER),
            key: text(KEY).map(Secret),
            hub: HubSettings { endpoint: endpoint.trim_end_matches('/').to_owned(), token: text(HUB_TOKEN) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_cache(variables: &[(&str, &str)], expect: &str) {
        let environment = Environment::from_lookup(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        });
        assert_eq!(environment.cache, PathBuf::from(expect), "{variables:?}");
    }

    #[test]
    fn the_cache_is_where_the_variables_say() {
        check_cache(&[("HOME", "/home/a")], "/home/a/.cache/sglhost");
        check_cache(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/x")], "/x/sglhost");
        check_cache(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "")], "/home/a/.cache/sglhost");
        check_cache(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/x"), ("SGLHOST_CACHE", "/y")], "/y");
    }

    #[test]
    fn the_endpoint_loses_its_last_slash_and_no_secret_is_printed() {
        let environment = Environment::from_lookup(|name| match name {
            "HF_ENDPOINT" => Some("http://127.0.0.1:1/".into()),
            "HF_TOKEN" | "SGLHOST_KEY" => Some("secret".into()),
            _ => None,
        });
        assert_eq!(environment.hub.endpoint, "http://127.0.0.1:1");
        assert_eq!(environment.hub.token.as_deref(), Some("secret"));
        assert_eq!(environment.key, Some(Secret("secret".to_owned())));
        assert!(!format!("{environment:?}").contains("secret"));
    }
}
