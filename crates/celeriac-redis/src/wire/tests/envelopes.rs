//! Envelopes of Python's Celery, read and written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use celeriac_core::{ContentType, DeliveryMode, Headers, Map, Message, Priority, Properties, Value};
use serde_json::json;

use super::captured::{envelope, envelopes, json};
use crate::wire::envelope::{decode, encode};

fn encoded(message: &Message, exchange: &str, routing_key: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode(message, exchange, routing_key, &mut out);
    out
}

/// As kombu writes it by default: the tag taken out, an inline body in base64.
fn normal(data: &[u8]) -> serde_json::Value {
    let mut envelope = json(data);
    envelope["properties"].as_object_mut().unwrap().remove("delivery_tag").unwrap();
    if envelope["properties"]["body_encoding"] != "base64" {
        envelope["body"] = STANDARD.encode(envelope["body"].as_str().unwrap()).into();
        envelope["properties"]["body_encoding"] = "base64".into();
    }
    envelope
}

#[test]
fn every_captured_envelope_is_written_as_python_wrote_it() {
    let envelopes = envelopes();
    assert!(envelopes.len() >= 120, "only {} envelopes were found", envelopes.len());
    for (name, data) in envelopes {
        let read = decode(&data).unwrap();
        let key = read.routing_key.as_ref().unwrap();
        let written = encoded(&read.message, &read.exchange, key);
        assert_eq!(normal(&written), normal(&data), "{name}");
        assert_eq!(decode(&written).unwrap(), read, "{name}");
        assert!(!read.redelivered && read.stamp.is_none(), "{name}");
    }
}

#[test]
fn keys_stand_in_kombus_order() {
    for name in ["basic_args", "expires", "stamped", "time_limits_link_shadow_headers", "task_sent_event_publish"] {
        let data = envelope(name);
        let read = decode(&data).unwrap();
        let mut written =
            String::from_utf8(encoded(&read.message, &read.exchange, &read.routing_key.unwrap())).unwrap();
        // The tag is a fresh one; within values there are no blanks.
        let tag = |text: &str| json(text.as_bytes())["properties"]["delivery_tag"].as_str().unwrap().to_owned();
        let captured = String::from_utf8(data).unwrap();
        written = written.replace(&tag(&written), &tag(&captured));
        let close = |text: &str| text.replace(", ", ",").replace(": ", ":");
        assert_eq!(close(&written), close(&captured), "{name}");
    }
}

#[test]
fn the_parts_of_a_captured_envelope_are_told() {
    let read = decode(&envelope("basic_args")).unwrap();
    assert_eq!(read.exchange, "");
    assert_eq!(read.routing_key.unwrap(), "celery");
    let Message { headers, properties, body } = read.message;
    assert_eq!(headers.task().unwrap().task, "wire.add");
    assert_eq!(properties.content_type, Some(ContentType::JSON));
    assert_eq!(properties.content_encoding.as_deref(), Some("utf-8"));
    assert_eq!(properties.correlation_id.unwrap().as_str(), headers.task().unwrap().id.as_str());
    assert_eq!(properties.delivery_mode, Some(DeliveryMode::Persistent));
    assert_eq!(properties.priority, Some(Priority(0)));
    assert_eq!(properties.expiration, None);
    assert!(properties.extra.is_empty(), "{:?}", properties.extra);
    assert_eq!(body, r#"[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#);
}

#[test]
fn a_body_is_read_from_base64_and_from_plain_text() {
    let body = |name| decode(&envelope(name)).unwrap().message.body;
    assert_eq!(body("body_encoding_none"), body("body_encoding_utf8"));
    assert_eq!(body("body_encoding_none"), body("basic_args"));
}

#[test]
fn a_message_that_says_nothing_comes_back_saying_nothing() {
    let data = encoded(&Message::default(), "", "");
    let envelope = json(&data);
    // Without a type a Python worker would die of it; of this one it refuses it.
    assert_eq!(envelope["content-type"], "application/x-untyped");
    assert_eq!(envelope["content-encoding"], json!(null));
    assert_eq!((&envelope["headers"], &envelope["body"]), (&json!({}), &json!("")));
    let keys: Vec<&String> = envelope["properties"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["body_encoding", "delivery_info", "delivery_tag"]);
    let read = decode(&data).unwrap();
    assert_eq!(read.message, Message::default());
    assert_eq!(read.routing_key.unwrap(), "");
}

#[test]
fn no_priority_is_not_priority_zero() {
    for priority in [None, Some(Priority(0)), Some(Priority(9)), Some(Priority(255))] {
        let properties = Properties { priority, ..Properties::default() };
        let read = decode(&encoded(&Message { properties, ..Message::default() }, "", "q")).unwrap();
        assert_eq!(read.message.properties.priority, priority);
    }
}

#[test]
fn every_envelope_has_a_delivery_tag_of_its_own() {
    let tag = || json(&encoded(&Message::default(), "", "q"))["properties"]["delivery_tag"].clone();
    let tags: std::collections::HashSet<String> = (0..1000).map(|_| tag().as_str().unwrap().to_owned()).collect();
    assert_eq!(tags.len(), 1000);
    assert!(tags.iter().all(|tag| tag.len() == 36 && tag.as_bytes()[14] == b'4'), "version 4 UUIDs, as kombu's");
}

#[test]
fn values_that_json_lacks_go_as_kombus_tagged_objects() {
    let mut headers = Headers::new();
    headers.set_extra("bytes", &b"\xff\x00"[..]);
    headers.set_extra("big", u128::MAX);
    headers.set_extra("never", f64::INFINITY);
    headers.set_extra("day", Value::Date("2026-01-02".parse().unwrap()));
    let mut extra = Map::new();
    extra.insert("price", Value::Decimal("3.140".parse().unwrap()));
    extra.insert("nothing", Value::Null);
    let sent = Message { headers, properties: Properties { extra, ..Properties::default() }, body: "x".into() };
    let data = encoded(&sent, "ex", "key");
    let text = std::str::from_utf8(&data).unwrap();
    assert!(text.contains(r#""day": {"__type__":"date","__value__":"2026-01-02"}"#), "{text}");
    assert_eq!(decode(&data).unwrap().message, sent);
}

#[test]
fn what_only_tells_of_an_envelope_is_no_property_of_the_message() {
    let mut extra = Map::new();
    extra.insert("delivery_tag", "mine");
    extra.insert("delivery_info", "mine");
    extra.insert("body_encoding", "mine");
    extra.insert("app_id", "shop");
    let sent = Message { properties: Properties { extra, ..Properties::default() }, ..Message::default() };
    let read = decode(&encoded(&sent, "", "q")).unwrap();
    assert_eq!(read.message.properties.extra.keys().collect::<Vec<_>>(), ["app_id"]);
}

#[test]
fn a_property_of_the_wrong_type_is_kept_aside_and_goes_on() {
    let data = br#"{"body": "", "content-type": "json", "content-encoding": 5, "headers": {},
        "properties": {"priority": "high", "delivery_mode": 3, "expiration": 60, "reply_to": ["a"], "correlation_id": null}}"#;
    let read = decode(data).unwrap();
    let properties = &read.message.properties;
    assert_eq!((&properties.content_type, properties.priority, properties.delivery_mode), (&None, None, None));
    let aside = ["priority", "delivery_mode", "expiration", "reply_to", "content_type", "content_encoding"];
    assert_eq!(properties.extra.keys().collect::<Vec<_>>(), aside);
    assert_eq!(decode(&encoded(&read.message, "", "q")).unwrap().message, read.message);
}

#[test]
fn a_header_of_the_wrong_type_is_told_and_goes_on() {
    let data = br#"{"headers": {"task": "t", "id": "i", "retries": "many", "mine": {"__type__": "nobody's", "__value__": 1}}}"#;
    let read = decode(data).unwrap().message;
    assert!(read.headers.malformed().is_some_and(|reason| reason.contains("retries")));
    // An object with an unknown tag is no value; its text is kept.
    assert_eq!(read.headers.get("mine"), Some(Value::from(r#"{"__type__": "nobody's", "__value__": 1}"#)));
    assert_eq!(decode(&encoded(&read, "", "q")).unwrap().message, read);
}
