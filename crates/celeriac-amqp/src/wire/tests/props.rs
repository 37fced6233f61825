//! Properties: every message survives the wire, and no table does harm.

use std::time::Duration;

use celeriac_core::value::{BigInt, DateTime, Uuid};
use celeriac_core::{ContentType, DeliveryMode, Headers, Map, Message, Priority, Properties, Value};
use lapin::protocol::basic::parse_properties;
use lapin::types::{AMQPValue, DecimalValue, FieldTable, LongString};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::captured::captured;
use crate::wire::{header_frame, map, message, properties, table};

fn name() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..60).prop_map(String::from_iter)
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "-?[1-9][0-9]{0,60}".prop_map(|digits| Value::from(BigInt::new(&digits).unwrap())),
        any::<f64>().prop_filter("NaN differs from itself", |number| !number.is_nan()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        any::<[u8; 16]>().prop_map(|bytes| Value::Uuid(Uuid::from_bytes(bytes))),
        "-?[0-9]{1,11}(\\.[0-9]{0,9})?(E[0-9])?".prop_map(|text| Value::Decimal(text.parse().unwrap())),
        "20[0-9]{2}-1[0-2]-[0-2][1-8]T0[0-9]:00:59(\\.[0-9]{1,6})?(Z|\\+00:00|-01:30)?"
            .prop_map(|text| Value::DateTime(DateTime::new(text).unwrap())),
    ];
    scalar.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::List),
            vec((name(), inner), 0..4).prop_map(|entries| Value::Map(entries.into_iter().collect::<Map>())),
        ]
    })
}

fn headers() -> impl Strategy<Value = Headers> {
    let known = prop::sample::select(vec!["lang", "eta", "retries", "timelimit", "argsrepr", "stamps", "task", "id"]);
    let entries = vec((prop_oneof![known.prop_map(str::to_owned), name()], value()), 0..12);
    let headers = (any::<bool>(), entries).prop_map(|(is_task, entries)| {
        let mut table = Map::new();
        if is_task {
            table.insert("task", "mail.send");
            table.insert("id", "an-id");
        }
        table.extend(entries);
        Headers::from_map(table)
    });
    headers.prop_filter("limits of ages are rounded", |headers| {
        let limits = headers.task().map(|task| task.timelimit).unwrap_or_default();
        [limits.hard, limits.soft].into_iter().flatten().all(|limit| limit < Duration::from_secs(1 << 32))
    })
}

fn message_properties() -> impl Strategy<Value = Properties> {
    let extra = prop::sample::select(vec!["message_id", "type", "user_id", "app_id", "cluster_id"]);
    let known = (
        option::of(prop_oneof![Just("application/json".to_owned()), "[a-z]{1,9}/[!-~é]{1,9}"]),
        option::of(prop_oneof![Just("utf-8".to_owned()), name()]),
        option::of(prop_oneof![Just("an-id".to_owned()), name()]),
        option::of(name()),
        option::of(prop_oneof![Just(DeliveryMode::Transient), Just(DeliveryMode::Persistent)]),
        option::of(any::<u8>()),
        option::of(any::<u32>()),
        vec((extra, name()), 0..4),
    );
    known.prop_map(|(content_type, encoding, correlation_id, reply_to, delivery_mode, priority, millis, extra)| {
        Properties {
            content_type: content_type.map(|text| ContentType::new(text).unwrap()),
            content_encoding: encoding.map(Into::into),
            correlation_id: correlation_id.map(|text| text.parse().unwrap()),
            reply_to: reply_to.map(|text| text.parse().unwrap()),
            delivery_mode,
            priority: priority.map(Priority),
            expiration: millis.map(|millis| Duration::from_millis(millis.into())),
            extra: extra.into_iter().collect(),
        }
    })
}

fn field() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<f32>().prop_filter("NaN", |number| !number.is_nan()).prop_map(AMQPValue::Float),
        any::<f64>().prop_filter("NaN", |number| !number.is_nan()).prop_map(AMQPValue::Double),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        vec(any::<u8>(), 0..20).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        any::<String>().prop_map(|text| AMQPValue::LongString(LongString::from(text))),
        prop_oneof![any::<u64>(), 0..300_000_000_000_u64].prop_map(AMQPValue::Timestamp),
        vec(any::<u8>(), 0..20).prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let names = prop_oneof![Just("__type__".to_owned()), Just("__value__".to_owned()), name()];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|items| AMQPValue::FieldArray(items.into())),
            vec((names, inner), 0..6).prop_map(|entries| AMQPValue::FieldTable(table_of(entries))),
        ]
    })
}

fn table_of(entries: Vec<(String, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, field) in entries {
        table.insert(name.into(), field);
    }
    table
}

fn any_table() -> impl Strategy<Value = FieldTable> {
    let known = prop::sample::select(vec!["task", "id", "eta", "retries", "timelimit", "stamps", "x-death", "root_id"]);
    vec((prop_oneof![known.prop_map(str::to_owned), name()], field()), 0..9).prop_map(table_of)
}

/// What was captured, with one byte changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let whole: Vec<Vec<u8>> = captured().into_iter().map(|captured| captured.raw[12..].to_vec()).collect();
    (prop::sample::select(whole), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut raw, index, byte)| {
        let at = index.index(raw.len());
        raw[at] = byte;
        raw
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_survives(headers in headers(), properties in message_properties(), body in vec(any::<u8>(), 0..300)) {
        let sent = Message { headers, properties, body: body.into() };
        let came = message(&crate::wire::properties(&sent).unwrap(), sent.body.to_vec());
        prop_assert_eq!(came, sent);
    }

    #[test]
    fn a_table_survives(entries in vec((name(), value()), 0..9)) {
        let sent: Map = entries.into_iter().collect();
        prop_assert_eq!(map(&table(&sent).unwrap()), sent);
    }

    #[test]
    fn any_table_is_read_and_what_was_read_goes_on(headers in any_table()) {
        let came = lapin::BasicProperties::default().with_headers(headers);
        let read = message(&came, Vec::new());
        let written = properties(&read).unwrap();
        prop_assert_eq!(message(&written, Vec::new()).headers.to_map(), read.headers.to_map());
        prop_assert!(header_frame(&written) > 22);
    }

    #[test]
    fn a_damaged_header_is_read_or_refused(raw in damaged()) {
        if let Ok((_, came)) = parse_properties(&raw[..]) {
            let read = message(&came, Vec::new());
            let _ = properties(&read).map(|written| message(&written, Vec::new()));
        }
    }
}
