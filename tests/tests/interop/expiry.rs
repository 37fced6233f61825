//! Tasks that have expired, both ways.

use std::time::Duration;

use celeriac::{ResultError, Signature, Timestamp, Value};
use celeriac_tests::until;
use serde_json::json;

use crate::support::{Bench, PATIENCE};

/// Waits until a time has come.
pub(crate) async fn reach(time: Timestamp) {
    until("the time has come", async || Timestamp::now() > time).await;
}

/// Sees to it that both know the task as revoked.
pub(crate) async fn assert_expired(bench: &Bench, id: &str) {
    let error = bench.client.get(id).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.args), ("celery.exceptions.TaskRevokedError", vec![json!("expired")]));
    assert_eq!(bench.client.state(id).await.0, "REVOKED");
    match bench.result(id).get_timeout(PATIENCE).await {
        Err(ResultError::Revoked(failure)) => assert_eq!(failure.exc_type, "TaskRevokedError"),
        other => panic!("not revoked: {other:?}"),
    }
}

#[tokio::test]
async fn a_task_of_rust_that_has_expired_is_revoked_by_python() {
    let bench = Bench::new().await;
    let soon = Timestamp::now() + Duration::from_millis(300);
    let call = || Signature::named("peers.add").arg(1).arg(2);
    let options = ["2020-01-01T00:00:00+00:00".to_owned(), soon.to_string()];
    let mut expired = Vec::new();
    for expires in options {
        expired.push(bench.app.send(call().option("expires", expires)).await.unwrap());
    }
    let fresh = bench.app.send(call().option("expires", 600)).await.unwrap();
    reach(soon).await;
    let _worker = bench.solo(json!({})).await;
    for result in expired {
        assert_expired(&bench, result.id()).await;
    }
    assert_eq!(fresh.get_timeout(PATIENCE).await.unwrap(), Value::from(3));
}

#[tokio::test]
async fn a_task_of_rust_that_expires_before_it_is_due_is_revoked() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let call = Signature::named("rust.now").option("countdown", 0.4).option("expires", 0.2);
    let result = bench.app.send(call).await.unwrap();
    assert_expired(&bench, result.id()).await;
}
