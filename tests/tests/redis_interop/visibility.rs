//! Peers in Python who look for what nobody has acknowledged in time, beside tasks in Rust that take longer than that.

use std::time::Instant;

use celeriac::{Signature, Timestamp, Value};
use celeriac_tests::python::{Pool, PythonOptions};
use celeriac_tests::until;
use serde_json::json;

use crate::support::{Bench, PATIENCE, visibility};

/// As many run at once.
const TASKS: u64 = 8;
/// The first of those that only Python works.
const BAIT: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_task_of_30_seconds_runs_twice_beside_peers_who_wait_for_5() {
    let bench = Bench::new().await;
    let _rust = bench.actor("", usize::try_from(TASKS).unwrap(), 30.0);
    let calls = (0..TASKS).map(|n| Signature::named("peers.trace").arg(n));
    let results = bench.app.send_batch(calls).await.unwrap();
    until("all tasks run", async || bench.traces().len() as u64 == TASKS).await;
    let began = Instant::now();
    let options = PythonOptions { pool: Pool::Solo, queues: "celery,bait".to_owned(), ..PythonOptions::default() };
    let env = vec![bench.trace_file()];
    let python = bench.python(PythonOptions { settings: visibility(5), env, ..options }).await;

    // All the while there is something for Python to find: that tells that it looks.
    let mut baits = 0;
    let all_done = async || {
        let mut done = true;
        for result in &results {
            done &= result.state().await.unwrap().is_ready();
        }
        done
    };
    while !all_done().await {
        plant(&bench, BAIT + baits).await;
        until("Python finds the bait", async || bench.traces().contains(&(BAIT + baits))).await;
        baits += 1;
    }
    println!("{TASKS} tasks ended after {:?}, while Python restored {baits} messages", began.elapsed());
    assert!(baits >= 5, "Python has looked only {baits} times");
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), Value::from(n as u64));
    }
    bench.is_empty("celery").await;
    let mut done = bench.traces();
    done.sort_unstable();
    assert_eq!(done, (0..TASKS).chain(BAIT..BAIT + baits).collect::<Vec<_>>(), "{}", python.log());
}

/// Longer than the test.
const FOR_EVER: f64 = 3_600.0;

#[tokio::test]
async fn each_dead_workers_task_waits_for_the_end_of_its_own_lease_whatever_timeout_python_has() {
    let bench = Bench::new().await;
    let mut workers = Vec::new();
    for (n, options) in (0..).zip(["?lease=2", "?lease=12"]) {
        // One whose only place is taken takes nothing more.
        workers.push(bench.actor(options, 1, FOR_EVER));
        bench.app.send(Signature::named("peers.trace").arg(n)).await.unwrap();
        until("it runs", async || bench.traces().len() as u64 == n + 1).await;
    }
    let options = PythonOptions { pool: Pool::Solo, queues: "celery,bait".to_owned(), ..PythonOptions::default() };
    let env = vec![bench.trace_file()];
    let python = bench.python(PythonOptions { settings: visibility(1), env, ..options }).await;
    plant(&bench, BAIT).await;
    until("Python finds the bait", async || bench.traces().contains(&BAIT)).await;
    // It leaves a trace before it is acknowledged.
    bench.until(&["ZCARD", "unacked_index"], "2").await;
    workers.iter().for_each(|worker| worker.kill());
    let ends = bench.server.command(&["ZRANGE", "unacked_index", "0", "-1", "WITHSCORES"]).await.texts();
    // Python may not have acknowledged the bait yet.
    let ours = ends.chunks(2).filter(|pair| pair[0].starts_with("rs."));
    let ends: Vec<f64> = ours.map(|pair| pair[1].parse().unwrap()).collect();
    assert_eq!(ends.len(), 2);

    for (n, end) in (0..).zip(&ends) {
        // All the while there is something for Python to find: that tells that it looks.
        let mut baits = BAIT * (n + 2);
        let runs = || bench.traces().iter().filter(|traced| **traced == n).count();
        while runs() == 1 {
            plant(&bench, baits).await;
            until("Python finds the bait", async || bench.traces().contains(&baits)).await;
            baits += 1;
        }
        let now = Timestamp::now().as_micros() as f64 / 1e6;
        // Python waits a second longer.
        assert!(now >= end + 1.0, "task {n} ran again at {now}, and its lease ended at {end}");
        assert!(n == 1 || now < ends[1], "task {n} ran again at {now}, with the lease of another: {ends:?}");
        let traces = bench.traces();
        assert_eq!(
            traces.iter().filter(|traced| **traced < BAIT).count() as u64,
            n + 3,
            "{traces:?}\n{}",
            python.log()
        );
    }
    bench.is_empty("celery").await;
}

/// Leaves a message in the hands of a worker that is gone, for longer than Python waits and shorter than Rust does.
async fn plant(bench: &Bench, n: u64) {
    bench.client.send("peers.trace", json!([n]), json!({}), json!({"queue": "nobody's"})).await;
    let envelope = bench.ask(&["RPOP", "nobody's"]).await;
    let tag = format!("bait-{n}");
    let taken = (Timestamp::now().as_micros() / 1_000_000 - 60).to_string();
    bench.ask(&["HSET", "unacked", &tag, &format!("[{envelope}, \"\", \"bait\"]")]).await;
    bench.ask(&["ZADD", "unacked_index", &taken, &tag]).await;
}
