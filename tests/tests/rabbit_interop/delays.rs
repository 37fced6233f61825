//! Tasks for later: those of Rust and, where its queues allow, those of Python wait in Celery's native delayed delivery.

use std::time::Duration;

use celeriac::broker::ExchangeKind;
use celeriac::core::{ExchangeName, RoutingKey};
use celeriac::{AsyncResult, Prefetch, QueueName, QueueSpec, Signature, TaskState, Timestamp, Value};
use celeriac_tests::python::PythonWorker;
use celeriac_tests::until;
use serde_json::{Value as Json, json};

use crate::expiry::{assert_expired, reach};
use crate::support::{Bench, PATIENCE, RustWorker, assert_accepted, quorum};

const HOUR: Duration = Duration::from_secs(3_600);
/// Where a task that is due in an hour, or a little less, waits first.
const LEVEL: &str = "celery_delayed_11";

/// A task that Python adds with, at its time.
fn later(eta: Timestamp) -> Signature {
    Signature::named("peers.add").arg(1).arg(2).option("eta", eta.to_string())
}

/// Waits until it has ended, and sees to it that its time had come.
async fn assert_not_early(result: &AsyncResult<Value>, due: Timestamp) {
    let meta = tokio::time::timeout(PATIENCE, result.wait()).await.unwrap().unwrap();
    assert_eq!(meta.state, TaskState::Success);
    assert!(meta.date_done.unwrap() >= due, "{:?} before {due}", meta.date_done);
}

/// Has Rust send tasks for later, and sees to it that `python` gets each when it is due.
async fn assert_rust_delays_for(bench: &Bench, python: &PythonWorker) {
    let far = bench.app.send(later(Timestamp::now() + HOUR)).await.unwrap();
    bench.until(LEVEL, (1, 0)).await;
    for wait in [300, 1_700, 3_000].map(Duration::from_millis) {
        let eta = Timestamp::now() + wait;
        assert_not_early(&bench.app.send(later(eta)).await.unwrap(), eta).await;
        let due = Timestamp::now() + wait;
        let call = Signature::named("peers.add").arg(1).arg(2).option("countdown", wait.as_secs_f64());
        assert_not_early(&bench.app.send(call).await.unwrap(), due).await;
    }
    // A task that was delayed is sent once more by Python itself, when it is to be tried again.
    let call = Signature::named("peers.retry").arg(2).kwarg("countdown", 1).option("countdown", 1.5);
    assert_eq!(bench.get(call).await.unwrap(), 2);
    bench.is_empty("celery").await;
    assert_eq!(bench.count(LEVEL).await, (1, 0));
    assert!(!python.log().contains(far.id().as_str()), "no worker holds it");
    assert_accepted(python);
}

#[tokio::test]
async fn what_rust_delays_comes_to_python_when_it_is_due() {
    let bench = Bench::new().await;
    let python = bench.solo(json!({})).await;
    assert_rust_delays_for(&bench, &python).await;
}

#[tokio::test]
async fn what_rust_delays_comes_to_a_quorum_queue_of_python_when_it_is_due() {
    for delay_queue_type in ["quorum", "classic"] {
        let mut settings = quorum();
        settings["broker_native_delayed_delivery_queue_type"] = json!(delay_queue_type);
        // Rust takes the levels as Python has declared them, of whatever type.
        let bench = Bench::with(&settings, "?queue_type=quorum", |app| app).await;
        let python = bench.solo(settings).await;
        assert_rust_delays_for(&bench, &python).await;
        let level = bench.vhost.queue_info(LEVEL).await.unwrap();
        assert_eq!(level.arguments["x-queue-type"], delay_queue_type);
    }
}

#[tokio::test]
async fn python_takes_what_rust_has_declared_to_delay() {
    for delay_queue_type in ["quorum", "classic"] {
        let bench = Bench::with(&quorum(), &format!("?queue_type=quorum&delay_queue_type={delay_queue_type}"), |app| {
            app.queue(of_python())
        })
        .await;
        bench.app.send(later(Timestamp::now() + HOUR)).await.unwrap();
        bench.until(LEVEL, (1, 0)).await;
        let mut settings = quorum();
        settings["broker_native_delayed_delivery_queue_type"] = json!(delay_queue_type);
        let python = bench.solo(settings).await;
        assert_accepted(&python);
        let due = Timestamp::now() + Duration::from_secs(1);
        let id = bench.client.send("peers.add", json!([1, 2]), json!({}), json!({"countdown": 1})).await;
        assert_not_early(&bench.result(&id), due).await;
    }
}

/// The queue as Python declares it where it uses native delayed delivery.
fn of_python() -> QueueSpec {
    let (exchange, key) = (ExchangeName::from_static("celery"), RoutingKey::from_static("celery"));
    QueueSpec::unbound(QueueName::from_static("celery")).bound_to(exchange, ExchangeKind::Topic, key)
}

/// Has Python send tasks for later, and sees to it that Rust runs each when it is due.
async fn assert_python_delays_for_rust(bench: &Bench) {
    let send = async |options: Json| bench.client.send("rust.now", json!([]), json!({}), options).await;
    // Of less than a second Python's native delayed delivery makes an error.
    for wait in [1_700, 3_000].map(Duration::from_millis) {
        let eta = Timestamp::now() + wait;
        let by_eta = send(json!({"eta": eta.to_string()})).await;
        let countdown = Timestamp::now() + wait;
        let by_countdown = send(json!({"countdown": wait.as_secs_f64()})).await;
        for (id, due) in [(by_eta, eta), (by_countdown, countdown)] {
            let ran = bench.client.get(&id).await.unwrap().as_i64().unwrap();
            assert!(ran >= due.as_micros(), "it ran {} us early", due.as_micros() - ran);
        }
    }
}

#[tokio::test]
async fn what_python_delays_comes_to_rust_when_it_is_due() {
    let bench = Bench::with(&quorum(), "?queue_type=quorum", |app| app.queue(of_python())).await;
    bench.rust().await.stop().await;
    // No worker runs: Python has put it there itself.
    let far = bench.client.send("rust.now", json!([]), json!({}), json!({"countdown": 3_600})).await;
    bench.until(LEVEL, (1, 0)).await;
    let _worker = bench.rust().await;
    assert_python_delays_for_rust(&bench).await;
    // It knows nothing of the way that the message has taken.
    let id = bench.client.send("peers.request", json!([]), json!({}), json!({"countdown": 2})).await;
    let seen = bench.client.get(&id).await.unwrap();
    assert_eq!((&seen["queue"], &seen["routing_key"]), (&json!("celery"), &json!("celery")), "{seen}");
    assert_eq!(seen["extra"], json!({}));
    bench.is_empty("celery").await;
    assert_eq!(bench.client.state(&far).await.0, "PENDING");
    assert_eq!(bench.count(LEVEL).await, (1, 0));
}

#[tokio::test]
async fn what_python_delays_beside_its_own_worker_is_worked_by_rust_too() {
    let bench = Bench::with(&quorum(), "?queue_type=quorum", |app| app).await;
    let python = bench.solo(quorum()).await;
    assert_accepted(&python);
    python.stop().await;
    let _worker = bench.rust().await;
    bench.client.send("rust.now", json!([]), json!({}), json!({"countdown": 3_600})).await;
    bench.until(LEVEL, (1, 0)).await;
    assert_python_delays_for_rust(&bench).await;
}

#[tokio::test]
async fn what_python_does_not_delay_is_parked_by_rust() {
    // Of a zone that is not UTC: its times are written with an offset.
    for (settings, options) in [
        (json!({"timezone": "Asia/Kolkata"}), ""),
        // Python delays nothing for direct exchanges.
        (json!({"task_default_queue_type": "quorum"}), "?queue_type=quorum"),
    ] {
        let bench = Bench::with(&settings, options, |app| app).await;
        let far = bench.client.send("rust.now", json!([]), json!({}), json!({"countdown": 3_600})).await;
        bench.until("celery", (1, 0)).await;
        let _worker = bench.rust().await;
        bench.until(LEVEL, (1, 0)).await;
        bench.is_empty("celery").await;
        assert_python_delays_for_rust(&bench).await;
        let soon = bench.client.send("peers.add", json!([1, 2]), json!({}), json!({"countdown": 0.2})).await;
        assert_eq!(bench.client.get(&soon).await.unwrap(), 3);
        assert_eq!(bench.client.state(&far).await.0, "PENDING");
        assert_eq!(bench.count(LEVEL).await, (1, 0));
    }
}

#[tokio::test]
async fn a_thousand_tasks_for_later_are_in_no_workers_hands() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let by_python = "len([trace.apply_async((n,), countdown=3600) for n in range(500)])";
    let calls = (0..500).map(|n| Signature::named("peers.trace").arg(n).option("countdown", 3_600));
    bench.app.send_batch(calls).await.unwrap();
    assert_eq!(bench.client.evaluate(by_python).await, 500);
    bench.until(LEVEL, (1_000, 0)).await;
    bench.is_empty("celery").await;
    assert_eq!(bench.call("peers.add", json!([1, 2])).await.unwrap(), 3);
    until("nothing has come back", async || bench.count(LEVEL).await == (1_000, 0)).await;
    assert!(bench.traces().is_empty());
}

#[tokio::test]
async fn what_python_sends_to_expire_is_dropped_by_rabbitmq_and_revoked_by_a_worker_that_has_it() {
    let bench = Bench::new().await;
    let dropped = bench.client.send("rust.now", json!([]), json!({}), json!({"expires": 0.1})).await;
    let fresh = bench.client.send("peers.add", json!([1, 2]), json!({}), json!({"expires": 600})).await;
    bench.until("celery", (1, 0)).await;
    let _worker = RustWorker::start(bench.app.worker().concurrency(1).prefetch(Prefetch::Fixed(10))).await;
    assert_eq!(bench.client.get(&fresh).await.unwrap(), 3);
    // It waits in the worker until another one has ended.
    let running = bench.send("rust.end", json!(["success"])).await;
    let soon = Timestamp::now() + Duration::from_secs(5);
    let options = json!({"expires": soon.to_string()});
    let expired = bench.client.send("rust.now", json!([]), json!({}), options).await;
    bench.until("celery", (0, 2)).await;
    reach(soon).await;
    bench.gate.open(1);
    assert_eq!(bench.client.get(&running).await.unwrap(), 1);
    assert_expired(&bench, &expired).await;
    assert_eq!(bench.client.state(&dropped).await.0, "PENDING");
    // What is parked is dropped too.
    let options = json!({"countdown": 0.4, "expires": 0.2});
    let parked = bench.client.send("peers.trace", json!([1]), json!({}), options).await;
    let later = bench.client.send("peers.trace", json!([2]), json!({}), json!({"countdown": 0.6})).await;
    assert_eq!(bench.client.get(&later).await.unwrap(), 2);
    bench.is_empty("celery").await;
    assert_eq!((bench.traces(), bench.client.state(&parked).await.0.as_str()), (vec![2], "PENDING"));
}
