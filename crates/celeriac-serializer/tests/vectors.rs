//! Against bytes captured from celery and kombu 5.7 (`tests/vectors/` of the workspace).

#![cfg(test)]
#![cfg(feature = "json")]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use celeriac_core::value::{BigInt, Date, DateTime, Decimal, Time, Uuid};
use celeriac_core::{Map, Value};
use celeriac_serializer::{Body, Compression, Json, Serializer, SerializerExt as _, Serializers};
use serde_json::Value as Case;

fn cases(text: &str) -> BTreeMap<String, Case> {
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    cases.into_iter().map(|case| (case["name"].as_str().unwrap().to_owned(), case)).collect()
}

fn json_cases() -> BTreeMap<String, Case> {
    cases(include_str!("../../../tests/vectors/kombu_json_types.json"))
}

fn bytes(case: &Case, key: &str) -> Vec<u8> {
    STANDARD.decode(case[key].as_str().unwrap()).unwrap()
}

fn uuid(text: &str) -> Value {
    Value::Uuid(Uuid::new(text).unwrap())
}

fn datetime(text: &str) -> Value {
    Value::DateTime(DateTime::new(text).unwrap())
}

fn map<V: Into<Value>>(entries: impl IntoIterator<Item = (&'static str, V)>) -> Value {
    Value::Map(entries.into_iter().collect::<Map>())
}

/// What each captured value is in Rust.
fn expected() -> Vec<(&'static str, Value)> {
    let date = || Value::Date(Date::new("2026-01-02").unwrap());
    let decimal = |text: &str| Value::Decimal(Decimal::new(text).unwrap());
    vec![
        ("datetime_naive", datetime("2026-01-02T03:04:05")),
        ("datetime_naive_micros", datetime("2026-01-02T03:04:05.000678")),
        ("datetime_utc", datetime("2026-01-02T03:04:05.678901+00:00")),
        ("datetime_offset", datetime("2026-01-02T03:04:05-03:30")),
        ("datetime_zoneinfo", datetime("2026-07-02T03:04:05+02:00")),
        ("date", date()),
        ("time", Value::Time(Time::new("03:04:05").unwrap())),
        ("time_micros_tz", Value::Time(Time::new("03:04:05.678901+00:00").unwrap())),
        ("decimal", decimal("1.50")),
        ("decimal_exp", decimal("1E+5")),
        ("decimal_nan", decimal("NaN")),
        ("uuid4", uuid("12345678-1234-4678-9234-567812345678")),
        ("uuid1", uuid("12345678-1234-1678-9234-567812345678")),
        ("bytes_utf8", Value::Bytes(b"hello".to_vec())),
        ("bytes_utf8_nonascii", Value::Bytes("hé".into())),
        ("bytes_binary", Value::Bytes(vec![255, 0, 128])),
        ("bytes_empty", Value::Bytes(Vec::new())),
        (
            "nested",
            map([("when", Value::from(vec![date(), map([("d", decimal("3"))])])), ("t", Value::from(vec![1, 2]))]),
        ),
        ("tuple", Value::from(vec![Value::from(1), Value::from("a"), Value::Null])),
        (
            "float_repr",
            Value::from(vec![
                Value::from(0.1),
                Value::from(1e20),
                Value::from(1e-7),
                Value::from(1.0),
                Value::from(123_456_789_012_345_678_i64),
            ]),
        ),
        ("bigint", Value::from(1_i128 << 70)),
        ("non_bmp", Value::from("\u{1f600} \u{2028}")),
        ("int_keys", map([("1", "d"), ("2.5", "b"), ("null", "c")])),
        ("user_dict_with_markers", date()),
        (
            "marker_extra_key_not_decoded",
            map([("__type__", Value::from("date")), ("__value__", Value::from("2026-01-02")), ("x", Value::from(1))]),
        ),
        ("decode_datetime_Z", datetime("2026-01-02T03:04:05Z")),
        ("decode_uuid_version", uuid("12345678-1234-4678-9234-567812345678")),
        ("decode_base64", Value::Bytes(vec![255, 0, 128])),
        ("decode_bytes", Value::Bytes("hé".into())),
    ]
}

#[test]
fn every_kombu_value_decodes() {
    let cases = json_cases();
    for (name, value) in expected() {
        assert_eq!(Json.decode_value(&bytes(&cases[name], "bytes_b64")).unwrap(), value, "{name}");
    }
}

#[test]
fn every_kombu_value_encodes_to_the_same_json() {
    let cases = json_cases();
    for (name, value) in expected().into_iter().filter(|(name, _)| !name.starts_with("decode_")) {
        let ours = Json.to_bytes(&value).unwrap();
        let text = cases[name]["text"].as_str().unwrap();
        if !text.contains("\\u") {
            let compact = text.replace(", ", ",").replace(": ", ":");
            assert_eq!(String::from_utf8(ours.clone()).unwrap(), compact, "{name}");
        }
        assert_eq!(Json.decode_value(&ours).unwrap(), value, "{name}");
    }
}

#[test]
fn nan_and_the_infinities_are_bare_words() {
    let data = bytes(&json_cases()["float_nan_inf"], "bytes_b64");
    let floats: Vec<f64> = Json.from_bytes(&data).unwrap();
    assert!(floats[0].is_nan() && floats[1] == f64::INFINITY && floats[2] == f64::NEG_INFINITY);
    assert_eq!(Json.to_bytes(&floats).unwrap(), b"[NaN,Infinity,-Infinity]");
}

#[test]
fn an_unknown_tag_is_refused() {
    let data = bytes(&json_cases()["decode_unknown_type"], "bytes_b64");
    assert!(Json.decode_value(&data).unwrap_err().to_string().contains("`set`"));
    assert!(Json.from_bytes::<Vec<u8>>(&data).is_err());
}

#[test]
fn tagged_values_fit_typed_parameters() {
    #[derive(serde::Deserialize)]
    struct Kwargs {
        d: String,
        u: uuid::Uuid,
        b: Vec<u8>,
    }
    let data = bytes(&json_cases()["task_message_with_extended_values"], "body_b64");
    let body = Body::split(&Json, &data).unwrap();
    assert_eq!(Json.from_bytes::<String>(&body.args[0]).unwrap(), "2026-01-02T03:04:05+00:00");
    let mut kwargs = Vec::new();
    let entries: Vec<(&str, &[u8])> = body.kwargs.iter().map(|(key, value)| (key.as_ref(), value.as_ref())).collect();
    Json.join_map(&entries, &mut kwargs).unwrap();
    let kwargs: Kwargs = Json.from_bytes(&kwargs).unwrap();
    assert_eq!((kwargs.d.as_str(), kwargs.u.as_u128(), kwargs.b), ("1.5", 5, vec![255]));
}

#[test]
fn integers_of_any_size_survive_typed_and_untyped() {
    let data = bytes(&json_cases()["bigint"], "bytes_b64");
    assert_eq!(Json.from_bytes::<i128>(&data).unwrap(), 1 << 70);
    assert_eq!(
        Json.from_bytes::<BTreeMap<String, Value>>(&[b"{\"k\":", &data[..], b"}"].concat()).unwrap()["k"],
        Value::from(1_i128 << 70)
    );
    let huge = Value::from(BigInt::new(&"7".repeat(80)).unwrap());
    assert_eq!(Json.to_bytes(&huge).unwrap(), "7".repeat(80).as_bytes());
}

#[test]
fn every_captured_body_decompresses_splits_and_joins() {
    let formats = Serializers::new();
    let mut seen = 0;
    for (name, case) in cases(include_str!("../../../tests/vectors/serializers_compression.json")) {
        let content_type = case["properties"]["content_type"].as_str().unwrap();
        let Ok(format) = formats.by_name(content_type) else { continue };
        let mut data = bytes(&case, "body_b64");
        if let Some(compression) = case["headers"]["compression"].as_str() {
            let compression = Compression::from_name(compression).unwrap();
            if !compression.is_available() {
                continue;
            }
            data = compression.decompress(&data, 1 << 20).unwrap();
            let again = compression.compress(&data).unwrap();
            assert_eq!(compression.decompress(&again, data.len()).unwrap(), data, "{name}");
        }
        let whole = format.decode_value(&data).unwrap();
        let body = Body::split(format.as_ref(), &data).unwrap();
        let joined = body.join(format.as_ref()).unwrap();
        assert_eq!(format.decode_value(&joined).unwrap(), whole, "{name}");
        let shown: Value = serde_json::from_value(case["body"].clone()).unwrap();
        if !case["body"].to_string().contains("__base64__") {
            assert_eq!(whole, shown, "{name}");
        }
        seen += 1;
    }
    assert!(seen > 0);
}

#[cfg(feature = "msgpack")]
#[test]
fn msgpack_bytes_from_python_arrive_as_bytes() {
    use celeriac_serializer::Msgpack;

    let cases = cases(include_str!("../../../tests/vectors/serializers_compression.json"));
    let data = bytes(&cases["msgpack_binary_arg"], "body_b64");
    let body = Body::split(&Msgpack, &data).unwrap();
    assert_eq!(Msgpack.decode_value(&body.args[0]).unwrap(), Value::Bytes(vec![0, 255]));
    assert_eq!(Msgpack.from_bytes::<String>(&body.args[1]).unwrap(), "hé");
    assert_eq!(body.join(&Msgpack).unwrap(), data);
}
