//! Any value a message or a result can carry, when its Rust type is not known.
//!
//! [`Value`] covers JSON's and msgpack's data model plus what Celery adds to JSON by tagged objects: bytes, dates, decimals
//! and UUIDs. [`to_value`] turns any `Serialize` type into it, [`Value::deserialize_into`] turns it into any `Deserialize`
//! type.

mod de;
mod into;
mod map;
mod ser;
mod tag;
mod text;
mod to;

pub use into::{ValueDeserializer, ValueError};
pub use map::{IntoIter, Iter, Map};
pub use ser::BIG_INT_TOKEN;
pub use tag::{TYPE_KEY, VALUE_KEY, untag};
pub use text::{BigInt, Date, DateTime, Decimal, Time, Uuid};
pub use to::to_value;

use serde::de::DeserializeOwned;

use crate::error::Result;

/// How deep containers of foreign data may nest.
pub const MAX_DEPTH: usize = 128;

/// A value of any type.
///
/// Integers are kept in the smallest variant that holds them: [`Value::Int`], else [`Value::UInt`], else
/// [`Value::BigInt`]. The `From` impls and all decoders keep to that, so equal numbers compare equal.
///
/// # Wire format
/// Serializes as plain data. Dates, decimals and UUIDs become Celery's tagged object
/// `{"__type__": …, "__value__": …}` (`kombu/utils/json.py`, kombu 5.7), and such objects are read back at any depth. User
/// data of exactly that shape is not escaped, as in Celery.
///
/// # Examples
/// ```
/// use celeriac_core::Value;
///
/// let value = Value::from(vec![Value::from(2), Value::from("x")]);
/// let (number, text): (u8, String) = value.deserialize_into()?;
/// assert_eq!((number, text.as_str()), (2, "x"));
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: `null`, Python's `None`.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer that fits 64 bits with sign.
    Int(i64),
    /// An integer above `i64::MAX` that fits 64 bits.
    UInt(u64),
    /// An integer of more than 64 bits.
    BigInt(BigInt),
    /// A floating point number; NaN and the infinities included.
    Float(f64),
    /// A text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list; Python's tuples arrive as lists too.
    List(Vec<Self>),
    /// A map from text, in the order of its making.
    Map(Map),
    /// A date with a time of day, with or without offset.
    DateTime(DateTime),
    /// A date.
    Date(Date),
    /// A time of day, with or without offset.
    Time(Time),
    /// A decimal number of any precision.
    Decimal(Decimal),
    /// A UUID.
    Uuid(Uuid),
}

impl Value {
    /// Whether this is [`Value::Null`].
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The truth value, if it is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The integer, if it is one and fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        if let Self::Int(value) = self { Some(*value) } else { None }
    }

    /// The integer, if it is one, is not negative and fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::UInt(value) => Some(*value),
            _ => None,
        }
    }

    /// The number as floating point, rounded if need be; `None` if it is no number.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "documented to round")]
            Self::Int(value) => Some(*value as f64),
            #[expect(clippy::cast_precision_loss, reason = "documented to round")]
            Self::UInt(value) => Some(*value as f64),
            Self::BigInt(value) => value.as_str().parse().ok(),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// The bytes, if it is bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The elements, if it is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// The map, if it is one.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// The entry `key`, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.get(key)
    }

    /// The element `index`, if this is a list that has it.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&Self> {
        self.as_list()?.get(index)
    }

    /// What the value is, in a word for messages: `list`, `text`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::UInt(_) | Self::BigInt(_) => "integer",
            Self::Float(_) => "float",
            Self::Str(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::DateTime(_) => "datetime",
            Self::Date(_) => "date",
            Self::Time(_) => "time",
            Self::Decimal(_) => "decimal",
            Self::Uuid(_) => "uuid",
        }
    }

    /// Turns the value into a `T`.
    ///
    /// Dates, decimals and UUIDs are given as text (a UUID also as its 16 bytes), bytes also as a list of numbers, big
    /// integers as `i128`, `u128`, floating point or text; integers where floating point is asked for; map keys are parsed
    /// where numbers are asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) naming what was found and what `T` expects.
    pub fn deserialize_into<T: DeserializeOwned>(self) -> Result<T> {
        T::deserialize(ValueDeserializer::new(self)).map_err(|error| error.into_malformed("decode value"))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

macro_rules! from_small {
    ($($type:ty)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::Int(i64::from(value))
            }
        }
    )*};
}

from_small!(i8 i16 i32 i64 u8 u16 u32);

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::UInt(value), Self::Int)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

impl From<i128> for Value {
    fn from(value: i128) -> Self {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => Self::Int(value),
            (_, Ok(value)) => Self::UInt(value),
            _ => Self::BigInt(BigInt::from(value)),
        }
    }
}

impl From<u128> for Value {
    fn from(value: u128) -> Self {
        u64::try_from(value).map_or_else(|_| Self::BigInt(BigInt::from(value)), Self::from)
    }
}

impl From<BigInt> for Value {
    fn from(value: BigInt) -> Self {
        value.to_i128().map_or(Self::BigInt(value), Self::from)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self::Float(f64::from(value))
    }
}

macro_rules! from_as {
    ($($type:ty => $variant:ident;)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from_as! {
    f64 => Float;
    &str => Str;
    String => Str;
    &[u8] => Bytes;
    Map => Map;
    DateTime => DateTime;
    Date => Date;
    Time => Time;
    Decimal => Decimal;
    Uuid => Uuid;
}

impl From<()> for Value {
    fn from((): ()) -> Self {
        Self::Null
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Self>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests;
