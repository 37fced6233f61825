//! Every format carries the whole job: arguments by place and by name, results, errors and progress; and every compression.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac::prelude::*;
use celeriac::{AppBuilder, TaskState, Value};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    name: String,
    amounts: Vec<(u32, f64)>,
    note: Option<String>,
    shipped: Status,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Status {
    No,
    On { day: u8 },
}

fn order() -> Order {
    Order {
        name: "Grüße \u{1F980} \"quoted\"".to_owned(),
        amounts: vec![(1, 0.5), (2, -1e300)],
        note: None,
        shipped: Status::On { day: 3 },
    }
}

#[celeriac::task]
async fn echo(cx: &TaskContext, order: Order, times: u8, #[arg(default = true)] plain: bool) -> Vec<Order> {
    cx.progress(1, 2);
    if !plain {
        tokio::task::yield_now().await;
    }
    vec![order; usize::from(times)]
}

#[celeriac::task]
fn fail(text: String) -> Result<(), std::io::Error> {
    Err(std::io::Error::other(text))
}

async fn with_worker(builder: AppBuilder, test: impl AsyncFnOnce(&App)) {
    let app = builder.read_env(false).broker_url("memory://").tasks(tasks![echo, fail]).build().await.unwrap();
    let worker = app.worker().build().unwrap();
    let stop = worker.handle();
    let running = tokio::spawn(worker.run());
    test(&app).await;
    stop.shutdown();
    running.await.unwrap().unwrap();
}

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn each_format_carries_arguments_results_and_errors() {
    for format in ["json", "msgpack", "bincode", "yaml"] {
        with_worker(App::builder("formats").serializer(format).result_serializer(format), async |app| {
            let result = app.send(echo::s(order(), 2, false)).await.unwrap();
            assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), vec![order(), order()], "{format}");
            let meta = result.meta().await.unwrap().unwrap();
            assert_eq!(meta.state, TaskState::Success);
            assert!(meta.result.unwrap().content_type.contains(format), "{format}");

            let error = app
                .send(fail::s("broken \u{1F980}".to_owned()))
                .await
                .unwrap()
                .get_timeout(PATIENCE)
                .await
                .unwrap_err();
            let failure = error.failure().unwrap();
            assert_eq!(
                (failure.exc_type.as_str(), failure.message().as_str()),
                ("Error", "broken \u{1F980}"),
                "{format}"
            );
        })
        .await;
    }
}

#[tokio::test]
async fn each_format_carries_values_sent_by_name_and_keyword() {
    for format in ["json", "msgpack", "bincode", "yaml"] {
        with_worker(App::builder("formats").serializer(format).result_serializer("json"), async |app| {
            let value = celeriac::core::value::to_value(&order()).unwrap();
            let call = Signature::named("echo").kwarg("times", 1).kwarg("order", value.clone());
            let result = app.send(call).await.unwrap().get_timeout(PATIENCE).await;
            assert_eq!(
                result.unwrap_or_else(|error| panic!("{format}: {error}")),
                Value::List(vec![value]),
                "{format}"
            );
        })
        .await;
    }
}

#[tokio::test]
async fn each_compression_carries_a_body() {
    for compression in ["zlib", "gzip", "bzip2", "zstd", "brotli", "lzma"] {
        with_worker(App::builder("formats").compression(compression), async |app| {
            let mut large = order();
            large.name = "celeriac ".repeat(10_000);
            let result = app.send(echo::s(large.clone(), 1, true)).await.unwrap();
            assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), vec![large], "{compression}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_format_that_is_not_accepted_is_refused_with_a_stored_failure() {
    let sender = App::builder("formats")
        .read_env(false)
        .broker_url("memory://formats")
        .serializer("msgpack")
        .build()
        .await
        .unwrap();
    let app = App::builder("formats")
        .read_env(false)
        .broker_url("memory://formats")
        .tasks(tasks![fail])
        .build()
        .await
        .unwrap();
    let worker = app.worker().build().unwrap();
    let stop = worker.handle();
    let running = tokio::spawn(worker.run());
    let error = sender.send(fail::s("x".to_owned())).await.unwrap().get_timeout(PATIENCE).await.unwrap_err();
    let failure = error.failure().unwrap();
    assert_eq!(failure.exc_type, "ContentDisallowed");
    assert!(failure.message().contains("application/x-msgpack"), "{failure}");
    stop.shutdown();
    running.await.unwrap().unwrap();
}
