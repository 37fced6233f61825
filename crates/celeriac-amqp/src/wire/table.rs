//! Field tables, and the values in them.

use celeriac_core::value::{MAX_DEPTH, TYPE_KEY, VALUE_KEY, untag};
use celeriac_core::{Error, ErrorKind, HeaderValue, Map, Result, Timestamp, Value};
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, LongString, ShortString};

const OPERATION: &str = "encode message";

/// The field table of a map: headers, or the arguments of a queue, an exchange or a binding.
///
/// # Wire format
/// The types that Python's py-amqp 5.4 writes (`amqp/serialization.py`): `S t I d V A F`, `T` for whole seconds in UTC and `D` for decimals of
/// 32 bits; and `l` for larger integers, where py-amqp writes `L` and means the same. What these cannot hold goes as kombu's tagged object,
/// `{"__type__": …, "__value__": …}`. Bytes that are no text are an `S`, as in Python.
///
/// # Errors
/// [`ErrorKind::TooLarge`] for a name of more than 255 bytes, or more than 128 values within one another.
pub(crate) fn table(map: &Map) -> Result<FieldTable> {
    table_at(map, 0)
}

/// The map that a field table holds.
///
/// Every type that RabbitMQ has is read; texts that are not UTF-8 become bytes. Values that lie more than 128 deep become null.
pub(crate) fn map(table: &FieldTable) -> Map {
    map_at(table, 0)
}

/// The value that a field holds: see [`map`].
pub(crate) fn value(field: &AMQPValue) -> Value {
    value_at(field, 0)
}

/// The field that holds the value of a header: see [`table`].
pub(super) fn field(value: HeaderValue<'_>) -> Result<AMQPValue> {
    Ok(match value {
        HeaderValue::Null => AMQPValue::Void,
        HeaderValue::Bool(bool) => AMQPValue::Boolean(bool),
        HeaderValue::Int(int) => integer(int),
        HeaderValue::Str(text) => long(text),
        HeaderValue::Map(map) => AMQPValue::FieldTable(table(map)?),
        HeaderValue::Value(value) => field_at(value, 0)?,
    })
}

/// A name, or a text among the properties.
pub(super) fn short(what: &str, text: impl Into<String>) -> Result<ShortString> {
    ShortString::try_new(text)
        .map_err(|error| Error::new(ErrorKind::TooLarge, OPERATION, format!("{what} is too long")).with_source(error))
}

pub(super) fn header_name(name: &str) -> Result<ShortString> {
    short("the name of a header", name)
}

fn table_at(map: &Map, depth: usize) -> Result<FieldTable> {
    let mut table = FieldTable::default();
    for (name, value) in map {
        table.insert(header_name(name)?, field_at(value, depth)?);
    }
    Ok(table)
}

fn field_at(value: &Value, depth: usize) -> Result<AMQPValue> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(bool) => AMQPValue::Boolean(*bool),
        Value::Int(int) => integer(*int),
        Value::Float(float) => AMQPValue::Double(*float),
        Value::Str(text) => long(text.as_str()),
        Value::List(items) => {
            let below = deeper(depth)?;
            let items: Result<Vec<_>> = items.iter().map(|item| field_at(item, below)).collect();
            AMQPValue::FieldArray(items?.into())
        }
        Value::Map(map) => AMQPValue::FieldTable(table_at(map, deeper(depth)?)?),
        Value::UInt(int) => tagged("bigint", long(int.to_string())),
        Value::BigInt(int) => tagged("bigint", long(int.as_str())),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => tagged("bytes", long(text)),
            Err(_) => AMQPValue::LongString(bytes.clone().into()),
        },
        Value::DateTime(time) => {
            seconds(time.as_str()).map_or_else(|| tagged("datetime", long(time.as_str())), AMQPValue::Timestamp)
        }
        Value::Decimal(decimal) => {
            digits(decimal.as_str()).map_or_else(|| tagged("decimal", long(decimal.as_str())), AMQPValue::DecimalValue)
        }
        Value::Date(date) => tagged("date", long(date.as_str())),
        Value::Time(time) => tagged("time", long(time.as_str())),
        Value::Uuid(uuid) => {
            let mut hex = FieldTable::default();
            hex.insert("hex".into(), long(uuid.to_hex()));
            tagged("uuid", AMQPValue::FieldTable(hex))
        }
        other => return Err(Error::unsupported(OPERATION, format!("a {} in a field table", other.kind()))),
    })
}

fn deeper(depth: usize) -> Result<usize> {
    if depth == MAX_DEPTH {
        return Err(Error::new(ErrorKind::TooLarge, OPERATION, format!("a header nests more than {MAX_DEPTH} deep")));
    }
    Ok(depth + 1)
}

fn integer(int: i64) -> AMQPValue {
    i32::try_from(int).map_or(AMQPValue::LongLongInt(int), AMQPValue::LongInt)
}

fn long(text: impl Into<Vec<u8>>) -> AMQPValue {
    AMQPValue::LongString(text.into().into())
}

fn tagged(tag: &str, value: AMQPValue) -> AMQPValue {
    let mut object = FieldTable::default();
    object.insert(TYPE_KEY.into(), long(tag));
    object.insert(VALUE_KEY.into(), value);
    AMQPValue::FieldTable(object)
}

/// The seconds since 1970 of a time that is read from them just so.
fn seconds(text: &str) -> Option<u64> {
    let seconds = text.ends_with("+00:00").then(|| text.parse::<Timestamp>().ok())??.as_micros().div_euclid(1_000_000);
    let seconds = u64::try_from(seconds).ok()?;
    (time(seconds)? == text).then_some(seconds)
}

/// `None` if that is later than times go.
fn time(seconds: u64) -> Option<String> {
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
    let time = Timestamp::from_micros(micros);
    (time.as_micros() == micros).then(|| time.to_string())
}

/// The decimal that is read as just this text.
fn digits(text: &str) -> Option<DecimalValue> {
    let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let unscaled: i32 = text.replacen('.', "", 1).parse().ok()?;
    let decimal = DecimalValue { scale: scale.try_into().ok()?, value: unscaled.cast_unsigned() };
    (plain(decimal) == text).then_some(decimal)
}

/// A decimal in digits, such as `-1.50`.
fn plain(DecimalValue { scale, value }: DecimalValue) -> String {
    // The driver takes it for unsigned; py-amqp and RabbitMQ's own clients write it with a sign.
    let unscaled = value.cast_signed();
    let sign = if unscaled < 0 { "-" } else { "" };
    let scale = usize::from(scale);
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = scale + 1);
    match digits.split_at_checked(digits.len() - scale) {
        Some((whole, fraction)) if !fraction.is_empty() => format!("{sign}{whole}.{fraction}"),
        _ => format!("{sign}{digits}"),
    }
}

fn map_at(table: &FieldTable, depth: usize) -> Map {
    let mut map = Map::with_capacity(table.inner().len());
    for (name, field) in table {
        map.insert(name.as_str(), value_at(field, depth));
    }
    map
}

fn value_at(field: &AMQPValue, depth: usize) -> Value {
    match field {
        AMQPValue::Boolean(bool) => Value::Bool(*bool),
        AMQPValue::ShortShortInt(int) => Value::from(*int),
        AMQPValue::ShortShortUInt(int) => Value::from(*int),
        AMQPValue::ShortInt(int) => Value::from(*int),
        AMQPValue::ShortUInt(int) => Value::from(*int),
        AMQPValue::LongInt(int) => Value::from(*int),
        AMQPValue::LongUInt(int) => Value::from(*int),
        AMQPValue::LongLongInt(int) => Value::from(*int),
        AMQPValue::Float(float) => Value::from(*float),
        AMQPValue::Double(float) => Value::from(*float),
        AMQPValue::DecimalValue(decimal) => {
            let text = plain(*decimal);
            text.parse().map_or(Value::Str(text), Value::Decimal)
        }
        AMQPValue::ShortString(text) => Value::from(text.as_str()),
        AMQPValue::LongString(text) => text_or_bytes(text),
        AMQPValue::Timestamp(seconds) => {
            time(*seconds).and_then(|time| time.parse().ok()).map_or_else(|| Value::from(*seconds), Value::DateTime)
        }
        AMQPValue::ByteArray(bytes) => Value::Bytes(bytes.as_slice().to_vec()),
        AMQPValue::Void => Value::Null,
        AMQPValue::FieldArray(items) => list_at(items, depth),
        AMQPValue::FieldTable(table) => table_value_at(table, depth),
    }
}

fn text_or_bytes(text: &LongString) -> Value {
    String::from_utf8(text.as_bytes().to_vec()).map_or_else(|error| Value::Bytes(error.into_bytes()), Value::Str)
}

fn list_at(items: &FieldArray, depth: usize) -> Value {
    if depth == MAX_DEPTH {
        return too_deep();
    }
    items.as_slice().iter().map(|item| value_at(item, depth + 1)).collect()
}

fn table_value_at(table: &FieldTable, depth: usize) -> Value {
    if depth == MAX_DEPTH {
        return too_deep();
    }
    let map = map_at(table, depth + 1);
    if map.len() == 2 && map.contains_key(TYPE_KEY) && map.contains_key(VALUE_KEY) {
        // With an unknown tag, or another value than the tag asks for, it is a map like any other.
        return untag(map.clone()).unwrap_or(Value::Map(map));
    }
    Value::Map(map)
}

fn too_deep() -> Value {
    tracing::warn!("a header nests more than {MAX_DEPTH} deep: what lies below is left out");
    Value::Null
}
