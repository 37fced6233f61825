//! Properties: every message survives the wire, and no bytes can do harm.

use std::time::Duration;

use celeriac_core::value::{BigInt, DateTime, Uuid};
use celeriac_core::{
    ContentType, DeliveryMode, ExchangeName, Headers, Map, Message, Priority, Properties, RoutingKey, Value,
};
use celeriac_serializer::{Json, Serializer as _};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::captured::envelope;
use crate::wire::envelope::{Stamp, decode, encode, handed_back};

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "-?[1-9][0-9]{0,60}".prop_map(|digits| Value::from(BigInt::new(&digits).unwrap())),
        any::<f64>().prop_filter("NaN differs from itself", |number| !number.is_nan()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        any::<[u8; 16]>().prop_map(|bytes| Value::Uuid(Uuid::from_bytes(bytes))),
        Just(Value::DateTime(DateTime::new("2026-01-02T03:04:05+00:00").unwrap())),
    ];
    scalar.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::List),
            vec((any::<String>(), inner), 0..4).prop_map(|entries| Value::Map(entries.into_iter().collect::<Map>())),
        ]
    })
}

/// A text of at most 240 bytes.
fn name() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..60).prop_map(String::from_iter)
}

/// Values as headers of tasks have them, rightly or not.
fn usual() -> impl Strategy<Value = Value> {
    let limit = || option::of(prop_oneof![(0..1000_i64).prop_map(Value::from), Just(Value::from(1.5))]);
    prop_oneof![
        3 => value(),
        2 => name().prop_map(Value::from),
        1 => (0..9_i64).prop_map(Value::from),
        1 => Just(Value::from("2026-11-22T12:27:14.257208+05:30")),
        1 => (limit(), limit()).prop_map(|(hard, soft)| Value::from(vec![Value::from(hard), Value::from(soft)])),
        1 => vec(name(), 0..3).prop_map(|names| names.into_iter().collect()),
    ]
}

fn headers() -> impl Strategy<Value = Headers> {
    let known = prop::sample::select(vec![
        "lang",
        "shadow",
        "eta",
        "expires",
        "group",
        "group_index",
        "retries",
        "timelimit",
        "root_id",
        "parent_id",
        "argsrepr",
        "kwargsrepr",
        "origin",
        "ignore_result",
        "replaced_task_nesting",
        "stamped_headers",
        "stamps",
        "compression",
        "task",
        "id",
        "mine",
    ]);
    let entries = vec((prop_oneof![3 => known.prop_map(str::to_owned), 1 => any::<String>()], usual()), 0..12);
    let table = (any::<bool>(), entries);
    let headers = table.prop_map(|(is_task, entries)| {
        let mut table = Map::new();
        if is_task {
            table.insert("task", "mail.send");
            table.insert("id", "an-id");
        }
        // kombu's mark is no header of the message's.
        table.extend(entries.into_iter().filter(|(name, _)| name != "redelivered"));
        Headers::from_map(table)
    });
    headers.prop_filter("limits of ages are rounded", |headers| {
        let limits = headers.task().map(|task| task.timelimit).unwrap_or_default();
        [limits.hard, limits.soft].into_iter().flatten().all(|limit| limit < Duration::from_secs(1 << 32))
    })
}

fn properties() -> impl Strategy<Value = Properties> {
    let known = (
        option::of(prop_oneof![Just("application/json".to_owned()), "[a-z]{1,9}/[!-~é]{1,9}"]),
        option::of(prop_oneof![Just("utf-8".to_owned()), name()]),
        option::of(prop_oneof![Just("an-id".to_owned()), name()]),
        option::of(name()),
        option::of(prop_oneof![Just(DeliveryMode::Transient), Just(DeliveryMode::Persistent)]),
        option::of(any::<u8>()),
        option::of(any::<u64>()),
        vec((any::<String>(), value()), 0..4),
    );
    known.prop_map(|(content_type, encoding, correlation_id, reply_to, delivery_mode, priority, millis, extra)| {
        Properties {
            content_type: content_type.map(|text| ContentType::new(text).unwrap()),
            content_encoding: encoding.map(Into::into),
            correlation_id: correlation_id.map(|text| text.parse().unwrap()),
            reply_to: reply_to.map(|text| text.parse().unwrap()),
            delivery_mode,
            priority: priority.map(Priority),
            expiration: millis.map(Duration::from_millis),
            extra: extra.into_iter().collect(),
        }
    })
}

fn message() -> impl Strategy<Value = Message> {
    let body = vec(any::<u8>(), 0..300);
    (headers(), properties(), body).prop_map(|(headers, properties, body)| Message {
        headers,
        properties,
        body: body.into(),
    })
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), any::<u32>()).prop_map(|(order, deliveries)| Stamp { order, deliveries })
}

fn encoded(message: &Message, exchange: &str, routing_key: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message, exchange, routing_key, &mut out);
    out
}

/// Bytes as Redis may hold them, with one byte changed or cut short.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let whole = ["basic_args", "stamped", "proto1", "body_encoding_none"].map(envelope);
    (prop::sample::select(whole.to_vec()), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(
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
    let stamp = Stamp { order: 1, deliveries: 2 };
    let back = handed_back(data, stamp);
    match decode(data) {
        Ok(envelope) => {
            let after = decode(&back).unwrap();
            assert_eq!((after.message, after.redelivered, after.stamp), (envelope.message, true, Some(stamp)));
        }
        Err(_) => assert_eq!(back, data),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_survives_its_envelope(message in message(), exchange in name(), key in name()) {
        let data = encoded(&message, &exchange, &key);
        let read = decode(&data).unwrap();
        prop_assert_eq!(read.exchange, ExchangeName::new(exchange).unwrap());
        prop_assert_eq!(read.routing_key, Some(RoutingKey::new(key).unwrap()));
        prop_assert_eq!(read.message, message);
        prop_assert!(!read.redelivered && read.stamp.is_none());
        prop_assert!(Json.decode_value(&data).is_ok(), "kombu's JSON takes it too");
    }

    #[test]
    fn a_message_survives_being_handed_back(message in message(), first in stamp(), second in stamp()) {
        let data = encoded(&message, "", "q");
        let once = handed_back(&data, first);
        let read = decode(&once).unwrap();
        prop_assert_eq!(read.message, message);
        prop_assert_eq!((read.redelivered, read.stamp), (true, Some(first)));
        let tail = format!(", \"celeriac\": [{}, {}]}}", first.order, first.deliveries);
        prop_assert!(once.ends_with(tail.as_bytes()));
        prop_assert_eq!(handed_back(&once, second), handed_back(&data, second), "the newer stamp stands for the older");
    }

    #[test]
    fn no_bytes_do_harm(data in vec(any::<u8>(), 0..200)) {
        read_all(&data);
    }

    #[test]
    fn no_text_does_harm(data in r#"\{("(body|headers|properties|celeriac)": ?("a\\?"|[0-9]|null|\{\}|\[1, 2\]|[{}\[\],:" ]),? ?){0,4}\}?"#) {
        read_all(data.as_bytes());
    }

    #[test]
    fn no_damage_does_harm(data in damaged()) {
        read_all(&data);
    }
}
