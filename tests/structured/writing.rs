//! Instances written as the host has models write JSON: in one line, properties in the schema's order.

use serde_json::{Map, Value};

/// Texts of an instance: with the order of properties that the schema gives, in each way that its alternatives leave open
/// if the same is chosen everywhere, and as the instance has them.
pub(crate) fn texts(schema: &Value, instance: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    for choice in 0..ALTERNATIVES_MAX {
        let mut text = String::new();
        write(&Order { root: schema, choice }, &[schema], instance, &mut text);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let mut text = String::new();
    write(&Order { root: schema, choice: 0 }, &[], instance, &mut text);
    if !texts.contains(&text) {
        texts.push(text);
    }
    texts
}

const ALTERNATIVES_MAX: usize = 12;
/// References followed one after another: a schema may refer to itself.
const REFERENCES_MAX: usize = 12;

struct Order<'a> {
    root: &'a Value,
    /// Which alternative of `anyOf` and `oneOf` comes first.
    choice: usize,
}

impl<'a> Order<'a> {
    /// The schema, and those that apply where it does, in the order in which it names them.
    fn applied(&self, schema: &'a Value, depth: usize, all: &mut Vec<&'a Value>) {
        let Some(keywords) = schema.as_object() else { return };
        if depth > REFERENCES_MAX {
            return;
        }
        let mut own = false;
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("allOf", Value::Array(schemas)) => {
                    schemas.iter().for_each(|schema| self.applied(schema, depth + 1, all));
                }
                ("anyOf" | "oneOf", Value::Array(schemas)) if !schemas.is_empty() => {
                    let (before, first) = schemas.split_at(self.choice % schemas.len());
                    first.iter().chain(before).for_each(|schema| self.applied(schema, depth + 1, all));
                }
                ("$ref", Value::String(reference)) => {
                    if let Some(schema) = self.resolve(reference) {
                        self.applied(schema, depth + 1, all);
                    }
                }
                ("properties" | "patternProperties" | "additionalProperties" | "items" | "prefixItems", _) if !own => {
                    own = true;
                    all.push(schema);
                }
                _ => {}
            }
        }
    }

    fn resolve(&self, reference: &str) -> Option<&'a Value> {
        let pointer = reference.strip_prefix('#')?;
        self.root.pointer(&pointer.replace("%25", "%").replace("%22", "\""))
    }
}

fn write<'a>(order: &Order<'a>, schemas: &[&'a Value], instance: &Value, text: &mut String) {
    let mut applied = Vec::new();
    schemas.iter().for_each(|schema| order.applied(schema, 0, &mut applied));
    match instance {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                let schemas: Vec<&Value> = applied.iter().filter_map(|schema| of_item(schema, index)).collect();
                write(order, &schemas, item, text);
            }
            text.push(']');
        }
        Value::Object(properties) => {
            text.push('{');
            for (index, (name, value)) in in_order(&applied, properties).into_iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                text.push_str(&Value::from(name).to_string());
                text.push_str(": ");
                let schemas: Vec<&Value> = applied.iter().flat_map(|schema| of_property(schema, name)).collect();
                write(order, &schemas, value, text);
            }
            text.push('}');
        }
        // An integer is written as one.
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0 && number.abs() < 1e16) => {
            text.push_str(&format!("{:.0}", number.as_f64().unwrap_or_default()).replace("-0", "0"));
        }
        _ => text.push_str(&instance.to_string()),
    }
}

/// Properties that schemas name in their order, then those that are required only, then the others.
fn in_order<'i>(schemas: &[&Value], properties: &'i Map<String, Value>) -> Vec<(&'i str, &'i Value)> {
    let named = schemas.iter().filter_map(|schema| schema["properties"].as_object()).flat_map(Map::keys);
    let required = schemas.iter().filter_map(|schema| schema["required"].as_array()).flatten();
    let names = named.map(String::as_str).chain(required.filter_map(Value::as_str));
    let mut ordered: Vec<(&str, &Value)> = Vec::with_capacity(properties.len());
    let others = properties.iter().map(|(name, value)| (name.as_str(), value));
    let named = names.filter_map(|name| properties.get_key_value(name)).map(|(name, value)| (name.as_str(), value));
    for (name, value) in named.chain(others) {
        if !ordered.iter().any(|(before, _)| *before == name) {
            ordered.push((name, value));
        }
    }
    ordered
}

fn of_item(schema: &Value, index: usize) -> Option<&Value> {
    let items = schema.get("items");
    // Older drafts have the first items in `items`, and the others in `additionalItems`.
    let first = schema.get("prefixItems").or(items).and_then(|items| items.get(index));
    first.or_else(|| items.filter(|items| items.is_object())).or_else(|| schema.get("additionalItems"))
}

fn of_property<'a>(schema: &'a Value, name: &str) -> Vec<&'a Value> {
    let named = schema["properties"].get(name);
    let patterns = schema["patternProperties"].as_object().into_iter().flatten();
    let matched = patterns.filter(|(pattern, _)| regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(name)));
    let found: Vec<&Value> = named.into_iter().chain(matched.map(|(_, schema)| schema)).collect();
    if found.is_empty() { schema.get("additionalProperties").into_iter().collect() } else { found }
}
