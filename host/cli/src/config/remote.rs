//! What `run` was asked to do on a server, and which server any command speaks to.

use std::path::Path;

use serde_json::{Map, Value, json};
use sglhost_store::ProgramReference;

use super::{Mode, sampling};
use crate::{
    client::{Address, Client, DEFAULT_ADDRESS},
    command::remote::reference,
    environment::{Environment, KEY, Secret},
    failure::Failure,
    flags::{RunFlags, SamplingFlags},
};

/// What `run` does, on a server.
#[derive(Debug)]
pub(crate) struct RemoteRunConfig {
    /// The server.
    pub(crate) client: Client,
    /// What another command must be given to speak to it too; empty, if the environment says it.
    pub(crate) server_flag: String,
    /// Which of its programs.
    pub(crate) program: ProgramReference,
    /// One run or many, and what is printed.
    pub(crate) mode: Mode,
    /// Print figures at the end.
    pub(crate) stats: bool,
    /// Let it go on by itself.
    pub(crate) detach: bool,
    /// `sampling` and `seed` of a request.
    pub(crate) request: Map<String, Value>,
}

impl RemoteRunConfig {
    /// None if the run is to be here.
    ///
    /// # Errors
    /// A flag makes no sense on a server, or has a wrong value.
    pub(crate) fn new(flags: &RunFlags, environment: &Environment) -> Result<Option<Self>, Failure> {
        let named = flags.remote.server.as_deref();
        let (Some(program), Some(_)) = (&flags.program, named.or(environment.server.as_deref())) else {
            return Ok(None);
        };
        if let Some(flag) = flags.local_flags.first() {
            let who = if named.is_some() { "--server" } else { "SGLHOST_SERVER" };
            return Err(Failure::Usage(format!(
                "{flag} is for a run on this machine, and {who} names a server, whose operator chooses model, engine and \
                 limits"
            )));
        }
        Ok(Some(Self {
            client: client(named, flags.remote.key_file.as_deref(), environment)?,
            server_flag: named.map(|server| format!(" --server {server}")).unwrap_or_default(),
            program: reference(program)?,
            mode: Mode::new(flags, environment)?,
            stats: flags.output.stats,
            detach: flags.remote.detach,
            request: request(&flags.sampling)?,
        }))
    }
}

/// A client for the server that is named, by a flag before the environment.
///
/// # Errors
/// The address is none, the key's file cannot be read, or the key would be read by others on the way.
pub(crate) fn client(
    server: Option<&str>,
    key_file: Option<&Path>,
    environment: &Environment,
) -> Result<Client, Failure> {
    let server = server.or(environment.server.as_deref()).unwrap_or(DEFAULT_ADDRESS);
    let address: Address = server.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    let key = match key_file {
        Some(path) => Some((format!("--key-file {}", path.display()), read_key(path)?)),
        None => environment.key.clone().map(|key| (KEY.to_owned(), key)),
    };
    let Some((from, Secret(key))) = key else { return Ok(Client::new(address, None)) };
    let key = key.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Usage(format!("{from} holds no key: a key is one word, as in sgl_…")));
    }
    if !address.is_private() {
        return Err(Failure::Usage(format!(
            "{address} is reached in the clear, where others could read the key; use https://, or a tunnel to a port of \
             this machine"
        )));
    }
    Ok(Client::new(address, Some(Secret(key.to_owned()))))
}

fn read_key(path: &Path) -> Result<Secret, Failure> {
    let failure = |error| Failure::Io { path: format!("--key-file {}", path.display()), error };
    std::fs::read_to_string(path).map(Secret).map_err(failure)
}

/// What flags say, and nothing else: the rest is the server's.
fn request(flags: &SamplingFlags) -> Result<Map<String, Value>, Failure> {
    // For its messages alone.
    sampling(flags)?;
    let given = json!({
        "temperature": flags.temperature,
        "max_tokens": flags.max_tokens,
        "top_p": flags.top_p,
        "top_k": flags.top_k,
        "min_p": flags.min_p,
        "frequency_penalty": flags.frequency_penalty,
        "presence_penalty": flags.presence_penalty,
        "repetition_penalty": flags.repetition_penalty,
        "ignore_eos": flags.ignore_eos.then_some(true),
    });
    let mut request = Map::new();
    if let Value::Object(given) = given {
        let given: Map<_, _> = given.into_iter().filter(|(_, value)| !value.is_null()).collect();
        if !given.is_empty() {
            request.insert("sampling".to_owned(), Value::Object(given));
        }
    }
    if let Some(seed) = flags.seed {
        request.insert("seed".to_owned(), Value::from(seed));
    }
    Ok(request)
}
