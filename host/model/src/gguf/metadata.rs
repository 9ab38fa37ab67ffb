//! A GGUF file's key-value entries.

use std::collections::HashMap;

use super::{GgufError, cursor::Cursor};

/// Arrays of arrays; no known file nests at all.
const NESTING_MAX: u32 = 4;
/// Bytes of the shortest entry: an empty key, a type and one byte.
const ENTRY_BYTES_MIN: usize = 8 + 4 + 1;

/// One value. Numbers keep their sign and kind, not their width.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    /// An array of a kind that nothing here reads (8 and 16 bits, booleans, f64, nested); it was checked and skipped.
    OtherArray,
}

impl Value {
    fn describe(&self) -> &'static str {
        match self {
            Self::Unsigned(_) | Self::Signed(_) => "a whole number",
            Self::Float(_) => "a fraction",
            Self::Bool(_) => "true or false",
            Self::String(_) => "a string",
            Self::Strings(_) => "an array of strings",
            Self::Integers(_) => "an array of whole numbers",
            Self::Floats(_) => "an array of fractions",
            Self::OtherArray => "an array",
        }
    }
}

/// The type tags of ggml.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, GgufError> {
        use Kind::{Array, Bool, F32, F64, I8, I16, I32, I64, String, U8, U16, U32, U64};
        const TAGS: [Kind; 13] = [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64];
        let at = cursor.at();
        let kind = cursor.u32("a metadata type")?;
        TAGS.get(kind as usize).copied().ok_or(GgufError::ValueType { kind, at })
    }

    /// Bytes of the shortest value.
    fn bytes_min(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

/// All entries by key.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    entries: HashMap<String, Value>,
}

impl Metadata {
    /// Reads `count` entries.
    pub(super) fn parse(cursor: &mut Cursor<'_>, count: u64) -> Result<Self, GgufError> {
        let count = cursor.check_count(count, ENTRY_BYTES_MIN, "metadata")?;
        let mut entries = HashMap::new();
        for _ in 0..count {
            let key = cursor.string("a metadata key")?.to_owned();
            let kind = Kind::read(cursor)?;
            let value = if kind == Kind::Array { array(cursor, 0)? } else { scalar(cursor, kind)? };
            if entries.contains_key(&key) {
                return Err(GgufError::Duplicate { what: "metadata entries", name: key });
            }
            entries.insert(key, value);
        }
        Ok(Self { entries })
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(GgufError::Type { key: key.into(), found: value.describe(), expected }),
        }
    }

    /// Whether there is an entry of this name, of any type.
    pub(crate) fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// A whole number of any width that is not negative.
    pub(crate) fn unsigned(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.get(key, "a whole number", |value| match value {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// As [`Metadata::unsigned`], and it must be there.
    pub(crate) fn require_unsigned(&self, key: &str) -> Result<u64, GgufError> {
        self.unsigned(key)?.ok_or_else(|| GgufError::Missing { key: key.into() })
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.get(key, "a number", |value| match value {
            Value::Float(number) => Some(*number),
            Value::Unsigned(number) => Some(*number as f64),
            Value::Signed(number) => Some(*number as f64),
            _ => None,
        })
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.get(key, "true or false", |value| match value {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        })
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.get(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(crate) fn strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.get(key, "an array of strings", |value| match value {
            Value::Strings(texts) => Some(texts.as_slice()),
            _ => None,
        })
    }

    pub(crate) fn integers(&self, key: &str) -> Result<Option<&[i64]>, GgufError> {
        self.get(key, "an array of whole numbers", |value| match value {
            Value::Integers(numbers) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    pub(crate) fn floats(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.get(key, "an array of fractions", |value| match value {
            Value::Floats(numbers) => Some(numbers.as_slice()),
            _ => None,
        })
    }
}

fn scalar(cursor: &mut Cursor<'_>, kind: Kind) -> Result<Value, GgufError> {
    const WHAT: &str = "a metadata value";
    Ok(match kind {
        Kind::U8 => Value::Unsigned(u8::from_le_bytes(cursor.array(WHAT)?).into()),
        Kind::U16 => Value::Unsigned(u16::from_le_bytes(cursor.array(WHAT)?).into()),
        Kind::U32 => Value::Unsigned(cursor.u32(WHAT)?.into()),
        Kind::U64 => Value::Unsigned(cursor.u64(WHAT)?),
        Kind::I8 => Value::Signed(i8::from_le_bytes(cursor.array(WHAT)?).into()),
        Kind::I16 => Value::Signed(i16::from_le_bytes(cursor.array(WHAT)?).into()),
        Kind::I32 => Value::Signed(i32::from_le_bytes(cursor.array(WHAT)?).into()),
        Kind::I64 => Value::Signed(i64::from_le_bytes(cursor.array(WHAT)?)),
        Kind::F32 => Value::Float(f32::from_le_bytes(cursor.array(WHAT)?).into()),
        Kind::F64 => Value::Float(f64::from_le_bytes(cursor.array(WHAT)?)),
        Kind::Bool => Value::Bool(cursor.array::<1>(WHAT)?[0] != 0),
        Kind::String => Value::String(cursor.string(WHAT)?.to_owned()),
        Kind::Array => array(cursor, 0)?,
    })
}

/// An array, `depth` arrays deep. Memory stays within a small multiple of the bytes read: strings take 24 bytes each
/// where the file has at least 8, integers 8 where it has at least 4.
fn array(cursor: &mut Cursor<'_>, depth: u32) -> Result<Value, GgufError> {
    const WHAT: &str = "an array";
    if depth == NESTING_MAX {
        return Err(GgufError::Nesting { at: cursor.at() });
    }
    let kind = Kind::read(cursor)?;
    let count = cursor.u64(WHAT)?;
    let count = cursor.check_count(count, kind.bytes_min(), WHAT)?;
    match kind {
        Kind::String => {
            let mut strings = Vec::with_capacity(count);
            for _ in 0..count {
                strings.push(cursor.string("a string of an array")?.to_owned());
            }
            Ok(Value::Strings(strings))
        }
        Kind::Array => {
            for _ in 0..count {
                array(cursor, depth + 1)?;
            }
            Ok(Value::OtherArray)
        }
        Kind::Bool | Kind::U8 | Kind::I8 | Kind::U16 | Kind::I16 | Kind::F64 => {
            cursor.take(count * kind.bytes_min(), WHAT)?;
            Ok(Value::OtherArray)
        }
        Kind::F32 => {
            let bytes = cursor.take(count * 4, WHAT)?;
            Ok(Value::Floats(
                bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect(),
            ))
        }
        Kind::U32 | Kind::I32 | Kind::U64 | Kind::I64 => {
            let mut integers = Vec::with_capacity(count);
            for _ in 0..count {
                integers.push(match kind {
                    Kind::U32 => cursor.u32(WHAT)?.into(),
                    Kind::I32 => i32::from_le_bytes(cursor.array(WHAT)?).into(),
                    Kind::I64 => i64::from_le_bytes(cursor.array(WHAT)?),
                    // Nothing here reads numbers that large.
                    _ => i64::try_from(cursor.u64(WHAT)?).unwrap_or(i64::MAX),
                });
            }
            Ok(Value::Integers(integers))
        }
    }
}
