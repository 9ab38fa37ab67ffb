//! JSON objects, and nothing that stands for one: serde takes an array of a structure's fields for the structure. And
//! lists that end.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What was read from an object.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// A list of at most so many: what is longer is refused when it is, not after all of it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtMost<const MAX: usize, T>(pub(crate) Vec<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Deserialize<'de> for AtMost<MAX, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<const MAX: usize, T>(PhantomData<T>);
        impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for Entries<MAX, T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = list.next_element()? {
                    if entries.len() == MAX {
                        return Err(Error::invalid_length(MAX + 1, &self));
                    }
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_seq(Entries::<MAX, T>(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        text: Box<RawValue>,
    }

    #[test]
    fn an_array_is_no_object() {
        let read = |text: &str| serde_json::from_str::<Object<Inner>>(text).map(|Object(inner)| inner.text.to_string());
        assert_eq!(read(r#"{"text": [1,  2]}"#).ok().as_deref(), Some("[1,  2]"));
        for wrong in [r#"["a"]"#, "[]", "null", "1", r#"{"text": 1, "more": 2}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_ends() {
        let read = |text: &str| serde_json::from_str::<AtMost<2, u8>>(text).map(|AtMost(list)| list);
        assert_eq!(read("[1, 2]").ok(), Some(vec![1, 2]));
        // The rest is not even looked at.
        let error = read("[1, 2, 3, no JSON").unwrap_err().to_string();
        assert!(error.starts_with("invalid length 3, expected a list of at most 2"), "{error}");
    }
}
