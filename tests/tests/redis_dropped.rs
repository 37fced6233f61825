//! An app that nobody closed: what its worker held when it was stopped cold goes back all the same, if the process lives on.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use celeriac::prelude::*;
use celeriac_testkit::server::RedisServer;
use celeriac_tests::runs::PATIENCE;
use celeriac_tests::until;

const RUNNING: usize = 4;
const SENT: usize = 20;

#[derive(Debug, Clone, Default)]
struct Runs {
    begun: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

#[celeriac::task]
async fn hangs(runs: State<Runs>) {
    runs.begun.fetch_add(1, Ordering::SeqCst);
    std::future::pending::<()>().await;
}

#[celeriac::task]
fn blocks(runs: State<Runs>) {
    runs.begun.fetch_add(1, Ordering::SeqCst);
    while !runs.ends.load(Ordering::SeqCst) {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_stopped_cold_held_goes_back_at_once_though_its_app_is_dropped_unclosed() {
    let server = RedisServer::start().await;
    // So long that nothing comes back by the end of a lease.
    let url = format!("{}?lease=600", server.url());
    let runs = Runs::default();
    let app = App::builder("dropped").read_env(false).broker_url(url).state(runs.clone()).tasks(tasks![hangs, blocks]);
    let app = app.build().await.unwrap();
    app.send(blocks::s()).await.unwrap();
    app.send_batch((1..SENT).map(|_| hangs::s())).await.unwrap();
    let worker = app.worker().concurrency(RUNNING).build().unwrap();
    let (stop, running) = (worker.handle(), tokio::spawn(worker.run()));
    until("the worker is busy", async || runs.begun.load(Ordering::SeqCst) == RUNNING).await;
    stop.shutdown_cold();
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    drop((app, stop));
    let number = async |words: &[&str]| server.command(words).await.text();
    until("everything is back", async || number(&["LLEN", "celery"]).await == SENT.to_string()).await;
    assert_eq!(number(&["HLEN", "unacked"]).await, "0");
    // The store lives on with the thread of the blocking task, which nothing can end.
    runs.ends.store(true, Ordering::SeqCst);
    until("nobody claims to be alive", async || number(&["ZCARD", "_celeriac.workers"]).await == "0").await;
}
