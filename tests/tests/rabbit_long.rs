//! Tasks that take longer than RabbitMQ waits for an acknowledgement, or are due later than that: they run once.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac::core::Timestamp;
use celeriac_testkit::server::{RabbitServer, Vhost};
use celeriac_tests::raw::Stranger;
use celeriac_tests::raw::lapin::types::{AMQPValue, FieldTable};
use celeriac_tests::runs::{PATIENCE, Runs, Worker, builder, twice};
use celeriac_tests::{Place, log, through_gate, until};

/// How long the server waits: as many seconds as it is minutes by default, over ten.
const TIMEOUT: Duration = Duration::from_secs(3);
/// A task of forty minutes, by that measure.
const LONG: Duration = Duration::from_secs(4);

/// A server that does not wait long.
async fn hasty() -> RabbitServer {
    log::keep("info");
    let server = RabbitServer::builder().config(&format!("consumer_timeout = {}", TIMEOUT.as_millis())).start().await;
    // It looks every minute by itself.
    server.eval("application:set_env(rabbit, channel_tick_interval, 200)").await;
    server
}

fn url(vhost: &Vhost<'_>, queue_type: &str) -> String {
    format!("{}?consumer_timeout={}&queue_type={queue_type}", vhost.url(), TIMEOUT.as_secs())
}

async fn undone(vhost: &Vhost<'_>) -> u64 {
    vhost.queue_info("celery").await.map_or(0, |info| info.ready + info.unacked)
}

#[tokio::test]
async fn a_task_that_takes_longer_than_rabbitmq_waits_runs_once() {
    let server = hasty().await;
    for queue_type in ["classic", "quorum"] {
        let (vhost, place) = (server.vhost().await, Place::new());
        let open = async || celeriac_tests::app(&url(&vhost, queue_type), place.path()).await.unwrap();
        let (app, idle) = (open().await, open().await);
        let workers = [Worker::start(&app, 1), Worker::start(&idle, 1)];
        let long = app.send(through_gate::s(40)).await.unwrap();
        until("it runs", async || place.traces().lines("started").len() == 1).await;
        // The other worker has all that is short.
        let short = app.send_batch((0..20).map(celeriac_tests::double::s)).await.unwrap();
        for (result, n) in short.into_iter().zip(0..) {
            assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n * 2);
        }
        tokio::time::sleep(3 * LONG).await; // wait: so long a task takes
        assert_eq!(place.traces().lines("started"), ["40"], "{queue_type}");
        place.open_gate();
        assert_eq!(long.get_timeout(PATIENCE).await.unwrap(), 40);
        until("nothing is left", async || undone(&vhost).await == 0).await;
        assert_eq!(place.traces().lines("started"), ["40"], "{queue_type}");
        for worker in workers {
            worker.stop().await;
        }
        app.close().await.unwrap();
        idle.close().await.unwrap();
        assert_eq!(undone(&vhost).await, 0);
    }
}

#[tokio::test]
async fn a_long_task_of_a_worker_that_is_killed_runs_elsewhere() {
    let (server, place) = (hasty().await, Place::new());
    let vhost = server.vhost().await;
    let url = url(&vhost, "classic");
    let app = celeriac_tests::app(&url, place.path()).await.unwrap();
    let long = app.send(through_gate::s(40)).await.unwrap();
    let mut dies = place.worker_of(env!("CARGO_BIN_EXE_actor"), &url, 1);
    until("it runs", async || place.traces().lines("started").len() == 1).await;
    tokio::time::sleep(LONG).await; // wait: so long it runs until then
    let worker = Worker::start(&app, 1);
    dies.kill().await.unwrap();
    until("it runs again", async || place.traces().lines("started").len() == 2).await;
    place.open_gate();
    assert_eq!(long.get_timeout(PATIENCE).await.unwrap(), 40);
    until("nothing is left", async || undone(&vhost).await == 0).await;
    worker.stop().await;
    app.close().await.unwrap();
    assert_eq!(place.traces().lines("started"), ["40", "40"]);
}

#[tokio::test]
async fn a_task_that_is_due_later_than_rabbitmq_waits_runs_once_and_not_before() {
    let server = hasty().await;
    for queue_type in ["classic", "quorum"] {
        let (vhost, runs) = (server.vhost().await, Runs::default());
        let app = builder(&url(&vhost, queue_type), &runs).build().await.unwrap();
        let worker = Worker::start(&app, 2);
        let due = Timestamp::now() + 3 * LONG;
        let sent = app.send(twice::s(1).eta(due)).await.unwrap();
        let countdown = app.send(twice::s(2).countdown(3 * LONG)).await.unwrap();
        // A plain publisher leaves it to the worker to wait.
        let mut eta = FieldTable::default();
        eta.insert("eta".into(), AMQPValue::LongString(due.to_string().into()));
        let stranger = Stranger::new(&vhost.url()).await;
        stranger.send("celery", "twice", "plain", 3, eta).await;
        until("it is parked", async || undone(&vhost).await == 0).await;
        for result in [sent, countdown] {
            result.get_timeout(PATIENCE).await.unwrap();
            assert!(Timestamp::now() >= due);
        }
        until("it ran", async || runs.of(3).all == 1).await;
        until("nothing is left", async || undone(&vhost).await == 0).await;
        tokio::time::sleep(TIMEOUT).await; // wait: nothing comes again
        for n in 1..=3 {
            assert_eq!((runs.of(n).all, runs.of(n).redelivered), (1, 0), "{queue_type}: task {n}");
        }
        worker.stop().await;
        app.close().await.unwrap();
    }
}
