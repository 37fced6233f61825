//! Declaring, counting, purging.

use std::time::Duration;

use celeriac_broker::{ErrorKind, Outgoing, QueueSpec};
use celeriac_core::Value;

use super::kit::{BrokerKit, message};

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
    let mut spec = QueueSpec::direct(kit.queue());
    kit.broker.declare(&spec).await.expect("a queue is declared");
    kit.publish(&spec.name, ["x"]).await;
    spec.durable = false;
    let error = kit.broker.declare(&spec).await.expect_err("the queue exists, and is durable");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.report().contains("durable"), "the error names the option: {}", error.report());
    let mut consumer = kit.consumer(&spec.name).await;
    assert_eq!(kit.drain(&mut consumer, 1).await, ["x"], "the broker is as it was");
}

pub(super) async fn an_unknown_argument_is_refused_by_name(kit: &BrokerKit) {
    let mut spec = QueueSpec::direct(kit.queue());
    spec.arguments.insert("x-celeriac-testkit-nonsense".to_owned(), Value::from(1));
    let error = kit.broker.declare(&spec).await.expect_err("the argument is not known");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.report().contains("x-celeriac-testkit-nonsense"), "the error names the argument: {}", error.report());
}
