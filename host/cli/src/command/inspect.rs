//! `sglhost inspect`: what a program is, without running it.

use serde_json::json;
use sglhost_core::limits::RunLimits;
use sglhost_runtime::Program;

use crate::{
    arguments::{Parameter, Parameters},
    engine::House,
    environment::Environment,
    failure::Failure,
    flags::InspectFlags,
    render::print,
    units::display_bytes,
};

/// Prints what a program says of itself and what it imports.
///
/// # Errors
/// The file is no program.
pub(crate) async fn inspect(flags: &InspectFlags, environment: &Environment) -> Result<(), Failure> {
    let house = House::new(&environment.cache, 1, RunLimits::default())?;
    let program = house.load(&flags.program).await?;
    let text = if flags.json { as_json(&program) } else { as_text(&program) };
    print(&text)
}

fn as_json(program: &Program) -> String {
    let description = program.description();
    let value = json!({
        "id": program.id(),
        "size_bytes": program.size_bytes(),
        "name": description.name,
        "description": description.description,
        "arguments": description.arguments,
        "imports": program.imports(),
    });
    format!("{value:#}\n")
}

fn as_text(program: &Program) -> String {
    let description = program.description();
    let parameters = Parameters::from_schema(&description.name, &description.arguments);
    let mut text = format!("{}\n", description.name);
    if !description.description.is_empty() {
        text += &format!("{}\n", description.description);
    }
    text += &format!("\nid       {}\nsize     {}\n", program.id(), display_bytes(program.size_bytes() as u64));
    text += "\narguments\n";
    let names: Vec<_> =
        parameters.iter().map(|parameter| format!("{} {}", parameter.flag(), parameter.value_name())).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    for (name, parameter) in names.iter().zip(parameters.iter()) {
        text += format!("  {name:width$}  {}", summary(parameter)).trim_end();
        text.push('\n');
    }
    if names.is_empty() {
        text += "  none\n";
    }
    text += "\nimports\n";
    for import in program.imports() {
        text += &format!("  {import}\n");
    }
    text
}

/// An argument's description with what matters beside it.
pub(crate) fn summary(parameter: &Parameter) -> String {
    let mut text = parameter.description.clone().unwrap_or_default();
    let mut note = |note: String| {
        if !text.is_empty() {
            text.push(' ');
        }
        text += &note;
    };
    if !parameter.choices.is_empty() {
        let choices: Vec<_> = parameter
            .choices
            .iter()
            .map(|choice| choice.as_str().map_or_else(|| choice.to_string(), str::to_owned))
            .collect();
        note(format!("[one of: {}]", choices.join(", ")));
    }
    match &parameter.default {
        Some(default) if !default.is_null() && default != &serde_json::Value::Bool(false) => {
            note(format!("[default: {default}]"))
        }
        _ if parameter.required => note("[required]".to_owned()),
        _ => {}
    }
    text
}
