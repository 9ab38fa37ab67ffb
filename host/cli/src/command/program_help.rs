//! `sglhost run PROGRAM --help`: the host's options, and under them the program's own arguments.

use clap::{Arg, ArgAction, Command};
use sglhost_core::limits::RunLimits;
use sglhost_runtime::Description;

use super::{
    inspect::summary,
    remote::{described, reference},
};
use crate::{
    arguments::{Kind, Parameters},
    config::client,
    engine::House,
    environment::Environment,
    failure::Failure,
    flags::{LOCAL_HEADINGS, RunFlags},
    interrupt::Interrupt,
    render::harmless,
};

/// Prints the help of `run`; with a program, its arguments too.
///
/// # Errors
/// The file is no program, or the server has none of that name.
pub(crate) async fn print(
    run: Command,
    flags: &RunFlags,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let remote = flags.remote.server.as_ref().or(environment.server.as_ref());
    let command = match (&flags.program, remote) {
        (None, _) => run,
        (Some(path), None) => {
            let house = House::new(&environment.cache, 1, RunLimits::default())?;
            with_description(run, house.load(path).await?.description())
        }
        (Some(name), Some(_)) => {
            let client = client(flags.remote.server.as_deref(), flags.remote.key_file.as_deref(), environment)?;
            let (description, _) = described(&client, reference(name)?, interrupt).await?;
            // What a server's operator chose has no flags.
            let is_local = |it: &Arg| it.get_help_heading().is_some_and(|heading| LOCAL_HEADINGS.contains(&heading));
            let run = run.mut_args(|argument| if is_local(&argument) { argument.hide(true) } else { argument });
            with_description(run, &description)
        }
    };
    command.color(clap::ColorChoice::Auto).clone().print_help().map_err(Failure::from_output)
}

/// What is shown on a terminal does nothing to it, though a program says it.
fn with_description(run: Command, description: &Description) -> Command {
    let parameters = Parameters::from_schema(&description.name, &description.arguments);
    with_parameters(run, &harmless(&description.name), &harmless(&description.description), &parameters)
}

/// Adds a program's arguments to the command, for its help alone.
fn with_parameters(mut run: Command, name: &str, about: &str, parameters: &Parameters) -> Command {
    let heading =
        if about.is_empty() { format!("Arguments of {name}") } else { format!("Arguments of {name} ({about})") };
    let mut hidden = Vec::new();
    for parameter in parameters.iter() {
        let flag = parameter.flag().to_string();
        let long = harmless(flag.trim_start_matches("--")).into_owned();
        if run.get_arguments().any(|argument| argument.get_long() == Some(long.as_str())) {
            hidden.push(flag);
            continue;
        }
        let argument = Arg::new(format!("program argument {}", parameter.name))
            .long(long)
            .help(harmless(&summary(parameter)).into_owned())
            .help_heading(heading.clone());
        run = run.arg(match parameter.kind {
            Kind::Boolean => argument.action(ArgAction::SetTrue),
            _ => argument.value_name(parameter.value_name()),
        });
    }
    let usual = run.get_after_help().map(ToString::to_string).unwrap_or_default();
    if parameters.iter().next().is_none() {
        run = run.after_help(format!("{name} takes no arguments of its own.\n\n{usual}"));
    } else if !hidden.is_empty() {
        run = run.after_help(format!(
            "{name} also takes {}, which the host has options of the same name for: write them after `--`.\n\n{usual}",
            hidden.join(", ")
        ));
    }
    run
}

#[cfg(test)]
mod tests {
    use clap::Args;
    use serde_json::json;

    use super::*;
    use crate::flags::RunFlags;

    #[test]
    fn a_programs_arguments_are_shown_under_the_hosts() {
        let schema = json!({
            "properties": {
                "question": {"type": "string", "description": "what to ask"},
                "max_words": {"type": "integer", "default": 10},
                "temperature": {"type": "number"},
                "loud": {"type": "boolean"},
            },
            "required": ["question"],
        });
        let parameters = Parameters::from_schema("ask", &schema);
        let run = RunFlags::augment_args(Command::new("run"));
        let help = with_parameters(run, "ask", "Asks.", &parameters).render_help().to_string();
        let (_, own) = help.split_once("Arguments of ask (Asks.):").unwrap_or_default();
        let own = own.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(own.contains("--max-words <INTEGER> [default: 10]"), "{help}");
        assert!(own.contains("--question <STRING> what to ask [required]"), "{help}");
        assert!(own.contains("--loud"), "{help}");
        assert!(help.contains("ask also takes --temperature"), "{help}");
    }
}
