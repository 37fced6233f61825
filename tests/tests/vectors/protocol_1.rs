//! Captured messages of protocol 1, run by a worker.

use celeriac_core::{TaskState, Value};

use crate::captured::Captured;
use crate::running::{Running, failure, result};

async fn run(file: &str, name: &str) -> (Captured, celeriac_core::TaskMeta) {
    let running = Running::start();
    let captured = Captured::named(file, name);
    running.publish(captured.message.clone()).await;
    let meta = running.ended(captured.body["id"].as_str().unwrap()).await;
    running.still_works().await;
    running.stop().await;
    (captured, meta)
}

#[tokio::test]
async fn captured_tasks_of_protocol_1_give_their_results() {
    for (file, name, sum) in [
        ("amqp_task_messages", "proto1_basic", 5),
        // Their ETA is past: it does not hold them up, with or without UTC.
        ("amqp_task_messages", "proto1_noutc", 5),
        ("redis_envelopes", "proto1", 5),
        ("canvas_amqp", "v1_group[0]", 2),
        ("canvas_amqp", "v1_group[1]", 4),
    ] {
        let (_, meta) = run(file, name).await;
        if meta.state == TaskState::Failure {
            panic!("{name}: {}", failure(&meta));
        }
        assert_eq!((&meta.state, result(&meta)), (&TaskState::Success, Value::from(sum)), "{name}");
    }
}

#[tokio::test]
async fn the_taskset_of_protocol_1_is_the_group() {
    let (captured, meta) = run("canvas_amqp", "v1_group[0]").await;
    assert_eq!(meta.group_id.as_deref(), captured.body["taskset"].as_str());
    assert!(meta.group_id.is_some());
}

#[tokio::test]
async fn what_follows_a_task_of_protocol_1_is_not_lost_in_silence() {
    for name in ["v1_chain[0]", "v1_chord[0]", "v1_chord[1]"] {
        let (_, meta) = run("canvas_amqp", name).await;
        assert_eq!(failure(&meta).exc_type, "Unsupported", "{name}");
    }
}

#[tokio::test]
async fn an_expired_task_of_protocol_1_is_revoked() {
    let (_, meta) = run("amqp_task_messages", "proto1_options").await;
    assert_eq!((&meta.state, failure(&meta).message().as_str()), (&TaskState::Revoked, "expired"));
}
