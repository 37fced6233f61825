//! Field tables of every kind.

use celeriac_core::value::{BigInt, Uuid};
use celeriac_core::{ErrorKind, Map, Value};
use lapin::types::{AMQPValue, DecimalValue, FieldTable};

use super::captured::parsed;
use crate::wire::{header_frame, map, message, properties, table, value};

/// A table of one field with the name `x`, as it is on the wire.
fn raw(field: &[u8]) -> Vec<u8> {
    let table = [&[1, b'x'][..], field].concat();
    let length = u32::try_from(table.len()).unwrap().to_be_bytes();
    // The flag of headers, and no other.
    [&[0x20, 0][..], &length, &table].concat()
}

fn came(field: &[u8]) -> FieldTable {
    parsed(&raw(field)).headers().clone().unwrap()
}

fn read(field: &[u8]) -> Value {
    map(&came(field)).get("x").unwrap().clone()
}

#[test]
fn every_type_of_field_is_read() {
    let time = |text: &str| Value::DateTime(text.parse().unwrap());
    let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
    let list = [&b"A\0\0\0\x05"[..], b"t\x01V", b"b\xff"].concat();
    let object = [&b"F\0\0\0\x06"[..], b"\x01at\x01", b"\0V"].concat();
    for (field, expected) in [
        (&b"t\x02"[..], Value::from(true)),
        (b"t\0", Value::from(false)),
        (b"b\x80", Value::from(-128)),
        (b"B\xff", Value::from(255)),
        (b"s\xff\xfe", Value::from(-2)),
        (b"U\xff\xfe", Value::from(-2)),
        (b"u\xff\xfe", Value::from(65534)),
        (b"I\xff\xff\xff\xfe", Value::from(-2)),
        (b"i\xff\xff\xff\xfe", Value::from(4_294_967_294_u32)),
        (b"l\xff\xff\xff\xff\xff\xff\xff\xfe", Value::from(-2)),
        (b"L\xff\xff\xff\xff\xff\xff\xff\xfe", Value::from(-2)),
        (b"f\x3f\xc0\0\0", Value::from(1.5)),
        (b"d\x7f\xf0\0\0\0\0\0\0", Value::from(f64::INFINITY)),
        (b"D\x02\0\0\0\x7d", decimal("1.25")),
        (b"D\x02\xff\xff\xff\xfb", decimal("-0.05")),
        (b"D\0\0\0\0\x07", decimal("7")),
        (b"D\x03\0\0\0\0", decimal("0.000")),
        (b"S\0\0\0\x03\xc3\xa9!", Value::from("é!")),
        (b"S\0\0\0\x02\xff\0", Value::from(&b"\xff\0"[..])),
        (b"x\0\0\0\x02hi", Value::from(&b"hi"[..])),
        (b"T\0\0\0\0\x70\xdd\x2a\0", time("2030-01-02T00:00:00+00:00")),
        (b"T\xff\xff\xff\xff\xff\xff\xff\xff", Value::from(u64::MAX)),
        (b"V", Value::Null),
        (b"A\0\0\0\0", Value::List(Vec::new())),
        (b"F\0\0\0\0", Value::Map(Map::new())),
        (&list, Value::from(vec![Value::from(true), Value::Null, Value::from(-1)])),
        (&object, [("a", Value::from(true)), ("", Value::Null)].into_iter().collect::<Map>().into()),
    ] {
        assert_eq!(read(field), expected, "{}", field.escape_ascii());
        let came = parsed(&raw(field));
        assert_eq!(header_frame(&came), 8 + 12 + raw(field).len(), "{}", field.escape_ascii());
        let sent = message(&came, Vec::new());
        assert_eq!(message(&properties(&sent).unwrap(), Vec::new()), sent, "{}", field.escape_ascii());
    }
    assert!(matches!(read(b"f\x7f\xc0\0\0"), Value::Float(number) if number.is_nan()));
    assert_eq!(value(&AMQPValue::ShortString("text".into())), Value::from("text"));
}

#[test]
fn only_types_that_every_reader_knows_are_written() {
    let long = |text: &str| AMQPValue::LongString(text.into());
    let written = |value: Value| table(&[("x", value)].into_iter().collect()).unwrap().inner()["x"].clone();
    assert_eq!(written(Value::Null), AMQPValue::Void);
    assert_eq!(written(Value::from(true)), AMQPValue::Boolean(true));
    assert_eq!(written(Value::from(i32::MIN)), AMQPValue::LongInt(i32::MIN));
    assert_eq!(written(Value::from(1_i64 << 31)), AMQPValue::LongLongInt(1 << 31));
    assert_eq!(written(Value::from(0.5)), AMQPValue::Double(0.5));
    assert_eq!(written(Value::from("é")), long("é"));
    assert_eq!(written(Value::from(&b"\xff"[..])), AMQPValue::LongString(vec![0xff].into()));
    assert_eq!(written(Value::Decimal("-0.05".parse().unwrap())), decimal(2, 0xffff_fffb));
    assert_eq!(written(Value::DateTime("1970-01-01T00:00:09+00:00".parse().unwrap())), AMQPValue::Timestamp(9));
    let AMQPValue::FieldTable(object) = written(Value::from(u64::MAX)) else { panic!("no table") };
    assert_eq!(object.inner()["__type__"], long("bigint"));
    assert_eq!(object.inner()["__value__"], long("18446744073709551615"));
}

fn decimal(scale: u8, value: u32) -> AMQPValue {
    AMQPValue::DecimalValue(DecimalValue { scale, value })
}

#[test]
fn values_that_amqp_lacks_come_back_as_they_went() {
    let time = |text: &str| Value::DateTime(text.parse().unwrap());
    let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
    for value in [
        Value::from(u64::MAX),
        Value::from(u128::MAX),
        Value::BigInt(BigInt::new(&"9".repeat(100)).unwrap()),
        Value::from(&b"text"[..]),
        Value::from(&b""[..]),
        Value::from(f64::NEG_INFINITY),
        time("2026-01-02T03:04:05.000678+00:00"),
        time("2026-01-02T03:04:05Z"),
        time("2026-01-02T03:04:05+05:30"),
        time("2026-01-02T03:04:05"),
        time("1969-12-31T23:59:59+00:00"),
        time("9999-12-31T23:59:59+00:00"),
        Value::Date("2026-01-02".parse().unwrap()),
        Value::Time("03:04:05.678901+00:00".parse().unwrap()),
        decimal("1E+5"),
        decimal("NaN"),
        decimal("-0"),
        decimal("+1"),
        decimal("1."),
        decimal(".5"),
        decimal("01.50"),
        decimal("2147483648"),
        decimal("-2147483648"),
        decimal(&format!("0.{}", "0".repeat(300))),
        Value::Uuid(Uuid::from_bytes([7; 16])),
    ] {
        let sent: Map = [("x", value)].into_iter().collect();
        assert_eq!(map(&table(&sent).unwrap()), sent);
    }
}

#[test]
fn a_tag_that_makes_no_sense_is_a_table_like_any_other() {
    let text = |text: &str| Value::from(text);
    for (tag, inner) in [(text("nobody's"), text("x")), (text("date"), text("never")), (Value::from(1), text("x"))] {
        let object: Map = [("__type__", tag), ("__value__", inner)].into_iter().collect();
        let sent: Map = [("x", object)].into_iter().collect();
        assert_eq!(map(&table(&sent).unwrap()), sent);
    }
}

#[test]
fn what_nests_too_deep_is_left_out_of_what_is_read_and_refused_when_it_is_sent() {
    let field = |depth: usize| (0..depth).fold(AMQPValue::Void, |inner, _| AMQPValue::FieldArray(vec![inner].into()));
    let read = |depth| value(&field(depth));
    assert_eq!(depth_of(&read(128)), 128);
    assert_eq!(depth_of(&read(129)), 128);
    assert_eq!(depth_of(&read(5000)), 128);
    let sent = |value: Value| table(&[("x", value)].into_iter().collect());
    assert!(sent(read(128)).is_ok());
    assert_eq!(sent(Value::from(vec![read(128)])).unwrap_err().kind(), ErrorKind::TooLarge);
}

fn depth_of(value: &Value) -> usize {
    value.at(0).map_or(0, |inner| 1 + depth_of(inner))
}
