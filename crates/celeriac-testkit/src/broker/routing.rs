//! Exchanges and bindings.

use celeriac_broker::{Destination, ErrorKind, ExchangeKind, Outgoing, QueueSpec, Requeue};
use celeriac_core::{ExchangeName, Map, RoutingKey, Value};

use super::kit::{BrokerKit, message, text};

fn exchange() -> ExchangeName {
    ExchangeName::new(crate::unique("testkit")).expect("a unique name is a valid exchange name")
}

fn to(exchange: &ExchangeName, key: &'static str) -> Destination {
    Destination { exchange: exchange.clone(), routing_key: RoutingKey::from_static(key) }
}

/// A queue bound to `exchange` by `keys`.
async fn bound(kit: &BrokerKit, exchange: &ExchangeName, kind: ExchangeKind, keys: &[&'static str]) -> QueueSpec {
    let spec = keys.iter().fold(QueueSpec::unbound(kit.queue()), |spec, key| {
        spec.bound_to(exchange.clone(), kind, RoutingKey::from_static(key))
    });
    kit.broker.declare(&spec).await.expect("a bound queue is declared");
    spec
}

/// Publishes one message for each key, with the key as its body.
async fn publish(kit: &BrokerKit, exchange: &ExchangeName, keys: &[&'static str]) {
    kit.send(keys.iter().map(|key| Outgoing::new(message(*key), to(exchange, key))).collect()).await;
}

/// Sees to it that exactly these messages are in the queue.
async fn holds(kit: &BrokerKit, queue: &QueueSpec, bodies: &[&str]) {
    let mut consumer = kit.consumer(&queue.name).await;
    assert_eq!(kit.drain(&mut consumer, bodies.len()).await, bodies, "what the exchange routed to the queue");
    kit.none(&mut consumer, "nothing else is routed to this queue").await;
}

/// As [`holds`], after some of them came back.
async fn still_holds(kit: &BrokerKit, queue: &QueueSpec, bodies: &[&str]) {
    let mut consumer = kit.consumer(&queue.name).await;
    let came = kit.drain(&mut consumer, bodies.len()).await;
    assert_eq!(kit.after_coming_back(came), bodies, "what the exchange routed to the queue");
    kit.none(&mut consumer, "nothing else is routed to this queue").await;
}

pub(super) async fn an_unknown_exchange_is_not_found(kit: &BrokerKit) {
    let batch = vec![Outgoing::new(message("x"), to(&exchange(), "key"))];
    let error = kit.broker.publish(batch).await.expect_err("the exchange was never declared");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let queue = kit.queue();
    kit.publish(&queue, ["x"]).await;
    let mut consumer = kit.consumer(&queue).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"], "the broker works on");
}

pub(super) async fn an_unroutable_key_is_not_found(kit: &BrokerKit) {
    let exchange = exchange();
    let queue = bound(kit, &exchange, ExchangeKind::Direct, &["known"]).await;
    let batch = vec![Outgoing::new(message("x"), to(&exchange, "unknown"))];
    let error = kit.broker.publish(batch).await.expect_err("no queue is bound by the key");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    kit.empty(&queue.name, "the key is not the queue's").await;
}

pub(super) async fn a_batch_that_cannot_be_routed_publishes_nothing_unseen(kit: &BrokerKit) {
    let queue = kit.queue();
    let batch = vec![
        Outgoing::new(message("before"), &queue),
        Outgoing::new(message("nowhere"), to(&exchange(), "key")),
        Outgoing::new(message("after"), &queue),
    ];
    let error = kit.broker.publish(batch).await.expect_err("one message cannot be routed");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    // Then no message of the batch is published, or it is not known which: both are allowed. The marker tells where the batch ends.
    kit.publish(&queue, ["marker"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let mut came = Vec::new();
    while came.last().is_none_or(|last| last != "marker") {
        came.append(&mut kit.drain(&mut consumer, 1).await);
    }
    let allowed: [&[&str]; 3] = [&["marker"], &["before", "marker"], &["before", "after", "marker"]];
    assert!(allowed.iter().any(|bodies| came == *bodies), "a batch is published in order, but this came: {came:?}");
}

pub(super) async fn a_direct_exchange_routes_by_its_keys(kit: &BrokerKit) {
    let exchange = exchange();
    let one = bound(kit, &exchange, ExchangeKind::Direct, &["a", "b"]).await;
    let other = bound(kit, &exchange, ExchangeKind::Direct, &["b", "b.c"]).await;
    publish(kit, &exchange, &["a", "b", "b.c"]).await;
    let mut consumer = kit.consumer(&one.name).await;
    let delivery = kit.one(&mut consumer).await;
    assert_eq!(delivery.exchange, exchange, "a delivery names the exchange it was published to");
    assert_eq!(
        delivery.routing_key,
        text(&delivery).as_str(),
        "a delivery names the routing key it was published with"
    );
    delivery.reject(Requeue::Yes).await.expect("a held delivery is rejected");
    consumer.cancel().await.expect("a consumer is cancelled");
    still_holds(kit, &one, &["a", "b"]).await;
    holds(kit, &other, &["b", "b.c"]).await;
}

pub(super) async fn a_fanout_exchange_copies_to_every_queue(kit: &BrokerKit) {
    let exchange = exchange();
    let one = bound(kit, &exchange, ExchangeKind::Fanout, &[""]).await;
    let other = bound(kit, &exchange, ExchangeKind::Fanout, &[""]).await;
    publish(kit, &exchange, &["x", "y"]).await;
    let mut consumer = kit.consumer(&one.name).await;
    let held = kit.one(&mut consumer).await;
    holds(kit, &other, &["x", "y"]).await;
    drop(held);
    // Until then it may have been sent what the delivery let go.
    consumer.cancel().await.expect("a consumer is cancelled");
    still_holds(kit, &one, &["x", "y"]).await;
}

pub(super) async fn a_fanout_exchange_without_a_match_takes_everything(kit: &BrokerKit) {
    let exchange = exchange();
    let queue = bound(kit, &exchange, ExchangeKind::Fanout, &["one"]).await;
    publish(kit, &exchange, &["one", "two.three"]).await;
    holds(kit, &queue, &["one", "two.three"]).await;
}

pub(super) async fn an_exchange_of_another_kind_is_refused(kit: &BrokerKit) {
    let exchange = exchange();
    let queue = bound(kit, &exchange, ExchangeKind::Fanout, &[""]).await;
    let other =
        QueueSpec::unbound(kit.queue()).bound_to(exchange.clone(), ExchangeKind::Direct, RoutingKey::from_static("k"));
    let error = kit.broker.declare(&other).await.expect_err("the exchange is a fanout");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    publish(kit, &exchange, &["x"]).await;
    holds(kit, &queue, &["x"]).await;
}

pub(super) async fn a_topic_exchange_routes_by_patterns(kit: &BrokerKit) {
    let exchange = exchange();
    let star = bound(kit, &exchange, ExchangeKind::Topic, &["*.created"]).await;
    let hash = bound(kit, &exchange, ExchangeKind::Topic, &["order.#", "order.*"]).await;
    let exact = bound(kit, &exchange, ExchangeKind::Topic, &["order.created.eu"]).await;
    publish(kit, &exchange, &["order", "order.created", "mail.created", "order.created.eu"]).await;
    holds(kit, &star, &["order.created", "mail.created"]).await;
    holds(kit, &hash, &["order", "order.created", "order.created.eu"]).await;
    holds(kit, &exact, &["order.created.eu"]).await;
    let batch = vec![Outgoing::new(message("x"), to(&exchange, "nothing.like.it"))];
    let error = kit.broker.publish(batch).await.expect_err("no pattern matches the key");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

fn map(entries: &[(&str, &str)]) -> Map {
    entries.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
}

/// A queue bound to `exchange` by each of these arguments.
async fn bound_by_headers(kit: &BrokerKit, exchange: &ExchangeName, bindings: &[&[(&str, &str)]]) -> QueueSpec {
    let spec = bindings.iter().fold(QueueSpec::unbound(kit.queue()), |spec, arguments| {
        spec.bound_by_headers(exchange.clone(), map(arguments))
    });
    kit.broker.declare(&spec).await.expect("a bound queue is declared");
    spec
}

pub(super) async fn a_headers_exchange_routes_by_headers(kit: &BrokerKit) {
    let exchange = exchange();
    let all = bound_by_headers(kit, &exchange, &[&[("colour", "red"), ("size", "big")]]).await;
    let any = bound_by_headers(kit, &exchange, &[&[("x-match", "any"), ("colour", "red"), ("size", "big")]]).await;
    let twice = bound_by_headers(kit, &exchange, &[&[("colour", "red")], &[("size", "big")]]).await;
    let outgoing = |body: &str, headers: &[(&str, &str)]| {
        let mut message = message(body);
        map(headers).into_iter().for_each(|(name, value)| message.headers.set_extra(name, value));
        Outgoing::new(message, to(&exchange, "a key that means nothing"))
    };
    let red = outgoing("red", &[("colour", "red"), ("size", "small")]);
    kit.send(vec![outgoing("both", &[("colour", "red"), ("size", "big"), ("form", "round")]), red]).await;
    holds(kit, &all, &["both"]).await;
    holds(kit, &any, &["both", "red"]).await;
    holds(kit, &twice, &["both", "red"]).await;
    let batch = vec![outgoing("x", &[("colour", "blue")])];
    let error = kit.broker.publish(batch).await.expect_err("no queue is bound for these headers");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

async fn kind_is_unsupported(kit: &BrokerKit, kind: ExchangeKind) {
    let spec = QueueSpec::unbound(kit.queue()).bound_to(exchange(), kind, RoutingKey::from_static("k"));
    let error = kit.broker.declare(&spec).await.expect_err("the broker has no such exchange");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.report().contains(kind.as_str()), "the error names the capability: {}", error.report());
}

pub(super) async fn fanout_without_the_capability_is_unsupported(kit: &BrokerKit) {
    kind_is_unsupported(kit, ExchangeKind::Fanout).await;
}

pub(super) async fn headers_without_the_capability_is_unsupported(kit: &BrokerKit) {
    kind_is_unsupported(kit, ExchangeKind::Headers).await;
}

pub(super) async fn topic_without_the_capability_is_unsupported(kit: &BrokerKit) {
    kind_is_unsupported(kit, ExchangeKind::Topic).await;
}

pub(super) async fn a_bound_queue_is_still_fed_by_its_name(kit: &BrokerKit) {
    let exchange = exchange();
    let queue = bound(kit, &exchange, ExchangeKind::Direct, &["key"]).await;
    publish(kit, &exchange, &["key"]).await;
    kit.publish(&queue.name, ["by name"]).await;
    holds(kit, &queue, &["key", "by name"]).await;
}
