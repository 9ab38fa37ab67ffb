//! Numbers in a schema that `llguidance` would take for others, or would not come to an end with.

use std::collections::HashSet;

use serde_json::{Map, Value};
use sglhost_core::{Error, limits};

/// Numbers up to which integers are exact as 64-bit floats, which is what `llguidance` computes with.
const NUMBER_MAX: f64 = limits::GRAMMAR_NUMBER_MAX as f64;
/// About where 64-bit integers end, as the nearest float below.
pub(super) const INTEGER_MAX: f64 = 9_223_372_036_854_774_784.0;
/// Bounds from below, and whether they are; the others are from above.
pub(super) const BOUNDS: [(&str, bool); 4] =
    [("minimum", true), ("exclusiveMinimum", true), ("maximum", false), ("exclusiveMaximum", false)];

/// Refuses numbers that `llguidance` would take for others, or would not come to an end with.
pub(super) fn check_numbers(keywords: &Map<String, Value>) -> Result<(), Error> {
    let too_large = |keyword: &str, number: &Value| {
        Error::limit(format!(
            "`{keyword}`: {number} is past ±{} (GRAMMAR_NUMBER_MAX), up to which integers are exact as 64-bit floats; use a \
             smaller one, or a string",
            limits::GRAMMAR_NUMBER_MAX
        ))
    };
    for keyword in ["const", "enum"] {
        if let Some(number) = keywords.get(keyword).and_then(past_exact) {
            return Err(too_large(keyword, number));
        }
    }
    for (keyword, below) in BOUNDS {
        if let Some(value) = keywords.get(keyword)
            && past_exact(value).is_some()
            && !past_integers(value, below)
        {
            return Err(too_large(keyword, value));
        }
    }
    match keywords.get("multipleOf").filter(|value| value.is_number()) {
        Some(value) => check_divisor(value),
        None => Ok(()),
    }
}

/// A number in a value that is past what is exact.
fn past_exact(value: &Value) -> Option<&Value> {
    match value {
        Value::Number(number) => {
            number.as_f64().is_none_or(|number| number.abs() > NUMBER_MAX).then_some(value).or_else(
                // 2^53 + 1 is 2^53 as a float.
                || {
                    number
                        .as_i64()
                        .is_some_and(|number| number.unsigned_abs() > limits::GRAMMAR_NUMBER_MAX)
                        .then_some(value)
                },
            )
        }
        Value::Array(items) => items.iter().find_map(past_exact),
        Value::Object(members) => members.values().find_map(past_exact),
        _ => None,
    }
}

/// Whether a bound leaves room for all 64-bit integers.
pub(super) fn past_integers(bound: &Value, below: bool) -> bool {
    let bound = bound.as_f64().map(|bound| if below { -bound } else { bound });
    bound.is_some_and(|bound| bound > INTEGER_MAX)
}

/// A divisor as `llguidance` has it: an integer, and by which power of ten it is to be divided.
fn decimal(divisor: f64) -> Option<(u64, u32)> {
    // As it counts them.
    let (mut number, mut places) = (divisor.abs(), 0);
    while number.fract() != 0.0 && places <= PLACES_MAX {
        number *= 10.0;
        places += 1;
    }
    let fits = places <= PLACES_MAX && number <= limits::GRAMMAR_MULTIPLE_MAX as f64;
    fits.then_some((number as u64, places))
}

/// Digits after the point of a divisor.
const PLACES_MAX: u32 = 9;

/// A number is divided as it is written, by an automaton with a state for each remainder.
fn check_divisor(divisor: &Value) -> Result<(), Error> {
    let max = limits::GRAMMAR_MULTIPLE_MAX;
    match divisor.as_f64().map(decimal) {
        Some(Some((0, _))) => Err(Error::invalid("`multipleOf`: 0 is none; it is above 0")),
        Some(Some(_)) => Ok(()),
        _ => Err(Error::limit(format!(
            "`multipleOf`: {divisor} has too many digits: without its point it may be at most {max} \
             (GRAMMAR_MULTIPLE_MAX), with {PLACES_MAX} digits after the point; use a rounder one"
        ))),
    }
}

/// Refuses divisors whose common multiple is too large.
pub(super) fn check_divisors(divisors: &[f64]) -> Result<(), Error> {
    let divisors: HashSet<(u64, u32)> = divisors.iter().filter_map(|&divisor| decimal(divisor)).collect();
    let most = divisors.iter().map(|(_, places)| *places).max().unwrap_or(0);
    let max = limits::GRAMMAR_MULTIPLE_MAX;
    let mut common = 1;
    for (number, places) in &divisors {
        // Neither is above what 64 bits hold: 10 to the power of PLACES_MAX times the limit, squared, is.
        let number = u128::from(*number) * 10_u128.pow(most - places);
        let (mut a, mut b) = (common, number);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        common = common / a.max(1) * number;
        if divisors.len() > 1 && common > u128::from(max) {
            return Err(Error::limit(format!(
                "{} different values of `multipleOf`, of which one number may have to match all: their least common \
                 multiple, without its point, is above {max} (GRAMMAR_MULTIPLE_MAX); use fewer or smaller ones",
                divisors.len()
            )));
        }
    }
    Ok(())
}
