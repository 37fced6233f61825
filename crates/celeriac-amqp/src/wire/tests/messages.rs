//! Messages of Python's Celery, read and written; and what is in a message besides.

use std::time::Duration;

use celeriac_core::{
    ContentType, DeliveryMode, ErrorKind, Headers, Map, Message, Priority, Properties, TaskHeaders, TaskId, TaskName,
    Value,
};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::captured::{captured, one};
use crate::wire::{header_frame, map, message, properties};

fn with_extra<V: Into<Value>>(entries: impl IntoIterator<Item = (&'static str, V)>) -> Message {
    let properties = Properties { extra: entries.into_iter().collect(), ..Properties::default() };
    Message { properties, ..Message::default() }
}

/// Sent and received.
fn back(sent: &Message) -> Message {
    message(&properties(sent).unwrap(), sent.body.to_vec())
}

#[test]
fn every_captured_message_is_read_as_python_sees_it() {
    let all = captured();
    assert!(all.len() >= 200, "only {} messages were found", all.len());
    for captured in all {
        let read = message(&captured.came(), captured.body.clone());
        assert_eq!(read.headers.to_map(), captured.headers, "{}", captured.name);
        assert_eq!(read.properties.to_map(), captured.properties, "{}", captured.name);
        assert_eq!(read.body, captured.body, "{}", captured.name);
        assert_eq!(read.headers.malformed(), None, "{}", captured.name);
    }
}

#[test]
fn every_captured_message_is_written_as_python_wrote_it() {
    for captured in captured() {
        let came = captured.came();
        let written = properties(&message(&came, captured.body.clone())).unwrap();
        let (headers, theirs) = (written.headers().clone().unwrap(), came.headers().clone().unwrap());
        for (name, field) in &theirs {
            let ours = headers.inner().get(name);
            match (captured.name.as_str(), name.as_str()) {
                // Python takes 64 bits for the least that 32 hold, RabbitMQ for what it counts itself.
                ("custom_headers_types", "min32") => assert_eq!(ours, Some(&AMQPValue::LongInt(i32::MIN))),
                (_, "x-delivery-count") => assert_eq!(ours, Some(&AMQPValue::LongInt(1))),
                (_, "x-death") => assert_eq!(crate::wire::value(field), crate::wire::value(ours.unwrap())),
                _ => assert_eq!(ours, Some(field), "{}: {name}", captured.name),
            }
        }
        assert_eq!(headers.inner().len(), theirs.inner().len(), "{}", captured.name);
        let all_but_headers = |properties: &BasicProperties| properties.clone().with_headers(FieldTable::default());
        assert_eq!(all_but_headers(&written), all_but_headers(&came), "{}", captured.name);
    }
}

#[test]
fn the_length_of_a_captured_frame_is_told() {
    for captured in captured() {
        assert_eq!(header_frame(&captured.came()), captured.raw.len() + 8, "{}", captured.name);
    }
}

#[test]
fn the_parts_of_a_captured_message_are_told() {
    let captured = one("basic_args");
    let Message { headers, properties, body } = message(&captured.came(), captured.body);
    let task = headers.task().unwrap();
    assert_eq!((task.task.as_str(), task.lang.as_ref()), ("wire.add", "py"));
    assert_eq!(properties.content_type, Some(ContentType::JSON));
    assert_eq!(properties.content_encoding.as_deref(), Some("utf-8"));
    assert_eq!(properties.correlation_id.unwrap().as_str(), task.id.as_str());
    assert_eq!(properties.delivery_mode, Some(DeliveryMode::Persistent));
    assert_eq!(properties.priority, Some(Priority(0)));
    assert_eq!(properties.expiration, None);
    assert!(properties.extra.is_empty(), "{:?}", properties.extra);
    assert_eq!(body, r#"[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#);
}

#[test]
fn what_a_dead_letter_tells_of_its_way_is_read() {
    let captured = one("delivered_after_delay");
    let read = message(&captured.came(), captured.body);
    let deaths = read.headers.get("x-death").unwrap();
    let death = deaths.at(0).unwrap();
    assert_eq!(death.get("count"), Some(&Value::from(1)));
    assert_eq!(death.get("queue"), Some(&Value::from("celery_delayed_0")));
    assert_eq!(death.get("time"), Some(&Value::DateTime("2026-11-22T07:31:43+00:00".parse().unwrap())));
    assert_eq!(read.headers.malformed(), None);
}

#[test]
fn a_message_that_says_nothing_comes_back_saying_nothing() {
    let sent = properties(&Message::default()).unwrap();
    // Without a type a Python worker would die of it; of this one it refuses it.
    assert_eq!(sent.content_type().as_ref().unwrap().as_str(), "application/x-untyped");
    assert_eq!(message(&sent, Vec::new()), Message::default());
    assert_eq!(message(&BasicProperties::default(), Vec::new()), Message::default());
}

#[test]
fn every_property_of_amqp_goes_both_ways() {
    let sent = BasicProperties::default()
        .with_headers(FieldTable::default())
        .with_content_type("text/x-mine".into())
        .with_content_encoding("latin-1".into())
        .with_delivery_mode(1)
        .with_priority(255)
        .with_correlation_id("correlation".into())
        .with_reply_to("reply".into())
        .with_expiration("1500".into())
        .with_message_id("message".into())
        .with_timestamp(1_893_542_400)
        .with_type("kind".into())
        .with_user_id("user".into())
        .with_app_id("app".into())
        .with_cluster_id("cluster".into());
    let read = message(&sent, Vec::new());
    assert_eq!(read.properties.delivery_mode, Some(DeliveryMode::Transient));
    assert_eq!(read.properties.expiration, Some(Duration::from_millis(1500)));
    assert_eq!(read.properties.extra.get("timestamp"), Some(&Value::from(1_893_542_400)));
    assert_eq!(properties(&read).unwrap(), sent);
}

#[test]
fn a_property_of_the_wrong_form_is_kept_aside_and_goes_on() {
    let sent = BasicProperties::default()
        .with_headers(FieldTable::default())
        .with_content_type("json".into())
        .with_delivery_mode(7)
        .with_expiration("soon".into());
    let read = message(&sent, Vec::new());
    let aside: Vec<&str> = read.properties.extra.keys().collect();
    assert_eq!(aside, ["content_type", "expiration", "delivery_mode"]);
    assert_eq!(properties(&read).unwrap(), sent);
}

#[test]
fn what_amqp_has_no_place_for_is_left_out() {
    let sent = with_extra([("app_id", "shop"), ("delivery_tag", "mine"), ("colour", "red"), ("timestamp", "noon")]);
    assert_eq!(back(&sent).properties.extra.keys().collect::<Vec<_>>(), ["app_id"]);
    assert_eq!(back(&with_extra([("priority", 300)])).properties, Properties::default());
}

#[test]
fn no_priority_is_not_priority_zero() {
    for priority in [None, Some(Priority(0)), Some(Priority(9)), Some(Priority(255))] {
        let properties = Properties { priority, ..Properties::default() };
        assert_eq!(back(&Message { properties, ..Message::default() }).properties.priority, priority);
    }
}

#[test]
fn what_amqp_cannot_hold_is_refused_by_name() {
    let long = "x".repeat(256);
    let mut headers = Headers::new();
    headers.set_extra(&*long, 1);
    let mut nested = Headers::new();
    nested.set_extra("a", [(&*long, 1)].into_iter().collect::<Map>());
    let mut deep = Headers::new();
    deep.set_extra("a", (0..129).fold(Value::Null, |inner, _| Value::from(vec![inner])));
    let of = |properties| Message { properties, ..Message::default() };
    let with = |headers| Message { headers, ..Message::default() };
    for (refused, word) in [
        (with(headers), "name of a header"),
        (with(nested), "name of a header"),
        (with(deep), "128 deep"),
        (of(Properties { content_encoding: Some(long.clone().into()), ..Properties::default() }), "content encoding"),
        (of(Properties { expiration: Some(Duration::from_millis(1 << 32)), ..Properties::default() }), "expiration"),
        (with_extra([("app_id", long.as_str())]), "`app_id`"),
    ] {
        let error = properties(&refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.message().contains(word), "{error}");
    }
    let fits = Properties { expiration: Some(Duration::from_millis((1 << 32) - 1)), ..Properties::default() };
    assert_eq!(back(&of(fits.clone())).properties, fits);
}

#[test]
fn a_header_of_the_wrong_type_is_told_and_goes_on() {
    let mut table = Headers::from(TaskHeaders::new(TaskName::from_static("t"), TaskId::from_static("i"))).to_map();
    table.insert("retries", "many");
    let sent = Message { headers: Headers::from_map(table), ..Message::default() };
    let read = back(&sent);
    assert!(read.headers.malformed().is_some_and(|reason| reason.contains("retries")));
    assert_eq!(read, sent);
    let written = properties(&read).unwrap().headers().clone().unwrap();
    assert_eq!(map(&written), sent.headers.to_map());
}
