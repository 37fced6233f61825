//! Declaring, counting, purging.

use std::time::Duration;

use celeriac_broker::{Destination, ErrorKind, ExchangeKind, Outgoing, QueueSpec};
use celeriac_core::{ExchangeName, RoutingKey, Value};

use super::kit::{BrokerKit, message};

const LONG: Duration = Duration::from_secs(3600);

/// The same queue but for one option.
fn with(spec: &QueueSpec, change: impl FnOnce(&mut QueueSpec)) -> QueueSpec {
    let mut spec = spec.clone();
    change(&mut spec);
    spec
}

pub(super) async fn depth_counts_what_waits(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["a", "b", "c"]).await;
    kit.depth(&queue, 3).await;
    let mut consumer = kit.consumer(&queue).await;
    let held = kit.one(&mut consumer).await;
    kit.depth(&queue, 2).await;
    drop(consumer);
    drop(held);
    kit.depth(&queue, 3).await;
}

pub(super) async fn depth_leaves_out_what_is_not_due(kit: &BrokerKit) {
    let queue = kit.queue();
    let later = kit.now() + Duration::from_secs(3600);
    kit.send(vec![Outgoing::new(message("later"), &queue).deliver_at(later), Outgoing::new(message("now"), &queue)])
        .await;
    kit.depth(&queue, 1).await;
    kit.broker.purge(&queue).await.expect("a queue is purged");
}

pub(super) async fn purge_drops_what_waits_and_leaves_what_is_held(kit: &BrokerKit) {
    let queue = kit.queue();
    kit.publish(&queue, ["held", "a", "b"]).await;
    let mut consumer = kit.consumer(&queue).await;
    let held = kit.one(&mut consumer).await;
    let purged = kit.broker.purge(&queue).await.expect("a queue is purged");
    assert_eq!(purged, 2, "`purge` tells how many messages waited");
    drop(held);
    assert_eq!(kit.drain(&mut consumer, 1).await, ["held"], "what was held stays");
    kit.none(&mut consumer, "the others were purged").await;
}

pub(super) async fn purge_drops_what_is_not_due(kit: &BrokerKit) {
    let queue = kit.queue();
    let soon = kit.now() + Duration::from_millis(200);
    kit.send(vec![Outgoing::new(message("soon"), &queue).deliver_at(soon), Outgoing::new(message("now"), &queue)])
        .await;
    assert_eq!(kit.broker.purge(&queue).await.expect("a queue is purged"), 2, "due or not, both are dropped");
    kit.pass(Duration::from_millis(250)).await;
    kit.empty(&queue, "the delayed message was purged").await;
}

pub(super) async fn a_queue_that_does_not_exist_is_empty(kit: &BrokerKit) {
    let queue = kit.queue();
    assert_eq!(kit.broker.depth(&queue).await.expect("`depth` of no queue is no error"), 0);
    assert_eq!(kit.broker.purge(&queue).await.expect("`purge` of no queue is no error"), 0);
}

pub(super) async fn declaring_the_same_again_changes_nothing(kit: &BrokerKit) {
    let spec = QueueSpec::direct(kit.queue());
    kit.broker.declare(&spec).await.expect("a queue is declared");
    kit.publish(&spec.name, ["x"]).await;
    kit.broker.declare(&spec).await.expect("the same queue is declared again");
    let mut consumer = kit.consumer(&spec.name).await;
    kit.broker.declare(&spec).await.expect("the same queue is declared again, while it is consumed");
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"], "the messages are still there");
}

pub(super) async fn declaring_a_queue_otherwise_is_refused(kit: &BrokerKit) {
    let spec = QueueSpec::direct(kit.queue());
    kit.broker.declare(&spec).await.expect("a queue is declared");
    kit.publish(&spec.name, ["x"]).await;
    let capabilities = kit.broker.capabilities();
    let mut others = vec![("durable", with(&spec, |spec| spec.durable = false))];
    if capabilities.max_priority {
        others.push(("max_priority", with(&spec, |spec| spec.max_priority = Some(9))));
    }
    if capabilities.expiration {
        others.push(("message_ttl", with(&spec, |spec| spec.message_ttl = Some(LONG))));
    }
    for (option, other) in others {
        let error = kit.broker.declare(&other).await.expect_err("the queue exists otherwise");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.report().contains(option), "the error names the option `{option}`: {}", error.report());
    }
    let mut consumer = kit.consumer(&spec.name).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"], "the broker is as it was");
}

pub(super) async fn bindings_add_up(kit: &BrokerKit) {
    let queue = kit.queue();
    // Made plain by the publishing.
    kit.publish(&queue, ["0"]).await;
    let exchange = ExchangeName::new(crate::unique("testkit")).expect("a unique name is a valid exchange name");
    let key = RoutingKey::from_static;
    for bound in ["a", "b"] {
        let spec = QueueSpec::unbound(queue.clone()).bound_to(exchange.clone(), ExchangeKind::Direct, key(bound));
        kit.broker.declare(&spec).await.expect("another binding is another wish, and no conflict");
    }
    kit.broker.declare(&QueueSpec::unbound(queue.clone())).await.expect("fewer bindings are no conflict");
    let by = |bound| Destination { exchange: exchange.clone(), routing_key: key(bound) };
    kit.send(vec![Outgoing::new(message("1"), by("a")), Outgoing::new(message("2"), by("b"))]).await;
    let mut consumer = kit.consumer(&queue).await;
    assert_eq!(kit.drain(&mut consumer, 3).await, ["0", "1", "2"], "both bindings hold");
}

fn refused_by_name(option: &str, error: &celeriac_broker::Error) {
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.report().contains(option), "the error names the option `{option}`: {}", error.report());
}

pub(super) async fn max_priority_without_the_capability_is_unsupported(kit: &BrokerKit) {
    let spec = with(&QueueSpec::direct(kit.queue()), |spec| spec.max_priority = Some(9));
    let error = kit.broker.declare(&spec).await.expect_err("the broker cannot limit priorities");
    refused_by_name("max_priority", &error);
}

pub(super) async fn message_ttl_without_expiration_is_unsupported(kit: &BrokerKit) {
    let spec = with(&QueueSpec::direct(kit.queue()), |spec| spec.message_ttl = Some(LONG));
    let error = kit.broker.declare(&spec).await.expect_err("the broker has no expiration");
    refused_by_name("message_ttl", &error);
}

pub(super) async fn auto_delete_is_obeyed_or_refused(kit: &BrokerKit) {
    let mut spec = QueueSpec::direct(kit.queue());
    spec.auto_delete = true;
    if let Err(error) = kit.broker.declare(&spec).await {
        return refused_by_name("auto_delete", &error);
    }
    kit.publish(&spec.name, ["x"]).await;
    let (one, other) = (kit.consumer(&spec.name).await, kit.consumer(&spec.name).await);
    one.cancel().await.expect("a consumer is cancelled");
    kit.broker.declare(&spec).await.expect("the queue is as it was declared");
    other.cancel().await.expect("a consumer is cancelled");
    kit.depth(&spec.name, 0).await;
    spec.auto_delete = false;
    kit.broker.declare(&spec).await.expect("the queue is gone, and can be declared otherwise");
}

pub(super) async fn expires_is_known_or_refused(kit: &BrokerKit) {
    let mut spec = QueueSpec::direct(kit.queue());
    spec.expires = Some(LONG);
    if let Err(error) = kit.broker.declare(&spec).await {
        return refused_by_name("expires", &error);
    }
    kit.publish(&spec.name, ["x"]).await;
    kit.pass(Duration::from_millis(100)).await;
    assert_eq!(kit.drain(&mut kit.consumer(&spec.name).await, 1).await, ["x"], "the queue has not expired");
}

pub(super) async fn an_unknown_argument_is_refused_by_name(kit: &BrokerKit) {
    let mut spec = QueueSpec::direct(kit.queue());
    spec.arguments.insert("x-celeriac-testkit-nonsense".to_owned(), Value::from(1));
    let error = kit.broker.declare(&spec).await.expect_err("the argument is not known");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.report().contains("x-celeriac-testkit-nonsense"), "the error names the argument: {}", error.report());
}
