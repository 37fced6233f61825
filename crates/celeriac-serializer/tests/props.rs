//! Properties: every value survives every format, and no bytes can do harm.

#![cfg(test)]

use std::collections::BTreeMap;

use celeriac_core::value::{BigInt, DateTime, Decimal, Uuid};
use celeriac_core::{Map, Value};
use celeriac_serializer::{Body, Compression, Serializer, SerializerExt as _, Serializers};
use proptest::collection::vec;
use proptest::prelude::*;

const FORMATS: [&str; 4] = ["json", "msgpack", "bincode", "yaml"];

fn formats() -> impl Iterator<Item = std::sync::Arc<dyn Serializer>> {
    let formats = Serializers::new();
    FORMATS.into_iter().filter_map(move |name| formats.by_name(name).ok().cloned())
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        "-?[1-9][0-9]{0,60}".prop_map(|digits| Value::from(BigInt::new(&digits).unwrap())),
        any::<f64>().prop_filter("NaN differs from itself", |number| !number.is_nan()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        any::<[u8; 16]>().prop_map(|bytes| Value::Uuid(Uuid::from_bytes(bytes))),
        Just(Value::DateTime(DateTime::new("2026-01-02T03:04:05+00:00").unwrap())),
        Just(Value::Decimal(Decimal::new("1.50").unwrap())),
        prop_oneof!["yes", "1e3", "2026-01-02", "~", "0x1f", " ", "null", "-"].prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::List),
            vec((any::<String>(), inner), 0..6).prop_map(|entries| Value::Map(entries.into_iter().collect::<Map>())),
        ]
    })
}

/// Everything that reads bytes, on these bytes.
fn read_all(format: &dyn Serializer, data: &[u8]) {
    let _ = format.decode_value(data);
    let _ = format.from_bytes::<BTreeMap<String, Vec<u64>>>(data);
    let _ = format.from_bytes::<(Option<String>, Vec<u8>)>(data);
    let _ = format.from_bytes::<Vec<()>>(data);
    let _ = format.split_list(data);
    let _ = format.split_map(data);
    let _ = Body::split(format, data).map(|body| body.join(format));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_survives_every_format(value in value()) {
        for format in formats() {
            let mut data = Vec::new();
            format.encode_value(&value, &mut data).unwrap();
            prop_assert_eq!(&format.decode_value(&data).unwrap(), &value, "{}", format.name());
            prop_assert_eq!(&format.from_bytes::<Value>(&data).unwrap(), &value, "{}", format.name());
        }
    }

    #[test]
    fn splitting_undoes_joining(values in vec(value(), 0..5), keys in proptest::collection::btree_set(any::<String>(), 5)) {
        for format in formats() {
            let encoded: Vec<Vec<u8>> = values.iter().map(|value| {
                let mut out = Vec::new();
                format.encode_value(value, &mut out).unwrap();
                out
            }).collect();
            let items: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
            let mut list = Vec::new();
            format.join_list(&items, &mut list).unwrap();
            prop_assert_eq!(format.decode_value(&list).unwrap(), Value::List(values.clone()));
            let split = format.split_list(&list).unwrap();
            prop_assert_eq!(split.iter().map(|item| format.decode_value(item).unwrap()).collect::<Vec<_>>(), values.clone());

            let entries: Vec<(&str, &[u8])> = keys.iter().map(String::as_str).zip(items).collect();
            let mut map = Vec::new();
            format.join_map(&entries, &mut map).unwrap();
            let split = format.split_map(&map).unwrap();
            prop_assert_eq!(split.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>(), entries.iter().map(|(key, _)| *key).collect::<Vec<_>>());
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(data in vec(any::<u8>(), 0..200), form in 0_u8..5) {
        for format in formats() {
            read_all(format.as_ref(), &data);
            read_all(format.as_ref(), &[&[form], &data[..]].concat());
        }
        for compression in Compression::ALL {
            let _ = compression.decompress(&data, 10_000);
        }
    }

    #[test]
    fn almost_json_does_no_harm(data in r#"[\[\]{}:,"\\u0-9a-fdD8eE+\-. NIn_typevalu\n]{0,60}"#) {
        for format in formats() {
            read_all(format.as_ref(), data.as_bytes());
        }
    }

    #[test]
    fn damaged_bytes_do_no_harm(value in value(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        for format in formats() {
            let mut data = Vec::new();
            format.encode_value(&value, &mut data).unwrap();
            let at = at.index(data.len());
            data[at] = byte;
            read_all(format.as_ref(), &data);
            read_all(format.as_ref(), &data[..cut.index(data.len())]);
        }
        for compression in Compression::ALL.into_iter().filter(|compression| compression.is_available()) {
            let mut data = compression.compress(format!("{value:?}").as_bytes()).unwrap();
            let at = at.index(data.len());
            data[at] = byte;
            let _ = compression.decompress(&data, 10_000);
            let _ = compression.decompress(&data[..cut.index(data.len())], 10_000);
        }
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_agrees_with_serde_json(value in value()) {
        use celeriac_serializer::Json;

        let text = serde_json::to_vec(&value).unwrap();
        let ours = Json.decode_value(&text).unwrap();
        let data = Json.to_bytes(&ours).unwrap();
        prop_assert_eq!(Json.decode_value(&data).unwrap(), ours);
    }
}
