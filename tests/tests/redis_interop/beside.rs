//! A beat in Rust and Celery's beat side by side: one Redis, one queue, a worker of each kind.

use celeriac::{CatchUp, Signature, Units as _, every};
use celeriac_tests::python::PythonBeat;
use celeriac_tests::until;
use serde_json::json;

use crate::beats::{known, more};
use crate::support::Bench;

/// What both send, with another argument.
const TASK: &str = "peers.trace";
const OURS: &str = "ours";
const BY_US: u64 = 1;
const BY_CELERY: u64 = 2;

/// Sees to it that the task ran with `n` so many times, once nothing is left of what was sent.
async fn assert_ran(bench: &Bench, n: u64, times: usize) {
    bench.is_empty("celery").await;
    // Python acknowledges a task before it runs.
    let ran = async || bench.traces().into_iter().filter(|traced| *traced == n).count() == times;
    until(&format!("{n} ran {times} times"), ran).await;
}

async fn celerys(bench: &Bench) -> PythonBeat {
    bench.celerys_beat(&json!({"celerys": {"task": TASK, "schedule": 1, "args": [BY_CELERY]}})).await
}

/// Waits until so many more have been sent.
async fn more_of(beat: &PythonBeat, count: usize) {
    let wanted = beat.sent(TASK).len() + count;
    until("Celery's beat sends", async || beat.sent(TASK).len() >= wanted).await;
}

#[tokio::test]
async fn each_beat_sends_its_own_whatever_becomes_of_the_other() {
    let bench = Bench::with(&json!({}), "", |app| {
        let call = Signature::named(TASK).arg(BY_US);
        // Each tick is to come, however busy the machine is.
        app.schedule_with(OURS, every(1.seconds()), call, |entry| entry.catch_up(CatchUp::All))
    })
    .await;
    let _python = bench.solo(json!({})).await;
    let _rust = bench.rust().await;
    let celery = celerys(&bench).await;
    let beat = bench.app.beat().build().unwrap();
    let (stop, running) = (beat.handle(), tokio::spawn(beat.run()));
    more(&bench, OURS, 2).await;
    // Last, so that it is not stopped while it sends.
    more_of(&celery, 2).await;
    celery.stop().await;

    let first = celery.sent(TASK).len();
    more(&bench, OURS, 2).await;
    assert_ran(&bench, BY_CELERY, first).await;

    // Where the first one has left off.
    let celery = celerys(&bench).await;
    more(&bench, OURS, 1).await;
    stop.stop();
    running.await.unwrap().unwrap();
    more_of(&celery, 2).await;
    let ours = known(&bench, OURS).await;
    assert_eq!(ours.last_sent, Some(ours.since + 1.seconds() * u32::try_from(ours.count).unwrap()));
    celery.stop().await;
    assert_ran(&bench, BY_CELERY, first + celery.sent(TASK).len()).await;
    assert_ran(&bench, BY_US, usize::try_from(ours.count).unwrap()).await;
}
