//! Properties: every value survives every format, every record of a task too, and no bytes can do harm.

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

#[cfg(all(feature = "json", feature = "msgpack"))]
mod records {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use celeriac_core::{ContentType, Payload, ResultTuple, TaskId, TaskMeta, TaskState, Timestamp};
    use celeriac_serializer::{Json, Msgpack, SerializerExt as _, record};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::value;

    fn result() -> impl Strategy<Value = Option<Payload>> {
        let of = |content_type: ContentType, data: Vec<u8>| Some(Payload { content_type, data: data.into() });
        prop_oneof![
            Just(None),
            value().prop_map(move |value| of(ContentType::JSON, Json.to_bytes(&value).unwrap())),
            value().prop_map(move |value| of(ContentType::MSGPACK, Msgpack.to_bytes(&value).unwrap())),
            vec(any::<u8>(), 0..9).prop_map(move |data| of(ContentType::JSON, data)),
            vec(any::<u8>(), 0..9).prop_map(move |data| of(ContentType::MSGPACK, data)),
            vec(any::<u8>(), 0..99).prop_map(move |data| of(ContentType::BINCODE, data)),
        ]
        .prop_filter("blanks around JSON are not kept", |result| {
            result.as_ref().is_none_or(|payload| payload.data.trim_ascii() == payload.data)
        })
    }

    fn meta() -> impl Strategy<Value = TaskMeta> {
        let id = || vec(any::<char>(), 1..30).prop_map(String::from_iter);
        let state = prop_oneof![Just("SUCCESS"), Just("FAILURE"), Just("PROGRESS"), Just("É\"")];
        let family = (option::of(vec(id(), 0..3)), option::of(id()), option::of(id()));
        let extended = vec((any::<String>(), value()), 0..3);
        (id(), state, result(), option::of(any::<String>()), family, option::of(0..4_000_000_000_000_000_i64), extended)
            .prop_map(|(id, state, result, traceback, (children, group, parent), date, extended)| {
                let mut meta = TaskMeta::new(TaskId::new(id).unwrap(), state.into());
                let is_null = |payload: &Payload| matches!(&*payload.data, b"null" | b"\xc0");
                // What ended well has a value, and no other state has null for one.
                meta.result = match result {
                    None if meta.state == TaskState::Success => {
                        Some(Payload { content_type: ContentType::JSON, data: "null".into() })
                    }
                    Some(payload) if meta.state != TaskState::Success && is_null(&payload) => None,
                    result => result,
                };
                meta.traceback = traceback;
                meta.children = children
                    .map(|ids| ids.into_iter().map(|id| ResultTuple { id, parent: None, children: None }).collect());
                meta.date_done = date.map(Timestamp::from_micros);
                meta.group_id = group.map(|id| id.parse().unwrap());
                meta.parent_id = parent.map(|id| id.parse().unwrap());
                meta.extended = extended.into_iter().collect();
                meta
            })
    }

    /// Records that Python wrote, with one byte changed or cut short.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let cases: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../tests/vectors/results_redis.json")).unwrap();
        let bytes = |case: &serde_json::Value| Some(STANDARD.decode(case["value_b64"].as_str()?).unwrap());
        let whole = cases.iter().filter_map(bytes).collect::<Vec<_>>();
        (prop::sample::select(whole), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(
            |(mut data, index, byte, is_cut)| {
                let at = index.index(data.len());
                if is_cut {
                    data.truncate(at);
                } else if let Some(changed) = data.get_mut(at) {
                    *changed = byte;
                }
                data
            },
        )
    }

    /// Everything that reads bytes, on these bytes.
    fn read_all(data: &[u8]) {
        let Ok(meta) = record::decode(None, data, 1 << 20) else { return };
        let mut out = Vec::new();
        record::encode(&meta, &mut out).unwrap();
        assert_eq!(record::decode(None, &out, 0).unwrap().state, meta.state);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_record_survives(meta in meta()) {
            let mut data = Vec::new();
            record::encode(&meta, &mut data).unwrap();
            prop_assert_eq!(&record::decode(None, &data, 0).unwrap(), &meta);
            prop_assert_eq!(&record::decode(Some(&meta.task_id), &data, 0).unwrap(), &meta);
        }

        #[test]
        fn no_bytes_do_harm(data in vec(any::<u8>(), 0..200)) {
            read_all(&data);
        }

        #[test]
        fn no_text_does_harm(data in r#"\{("(body|headers|properties|celeriac|status|task_id|result)": ?("a\\?"|[0-9]|null|\{\}|\[1, 2\]|[{}\[\],:" ]),? ?){0,4}\}?"#) {
            read_all(data.as_bytes());
        }

        #[test]
        fn no_damage_does_harm(data in damaged()) {
            read_all(&data);
        }
    }
}
