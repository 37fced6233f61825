//! Beats, both ways: Python runs what a beat in Rust sends, and Rust what Celery's beat sends.

use std::time::Duration;

use celeriac::core::EntryName;
use celeriac::{AppBuilder, CatchUp, KnownEntry, Signature, TaskState, Timestamp, every};
use celeriac_tests::python::{Pool, PythonOptions, PythonWorker};
use celeriac_tests::until;
use serde_json::{Value as Json, json};

use crate::expiry::{assert_expired, reach};
use crate::support::{Bench, PATIENCE, RustWorker, json_of, value};
use crate::tasks::add;

/// How long it is from tick to tick.
const OFTEN: Duration = Duration::from_millis(300);
/// How long a tick of [`STALE`] may wait.
const FRESH: Duration = Duration::from_millis(200);
/// The queue that Python works.
const QUEUE: &str = "python";
/// An entry with all that Python may be told.
pub(crate) const FULL: &str = "full";
/// An entry whose ticks expire soon.
const STALE: &str = "stale";

/// Declares entries for Python.
pub(crate) fn entries(app: AppBuilder) -> AppBuilder {
    let full = Signature::named("peers.request").arg(1).kwarg("two", "zwei").option("queue", QUEUE);
    let full = full.option("priority", 3).option("expires", 600).option("headers", value(json!({"tenant": "ünïcode"})));
    let stale = add::s(1, 2).queue(QUEUE).expires(FRESH);
    // Each tick is to come, however busy the machine is.
    let app = app.schedule_with(FULL, every(OFTEN), full, |entry| entry.catch_up(CatchUp::All));
    app.schedule(STALE, every(OFTEN), stale)
}

/// A worker in Python for what beats in Rust send; its times are not those of UTC.
pub(crate) async fn worker(bench: &Bench) -> PythonWorker {
    let (queues, settings) = (QUEUE.to_owned(), json!({"timezone": "Asia/Kolkata"}));
    bench.python(PythonOptions { pool: Pool::Solo, queues, settings, ..PythonOptions::default() }).await
}

/// What is known of an entry, once a beat in Rust has declared it.
pub(crate) async fn known(bench: &Bench, name: &'static str) -> KnownEntry {
    let (entries, name) = (bench.app.schedule().unwrap(), EntryName::from_static(name));
    let mut known = None;
    until(&format!("`{name}` is declared"), async || {
        known = entries.get(&name).await.unwrap();
        known.is_some()
    })
    .await;
    known.unwrap()
}

/// Waits until so many more ticks of an entry have been sent.
pub(crate) async fn more(bench: &Bench, name: &'static str, count: u64) {
    let wanted = known(bench, name).await.count + count;
    until(&format!("`{name}` is sent"), async || known(bench, name).await.count >= wanted).await;
}

/// Sees to it that Python has run each tick of [`FULL`] once, and with all that was said of it. No beat may run any more.
pub(crate) async fn assert_each_tick_ran_once(bench: &Bench, python: &PythonWorker) {
    let known = known(bench, FULL).await;
    until("each tick has run", async || python.succeeded("peers.request").len() as u64 >= known.count).await;
    bench.is_empty(QUEUE).await;
    let mut dues = Vec::new();
    for id in python.succeeded("peers.request") {
        let seen = json_of(&bench.result(&id).get_timeout(PATIENCE).await.unwrap());
        for (name, wanted) in [
            ("id", json!(id)),
            ("root_id", json!(id)),
            ("parent_id", Json::Null),
            ("celery_beat_task", json!(true)),
            ("tenant", json!("ünïcode")),
            ("args", json!([1])),
            ("kwargs", json!({"two": "zwei"})),
            ("argsrepr", json!("(1,)")),
            ("kwargsrepr", json!("{'two': 'zwei'}")),
        ] {
            assert_eq!(seen[name], wanted, "{name} of {seen}");
        }
        assert_eq!(seen["delivery_info"]["priority"], 3);
        // An id begins with the time that it is for, in milliseconds.
        let due = i64::from_str_radix(&id.replace('-', "")[..12], 16).unwrap();
        let expires: Timestamp = seen["expires"].as_str().unwrap().parse().unwrap();
        assert!(expires.as_micros() / 1_000 >= due + 600_000, "{seen}");
        dues.push(due);
    }
    dues.sort_unstable();
    let ticks = (1..=known.count).map(|tick| (known.since + OFTEN * u32::try_from(tick).unwrap()).as_micros() / 1_000);
    assert!(dues.iter().copied().eq(ticks), "{dues:?} of {known:?}");
}

#[tokio::test]
async fn python_runs_what_a_beat_of_rust_sends_but_for_what_has_expired() {
    let bench = Bench::with(&json!({}), "", entries).await;
    let beat = RustWorker::start(bench.app.worker().with_beat()).await;
    until("a tick is sent", async || known(&bench, STALE).await.count > 0).await;
    let expired = known(&bench, STALE).await.last_task.unwrap();
    reach(Timestamp::now() + FRESH).await;
    let python = worker(&bench).await;
    assert_expired(&bench, &expired).await;
    more(&bench, FULL, 3).await;
    beat.stop().await;
    assert_each_tick_ran_once(&bench, &python).await;
}

#[tokio::test]
async fn rust_runs_what_celerys_beat_sends() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let often = OFTEN.as_secs_f64();
    let headers = json!({"tenant": "ünïcode"});
    let entries = json!({
        "asked": {"task": "peers.request", "schedule": often, "options": {"expires": 600, "headers": headers}},
        "joined": {"task": "rust.join", "schedule": often, "args": ["a"], "kwargs": {"b": "b", "separator": "-"}},
        "traced": {"task": "peers.trace", "schedule": often, "args": [7]},
    });
    let beat = bench.celerys_beat(&entries).await;
    until("they come", async || beat.sent("peers.trace").len() > 2).await;
    beat.stop().await;
    for id in beat.sent("peers.request") {
        let seen = bench.client.get(&id).await.unwrap();
        assert_eq!((&seen["by"], &seen["root_id"], &seen["lang"]), (&json!("Rust"), &json!(id), &json!("py")));
        assert_eq!((&seen["extra"]["celery_beat_task"], &seen["extra"]["tenant"]), (&json!(true), &json!("ünïcode")));
        assert_eq!(bench.result(&id).state().await.unwrap(), TaskState::Success);
    }
    let joined = beat.sent("rust.join");
    assert!(!joined.is_empty());
    assert!(bench.client.get_many(&joined).await.unwrap().iter().all(|value| value == "a-b"));
    let traced = beat.sent("peers.trace");
    bench.client.get_many(&traced).await.unwrap();
    bench.is_empty("celery").await;
    assert_eq!(bench.traces(), vec![7; traced.len()]);
}
