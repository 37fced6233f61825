//! What a delayed message carries, and what is left of it on arrival.

use celeriac_core::{Headers, Map, QueueName, TaskHeaders, TaskId, TaskName};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_123_456);

fn seconds_later(seconds: u64) -> Timestamp {
    NOW + Duration::from_secs(seconds)
}

fn to(exchange: &'static str, key: &'static str) -> Destination {
    Destination { exchange: ExchangeName::from_static(exchange), routing_key: RoutingKey::from_static(key) }
}

fn message() -> Message {
    let headers = TaskHeaders::new(TaskName::from_static("add"), TaskId::random());
    Message { headers: Headers::from(headers), body: "[[],{},{}]".into(), ..Message::default() }
}

/// Publishes and receives, by this routing key of a level.
fn sent(outgoing: &Outgoing, now: Timestamp, received: Timestamp) -> (Message, Arrival) {
    let mut outgoing = outgoing.clone();
    mark(&mut outgoing, now);
    let exit = Exit::of(&outgoing.destination, ExchangeKind::Topic).unwrap();
    let key = exit.routing_key(5).unwrap();
    let arrival = arrived_at(received, &mut outgoing.message, DELIVERY, &key);
    (outgoing.message, arrival)
}

#[test]
fn bits_stand_before_the_key_as_celery_writes_them() {
    let key = Exit::Queue("orders").routing_key(5).unwrap();
    assert_eq!(key, "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.1.celeriac-queue:orders");
    let (topics, key) = (ExchangeName::from_static("t.1"), RoutingKey::from_static("a.b"));
    let exit = Exit::Topic(&topics, &key);
    assert_eq!(exit.routing_key(0).unwrap(), "0.".repeat(28) + "celeriac-topic:t%2E1.a.b");
    assert_eq!(exit.binding().unwrap(), "*.".repeat(28) + "celeriac-topic:t%2E1.#");
    assert_eq!(inlet(&topics, &RoutingKey::from_static("a.*")).unwrap(), "*.".repeat(28) + "celeriac-topic:t%2E1.a.*");
}

#[test]
fn whole_seconds_are_waited_and_as_many_as_28_bits_hold() {
    assert_eq!(seconds(NOW + Duration::from_millis(2_999), NOW), 2);
    assert_eq!(seconds(NOW + Duration::from_millis(999), NOW), 0);
    assert_eq!(seconds(NOW, seconds_later(1)), 0);
    assert_eq!(seconds(seconds_later(1 << 28), NOW), (1 << 28) - 1);
    assert_eq!(seconds(Timestamp::from_micros(i64::MAX), NOW), (1 << 28) - 1);
    assert_eq!(bits((1 << 28) - 1), "1.".repeat(28));
}

#[test]
fn no_two_destinations_have_one_way_out() {
    let destinations = [
        (to("", "a"), ExchangeKind::Direct),
        (to("", "x.a"), ExchangeKind::Direct),
        (to("", "x%2Ea"), ExchangeKind::Direct),
        (to("a", "b:c"), ExchangeKind::Direct),
        (to("a:b", "c"), ExchangeKind::Direct),
        (to("a", ""), ExchangeKind::Fanout),
        (to("a.b", ""), ExchangeKind::Headers),
        (to("t", "a"), ExchangeKind::Topic),
        (to("t.a", ""), ExchangeKind::Topic),
    ];
    let ways: std::collections::HashSet<String> =
        destinations.iter().map(|(to, kind)| Exit::of(to, *kind).unwrap().routing_key(1).unwrap()).collect();
    assert_eq!(ways.len(), destinations.len());
    // Names that are patterns match themselves alone.
    let odd = to("", "a.#.*");
    assert!(!Exit::of(&odd, ExchangeKind::Direct).unwrap().binding().unwrap()[BITS..].contains('.'));
}

#[test]
fn names_that_are_too_long_to_be_led_back_are_refused() {
    let long = "q".repeat(200);
    assert_eq!(Exit::Queue(&long).routing_key(1), None);
    assert_eq!(Exit::Queue(&long).binding(), None);
    let fitting = "q".repeat(184);
    assert_eq!(Exit::Queue(&fitting).routing_key(1).unwrap().len(), 255);
}

#[test]
fn a_delayed_message_arrives_as_it_was_published() {
    let mut message = message();
    message.headers.set_extra("tenant", "shop");
    message.properties.expiration = Some(Duration::from_millis(90_500));
    let outgoing = Outgoing::new(message.clone(), to("news", "a.b")).deliver_at(seconds_later(60));
    let (came, arrival) = sent(&outgoing, NOW, seconds_later(59));
    assert_eq!(came, message);
    assert_eq!((arrival.exchange.as_str(), arrival.routing_key.as_str()), ("news", "a.b"));
    assert_eq!(arrival.due, Some(seconds_later(60)));
    assert_eq!(arrival.expires, Some(NOW + Duration::from_millis(90_500)));
    assert!(!arrival.expired);
    let (_, late) = sent(&outgoing, NOW, seconds_later(61));
    assert_eq!(late.due, None, "what is due is not held");
}

#[test]
fn a_message_expires_from_its_publishing_however_often_it_waits() {
    let mut message = message();
    message.properties.expiration = Some(Duration::from_secs(100));
    let queue = QueueName::from_static("celery");
    let outgoing = Outgoing::new(message, &queue).deliver_at(seconds_later(60));
    let (mut came, arrival) = sent(&outgoing, NOW, seconds_later(60));
    keep_expiry(&mut came, arrival.expires.unwrap());
    let again = Outgoing::new(came, &queue).deliver_at(seconds_later(90));
    let (came, arrival) = sent(&again, seconds_later(70), seconds_later(90));
    assert_eq!(arrival.expires, Some(seconds_later(100)));
    assert!(!arrival.expired);
    assert_eq!(came.properties.expiration, Some(Duration::from_secs(100)));
    let too_late = Outgoing::new(came.clone(), &queue).deliver_at(seconds_later(220));
    assert!(sent(&too_late, seconds_later(90), seconds_later(90)).1.expired, "it expires before it is due");
    // Due at once, it takes the rest with it.
    let mut at_once = Outgoing::new(came, &queue).deliver_at(seconds_later(80));
    keep_expiry(&mut at_once.message, seconds_later(100));
    assert_eq!(mark(&mut at_once, seconds_later(90)), None);
    assert_eq!(at_once.message.properties.expiration, Some(Duration::from_secs(10)));
    assert_eq!(at_once.message.headers.get(EXPIRES), None);
}

#[test]
fn a_message_that_is_not_delayed_is_left_as_it_is() {
    let mut plain = message();
    plain.properties.expiration = Some(Duration::from_secs(5));
    let mut outgoing = Outgoing::new(plain.clone(), to("", "celery"));
    assert_eq!(mark(&mut outgoing, NOW), None);
    assert_eq!(outgoing.message, plain);
    let arrival = arrived_at(NOW, &mut outgoing.message, "", "0.1.celery");
    assert_eq!(outgoing.message, plain);
    assert_eq!(arrival.routing_key, "0.1.celery", "two bits are no delay");
    assert_eq!((arrival.due, arrival.expires, arrival.expired), (None, None, false));
}

fn death(queue: &str) -> Value {
    let mut death = Map::new();
    death.insert("queue", queue);
    death.insert("reason", "expired");
    Value::Map(death)
}

#[test]
fn what_python_delays_arrives_without_traces_of_the_levels() {
    let plain = message();
    let mut came = plain.clone();
    came.headers.set_extra("x-death", vec![death("celery_delayed_0"), death("celery_delayed_2")]);
    for (place, value) in [("exchange", ENTRY), ("queue", "celery_delayed_2"), ("reason", "expired")] {
        came.headers.set_extra(format!("x-first-death-{place}"), value);
    }
    let key = bits(5) + "orders";
    let arrival = arrived_at(NOW, &mut came, DELIVERY, &key);
    assert_eq!(came, plain);
    assert_eq!(arrival.routing_key, "orders");
    assert_eq!((arrival.due, arrival.expired), (None, false));
}

#[test]
fn deaths_of_other_queues_are_kept() {
    let mut came = message();
    came.headers.set_extra("x-death", vec![death("celery_delayed_0"), death("failed")]);
    came.headers.set_extra("x-first-death-queue", "failed");
    arrived_at(NOW, &mut came, DELIVERY, &(bits(1) + "orders"));
    assert_eq!(came.headers.get("x-death"), Some(Value::from(vec![death("failed")])));
    assert_eq!(came.headers.get("x-first-death-queue"), Some(Value::from("failed")));
    // Published to wait, it must not look as if it went in circles.
    let mut outgoing = Outgoing::new(came, to("", "celery")).deliver_at(seconds_later(9));
    mark(&mut outgoing, NOW);
    assert_eq!(outgoing.message.headers.get("x-death"), None);
}

#[test]
fn headers_of_ours_that_make_no_sense_are_taken_off_and_passed_over() {
    let plain = message();
    for nonsense in [Value::Null, Value::from("soon"), Value::from(vec![Value::from(1)]), Value::Float(1.0)] {
        let mut came = plain.clone();
        for name in [DUE, EXPIRES, PUBLISHED] {
            came.headers.set_extra(name, nonsense.clone());
        }
        let arrival = arrived_at(NOW, &mut came, "news", "key");
        assert_eq!(came, plain);
        assert_eq!((arrival.exchange.as_str(), arrival.routing_key.as_str()), ("news", "key"));
        assert_eq!((arrival.due, arrival.expires), (None, None));
    }
}
