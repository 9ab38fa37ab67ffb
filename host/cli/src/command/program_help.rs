//! `sglhost run PROGRAM --help`: the host's options, and under them the program's own arguments.

use std::path::Path;

use clap::{Arg, ArgAction, Command};
use sglhost_core::limits::RunLimits;

use super::inspect::summary;
use crate::{
    arguments::{Kind, Parameters},
    engine::House,
    environment::Environment,
    failure::Failure,
};

/// Prints the help of `run`; with a program, its arguments too.
///
/// # Errors
/// The file is no program.
pub(crate) async fn print(run: Command, program: Option<&Path>, environment: &Environment) -> Result<(), Failure> {
    let command = match program {
        None => run,
        Some(path) => {
            let house = House::new(&environment.cache, 1, RunLimits::default())?;
            let program = house.load(path).await?;
            let description = program.description();
            let parameters = Parameters::from_schema(&description.name, &description.arguments);
            with_parameters(run, &description.name, &description.description, &parameters)
        }
    };
    command.color(clap::ColorChoice::Auto).clone().print_help().map_err(Failure::from_output)
}

/// Adds a program's arguments to the command, for its help alone.
fn with_parameters(mut run: Command, name: &str, about: &str, parameters: &Parameters) -> Command {
    let heading =
        if about.is_empty() { format!("Arguments of {name}") } else { format!("Arguments of {name} ({about})") };
    let mut hidden = Vec::new();
    for parameter in parameters.iter() {
        let flag = parameter.flag().to_string();
        let long = flag.trim_start_matches("--").to_owned();
        if run.get_arguments().any(|argument| argument.get_long() == Some(long.as_str())) {
            hidden.push(flag);
            continue;
        }
        let argument = Arg::new(format!("program argument {}", parameter.name))
            .long(long)
            .help(summary(parameter))
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
