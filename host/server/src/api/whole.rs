//! Whole numbers in bodies, as JSON Schema has them: `1.0` is one.

use serde::de::Error;
use serde::{Deserialize as _, Deserializer};
use serde_json::Number;

/// The largest that all whole numbers below it have in floating point.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A number that must be there.
pub(super) fn required<'de, D: Deserializer<'de>, T: TryFrom<i128>>(deserializer: D) -> Result<T, D::Error> {
    whole(&Number::deserialize(deserializer)?)
}

/// A number that may be left out, or null.
pub(super) fn optional<'de, D: Deserializer<'de>, T: TryFrom<i128>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::<Number>::deserialize(deserializer)?.map(|number| whole(&number)).transpose()
}

fn whole<T: TryFrom<i128>, E: Error>(number: &Number) -> Result<T, E> {
    let integer = number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from));
    let integer = integer.or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= EXACT_MAX);
        float.map(|float| float as i128)
    });
    let value = integer.and_then(|integer| T::try_from(integer).ok());
    value.ok_or_else(|| E::custom(format!("{number} is no whole number in the range that is wanted")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Fields {
        #[serde(deserialize_with = "required")]
        one: u32,
        #[serde(default, deserialize_with = "optional")]
        other: Option<i32>,
    }

    #[test]
    fn whole_is_what_has_no_fraction() {
        let read = |text: &str| serde_json::from_str::<Fields>(text).ok().map(|fields| (fields.one, fields.other));
        assert_eq!(read(r#"{"one": 1.0, "other": -2.0}"#), Some((1, Some(-2))));
        assert_eq!(read(r#"{"one": 4294967295, "other": null}"#), Some((u32::MAX, None)));
        assert_eq!(read(r#"{"one": 1e3}"#), Some((1000, None)));
        for wrong in
            [r#"{"one": 1.5}"#, r#"{"one": -1}"#, r#"{"one": 4294967296}"#, r#"{"one": "1"}"#, r#"{"one": null}"#, "{}"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
