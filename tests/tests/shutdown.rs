//! A worker that is told to stop finishes what runs and hands back what does not; told twice, it stops at once and hands back all.

use std::collections::HashSet;
use std::time::Duration;

use celeriac::QueueName;
use celeriac_tests::{Place, signal, through_gate, through_gate_blocking, until};
use rustix::process::Signal;

const RUNNING: usize = 100;
const WAITING: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_runs_and_hands_back_the_rest() {
    let place = Place::new();
    let app = place.app().await;
    let calls = (0..RUNNING + WAITING).map(|n| through_gate::s(n as u64));
    let results = app.send_batch(calls).await.unwrap();
    let mut worker = place.worker(env!("CARGO_BIN_EXE_actor"), RUNNING);
    let traces = place.traces();
    until("100 tasks run", async || traces.lines("started").len() == RUNNING).await;

    signal(&worker, Signal::TERM);
    place.until_a_worker_stops().await;
    let depth = async || app.broker().depth(&QueueName::DEFAULT).await.unwrap();
    until("what had not started is handed back", async || depth().await == WAITING as u64).await;
    assert!(worker.try_wait().unwrap().is_none(), "the worker waits for what runs");
    place.open_gate();
    assert_eq!(worker.wait().await.unwrap().code(), Some(0));
    assert_eq!(traces.lines("started").len(), RUNNING);
    assert_eq!(traces.lines("ended").len(), RUNNING);
    assert_eq!(depth().await, WAITING as u64);

    let mut second = place.worker(env!("CARGO_BIN_EXE_actor"), RUNNING);
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.get_timeout(Duration::from_secs(60)).await.unwrap(), n as u64);
    }
    let started = traces.lines("started");
    assert_eq!(started.len(), RUNNING + WAITING, "none ran twice");
    assert_eq!(started.iter().collect::<HashSet<_>>().len(), RUNNING + WAITING, "none was left out");
    signal(&second, Signal::INT);
    assert_eq!(second.wait().await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_stops_at_once_and_hands_back_what_ran() {
    let place = Place::new();
    let app = place.app().await;
    app.send_batch((0..10).map(through_gate::s)).await.unwrap();
    app.send_batch((10..20).map(through_gate_blocking::s)).await.unwrap();
    let mut worker = place.worker(env!("CARGO_BIN_EXE_actor"), 20);
    let traces = place.traces();
    until("20 tasks run", async || traces.lines("started").len() == 20).await;

    signal(&worker, Signal::TERM);
    signal(&worker, Signal::INT);
    until("the worker stops", async || {
        // Two signals of one kind may arrive as one: go on until it is cold.
        if worker.try_wait().unwrap().is_none() {
            signal(&worker, Signal::INT);
        }
        worker.try_wait().unwrap().is_some()
    })
    .await;
    assert_eq!(worker.wait().await.unwrap().code(), Some(0));
    let depth = app.broker().depth(&QueueName::DEFAULT).await.unwrap();
    assert_eq!(depth, 20, "everything that ran is handed back");
}
