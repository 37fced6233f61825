//! Tests of values: conversions, tags, and both directions of serde.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;
use crate::error::ErrorKind;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn uuid() -> Uuid {
    Uuid::new("12345678-1234-4678-9234-567812345678").unwrap()
}

fn extended() -> Value {
    Value::from(vec![
        Value::DateTime(DateTime::new("2026-01-02T03:04:05+00:00").unwrap()),
        Value::Date(Date::new("2026-01-02").unwrap()),
        Value::Time(Time::new("03:04:05.678901").unwrap()),
        Value::Decimal(Decimal::new("1E+5").unwrap()),
        Value::Uuid(uuid()),
        Value::Bytes(vec![1, 255]),
        Value::from(i128::MIN),
        Value::from(u128::MAX),
        Value::from(BigInt::new(&"9".repeat(60)).unwrap()),
        Value::from(u64::MAX),
        Value::Null,
    ])
}

#[test]
fn tagged_objects_decode_at_any_depth() {
    let value = json(
        r#"[{"a": {"__type__": "uuid", "__value__": {"hex": "12345678123446789234567812345678", "version": 4}}}]"#,
    );
    assert_eq!(value.at(0).and_then(|map| map.get("a")), Some(&Value::Uuid(uuid())));
    let value = json(r#"[{"__value__": "/wCA", "__type__": "base64"}, {"__type__": "bytes", "__value__": "hé"}]"#);
    assert_eq!(value, Value::from(vec![Value::Bytes(vec![255, 0, 128]), Value::Bytes("hé".into())]));
}

#[test]
fn a_third_key_makes_an_ordinary_map() {
    assert_eq!(json(r#"{"__type__": "date", "__value__": "2026-01-02", "x": 1}"#).as_map().unwrap().len(), 3);
}

#[test]
fn an_unknown_tag_is_refused_by_name() {
    let error = serde_json::from_str::<Value>(r#"{"__type__": "set", "__value__": [1]}"#).unwrap_err();
    assert!(error.to_string().contains("`set`"), "{error}");
}

#[test]
fn extended_values_serialize_as_celery_tags_them() {
    let text = serde_json::to_string(&Value::Uuid(uuid())).unwrap();
    assert_eq!(text, r#"{"__type__":"uuid","__value__":{"hex":"12345678123446789234567812345678"}}"#);
}

#[test]
fn a_value_survives_to_value_and_back() {
    let value = Value::Map([("list", extended()), ("x", Value::from(1.5))].into_iter().collect());
    assert_eq!(to_value(&value).unwrap(), value);
    assert_eq!(value.clone().deserialize_into::<Value>().unwrap(), value);
}

#[test]
fn a_value_inside_a_struct_keeps_its_types() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Holder {
        inner: Option<Value>,
        rest: BTreeMap<String, Value>,
    }
    let holder = Holder { inner: Some(extended()), rest: BTreeMap::from([("k".to_owned(), extended())]) };
    assert_eq!(to_value(&holder).unwrap().deserialize_into::<Holder>().unwrap(), holder);
}

#[test]
fn extended_values_fit_typed_parameters() {
    let text: String = Value::Uuid(uuid()).deserialize_into().unwrap();
    assert_eq!(text, "12345678-1234-4678-9234-567812345678");
    let text: String = Value::Decimal(Decimal::new("1.50").unwrap()).deserialize_into().unwrap();
    assert_eq!(text, "1.50");
    let bytes: Vec<u8> = Value::Bytes(vec![1, 2]).deserialize_into().unwrap();
    assert_eq!(bytes, [1, 2]);
    let number: i128 = Value::from(i128::MIN).deserialize_into().unwrap();
    assert_eq!(number, i128::MIN);
    let number: f64 = Value::from(3).deserialize_into().unwrap();
    assert!((number - 3.0).abs() < f64::EPSILON);
    let keyed: BTreeMap<i32, bool> = Value::Map([("7", true)].into_iter().collect()).deserialize_into().unwrap();
    assert_eq!(keyed, BTreeMap::from([(7, true)]));
}

#[test]
fn enums_round_trip() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Shape {
        Unit,
        New(u8),
        Tuple(u8, String),
        Struct { a: Option<u8> },
    }
    for shape in [Shape::Unit, Shape::New(1), Shape::Tuple(1, "x".into()), Shape::Struct { a: None }] {
        let value = to_value(&shape).unwrap();
        assert_eq!(value.deserialize_into::<Shape>().unwrap(), shape);
    }
}

#[test]
fn a_misfit_names_both_sides() {
    let error = Value::from("secret").deserialize_into::<u8>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("u8"), "{error}");
}

#[test]
fn deep_nesting_is_refused() {
    let mut value = Value::Null;
    for _ in 0..200 {
        value = Value::List(vec![value]);
    }
    assert!(to_value(&value).unwrap_err().message().contains("128"));
    assert!(value.deserialize_into::<Value>().unwrap_err().message().contains("128"));
}

#[test]
fn iso_forms_are_checked() {
    for good in [
        "2026-01-02T03:04:05",
        "2026-01-02 03:04",
        "2026-01-02T03:04:05.000678Z",
        "2026-01-02T03:04:05-03:30",
        "2026-01-02T03:04:05+0530",
        "2024-02-29",
    ] {
        assert!(DateTime::new(good).is_ok(), "{good}");
    }
    for bad in ["", "2026-13-01T00:00:00", "2025-02-29", "2026-01-02T25:00", "2026-01-02T", "x", "2026-01-02T03:04:05+"]
    {
        assert!(DateTime::new(bad).is_err(), "{bad}");
    }
    for good in ["1", "-1.50", ".5", "1.", "1E+5", "NaN", "sNaN12", "-Infinity"] {
        assert!(Decimal::new(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "1e", "1.2.3", "abc", "--1"] {
        assert!(Decimal::new(bad).is_err(), "{bad}");
    }
    assert_eq!(BigInt::new("-00012").unwrap().as_str(), "-12");
    assert_eq!(BigInt::new("-0").unwrap().as_str(), "0");
    assert!(BigInt::new("1x").is_err());
}

proptest::proptest! {
    #[test]
    fn text_checks_never_panic(text in ".{0,40}") {
        let _ = (DateTime::new(text.as_str()), Date::new(text.as_str()), Time::new(text.as_str()));
        let _ = (Decimal::new(text.as_str()), BigInt::new(&text), Uuid::new(&text));
    }
}
