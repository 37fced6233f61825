//! ETAs both ways, and what Python sends to expire.

use std::time::Duration;

use celeriac::{AsyncResult, QueueName, QueueSpec, Signature, TaskState, Timestamp, Value};
use celeriac_tests::python::PythonOptions;
use celeriac_tests::until;
use serde_json::{Value as Json, json};

use crate::expiry::{assert_expired, reach};
use crate::support::{Bench, PATIENCE};

const HOUR: Duration = Duration::from_secs(3_600);
const PARKED: [&str; 2] = ["ZCARD", "_celeriac.parked.celery"];

#[tokio::test]
async fn a_task_of_python_for_later_is_parked_by_rust_and_runs_when_it_is_due() {
    // Of a zone that is not UTC: its times are written with an offset.
    let bench = Bench::with(&json!({"timezone": "Asia/Kolkata"}), "", |app| app).await;
    let _worker = bench.rust().await;
    let send = async |options: Json| bench.client.send("rust.now", json!([]), json!({}), options).await;
    let far = send(json!({"countdown": 3600})).await;
    bench.until(&PARKED, "1").await;
    bench.until(&["HLEN", "unacked"], "0").await;
    let eta = Timestamp::now() + Duration::from_millis(500);
    let by_eta = send(json!({"eta": eta.to_string()})).await;
    let countdown = Timestamp::now() + Duration::from_millis(700);
    let by_countdown = send(json!({"countdown": 0.7})).await;
    for (id, due) in [(by_eta, eta), (by_countdown, countdown)] {
        let ran = bench.client.get(&id).await.unwrap().as_i64().unwrap();
        assert!(ran >= due.as_micros(), "it ran {} us early", due.as_micros() - ran);
    }
    assert_eq!(bench.client.state(&far).await.0, "PENDING");
    assert_eq!(bench.ask(&PARKED).await, "1");
}

/// A task that Python adds with, at its time.
fn later(eta: Timestamp, queue: &str) -> Signature {
    Signature::named("peers.add").arg(1).arg(2).option("eta", eta.to_string()).option("queue", queue)
}

/// Waits until it has ended, and sees to it that its time had come.
async fn assert_not_early(result: &AsyncResult<Value>, due: Timestamp) {
    let meta = tokio::time::timeout(PATIENCE, result.wait()).await.unwrap().unwrap();
    assert_eq!(meta.state, TaskState::Success);
    assert!(meta.date_done.unwrap() >= due, "{:?} before {due}", meta.date_done);
}

#[tokio::test]
async fn a_task_of_rust_for_later_has_celerys_form_while_only_python_works() {
    let bench = Bench::new().await;
    let python = bench.solo(json!({})).await;
    let far = bench.app.send(later(Timestamp::now() + HOUR, "celery")).await.unwrap();
    until("Python holds it", async || python.log().contains(&format!("peers.add[{}] received", far.id()))).await;
    assert_eq!(bench.ask(&PARKED).await, "0");
    assert_eq!(bench.ask(&["HLEN", "unacked"]).await, "1");
    let eta = Timestamp::now() + Duration::from_millis(500);
    let by_eta = bench.app.send(later(eta, "celery")).await.unwrap();
    let countdown = Timestamp::now() + Duration::from_millis(700);
    let call = Signature::named("peers.add").arg(1).arg(2).option("countdown", 0.7);
    let by_countdown = bench.app.send(call).await.unwrap();
    assert_not_early(&by_eta, eta).await;
    assert_not_early(&by_countdown, countdown).await;
}

#[tokio::test]
async fn a_queue_may_keep_celerys_form_beside_workers_in_rust() {
    let mut celerys = QueueSpec::direct(QueueName::from_static("python"));
    celerys.arguments.insert("x-celery-eta", true);
    let bench = Bench::with(&json!({}), "", |app| app.queue(celerys)).await;
    let _rust = bench.rust().await;
    bench.until(&["ZCARD", "_celeriac.workers"], "1").await;
    let python = bench.python(PythonOptions { queues: "python,other".to_owned(), ..PythonOptions::default() }).await;
    let far = bench.app.send(later(Timestamp::now() + HOUR, "python")).await.unwrap();
    until("Python holds it", async || python.log().contains(&format!("peers.add[{}] received", far.id()))).await;
    assert_eq!(bench.ask(&["ZCARD", "_celeriac.parked.python"]).await, "0");
    let eta = Timestamp::now() + Duration::from_millis(500);
    assert_not_early(&bench.app.send(later(eta, "python")).await.unwrap(), eta).await;

    // Without that option it is parked, and any worker in Rust hands it to Python when it is due.
    bench.app.send(later(Timestamp::now() + HOUR, "other")).await.unwrap();
    assert_eq!(bench.ask(&["ZCARD", "_celeriac.parked.other"]).await, "1");
    let eta = Timestamp::now() + Duration::from_millis(500);
    assert_not_early(&bench.app.send(later(eta, "other")).await.unwrap(), eta).await;
}

#[tokio::test]
async fn an_eta_in_the_past_or_without_an_offset_is_read_as_python_reads_it() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let options = json!({"eta": "2020-01-01T00:00:00Z"});
    let id = bench.client.send("peers.add", json!([1, 2]), json!({}), options).await;
    assert_eq!(bench.client.get(&id).await.unwrap(), 3);
    // Naive times are UTC.
    let naive = "__import__('datetime').datetime.now(__import__('datetime').timezone.utc).replace(tzinfo=None)";
    let past = format!("app.send_task('peers.add', (1, 2), eta={naive}).get(timeout=60)");
    assert_eq!(bench.client.evaluate(&past).await, 3);
    let later =
        format!("app.send_task('peers.add', (1, 2), eta={naive} + __import__('datetime').timedelta(hours=1)).id");
    bench.client.evaluate(&later).await;
    bench.until(&PARKED, "1").await;
}

#[tokio::test]
async fn a_task_of_python_that_has_expired_is_revoked_by_rust() {
    let bench = Bench::new().await;
    let soon = Timestamp::now() + Duration::from_millis(300);
    let options =
        [json!({"expires": "2020-01-01T00:00:00Z"}), json!({"expires": -1}), json!({"expires": soon.to_string()})];
    let mut expired = Vec::new();
    for options in options {
        expired.push(bench.client.send("rust.now", json!([]), json!({}), options).await);
    }
    let fresh = bench.client.send("peers.add", json!([1, 2]), json!({}), json!({"expires": 600})).await;
    reach(soon).await;
    let _worker = bench.rust().await;
    for id in expired {
        assert_expired(&bench, &id).await;
    }
    assert_eq!(bench.client.get(&fresh).await.unwrap(), 3);
    bench.is_empty("celery").await;
}

#[tokio::test]
async fn a_task_of_python_that_expires_before_it_is_due_is_revoked() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let options = json!({"countdown": 0.4, "expires": 0.2});
    let id = bench.client.send("rust.now", json!([]), json!({}), options).await;
    assert_expired(&bench, &id).await;
}
