//! An app over a server that takes TLS and asks for a certificate.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use celeriac_testkit::server::{ClientCertificate, RedisServer};
use celeriac_tests::python::PythonClient;
use celeriac_tests::redis::undone;
use celeriac_tests::runs::{PATIENCE, Runs, Worker, builder, fails, progresses, second_time, twice};
use serde_json::json;

#[tokio::test]
async fn tasks_are_sent_worked_and_their_results_read_over_tls_by_the_url_that_celery_has() {
    let server = RedisServer::builder().tls(ClientCertificate::Required).start().await;
    let url = server.url_with_certificates();
    assert!(url.starts_with("rediss://"), "{url}");
    let app = builder(&url, &Runs::default()).build().await.unwrap();
    let worker = Worker::start(&app, 2);
    for (call, n) in [(twice::s(1), 1), (progresses::s(2), 2), (second_time::s(3), 3)] {
        let result = app.send(call).await.unwrap();
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n * 2);
    }
    let failed = app.send(fails::s(4)).await.unwrap().get_timeout(PATIENCE).await.unwrap_err();
    assert_eq!(failed.failure().unwrap().message(), "task 4 always fails");

    let python = PythonClient::start(&url, &url, &json!({}));
    let id = python.send("twice", json!([5]), json!({}), json!({})).await;
    assert_eq!(python.get(&id).await.unwrap(), 10);
    worker.stop().await;
    app.close().await.unwrap();
    assert_eq!(undone(&server, 0, "").await, Vec::<String>::new());
}
