//! Many tasks for later, kept where no worker holds them.

use std::time::Duration;

use celeriac::{Signature, Timestamp};
use serde_json::json;

use crate::support::{Bench, PATIENCE};
use crate::tasks;

const BY_RUST: u64 = 10_000;
const BY_PYTHON: u64 = 1_000;
const ALL: &str = "11000";
const PARKED: [&str; 2] = ["ZCARD", "_celeriac.parked.celery"];

/// How much memory a process has, in kilobytes; 0 where Linux does not tell.
fn memory(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_tasks_for_later_burden_no_worker_and_outlive_it() {
    let bench = Bench::new().await;
    let worker = bench.actor("", 4, 0.0);
    // Warm: whatever it allocates once is there.
    let calls = (0..500).map(|n| Signature::named("peers.trace").arg(n));
    for result in bench.app.send_batch(calls).await.unwrap() {
        result.get_timeout(PATIENCE).await.unwrap();
    }
    let before = memory(worker.pid());
    let calls = (0..BY_RUST).map(|n| Signature::named("peers.trace").arg(n).option("countdown", 3_600));
    bench.app.send_batch(calls).await.unwrap();
    // Python's are taken by the worker first, and parked by it.
    let by_python = format!("len([trace.apply_async((n,), countdown=3600) for n in range({BY_PYTHON})])");
    assert_eq!(bench.client.evaluate(&by_python).await, json!(BY_PYTHON));
    bench.until(&PARKED, ALL).await;
    bench.until(&["HLEN", "unacked"], "0").await;
    let growth = memory(worker.pid()) - before;
    println!("with {ALL} tasks for later the worker has {growth} kB more than {before} kB");
    assert!(growth < 10 * 1_024, "{growth} kB more than {before} kB");

    worker.kill();
    assert_eq!(bench.ask(&PARKED).await, ALL);
    let _other = bench.rust().await;
    let result = bench.app.send(Signature::named("peers.add").arg(1).arg(2)).await.unwrap();
    result.get_timeout(PATIENCE).await.unwrap();
    assert_eq!(bench.ask(&PARKED).await, ALL);
    assert_eq!(bench.traces().len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_run_close_to_their_time_and_never_before() {
    const TASKS: u32 = 500;
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    bench.until(&["ZCARD", "_celeriac.workers"], "1").await;
    let start = Timestamp::now() + Duration::from_secs(1);
    let mut order: Vec<Timestamp> = (0..TASKS).map(|n| start + Duration::from_secs(1) * n / TASKS).collect();
    // Not in the order of their times.
    fastrand::Rng::with_seed(7).shuffle(&mut order);
    let sent = bench.app.send_batch(order.iter().map(|eta| tasks::now::s().eta(*eta))).await.unwrap();
    let mut late = Vec::new();
    for (eta, result) in order.iter().zip(sent) {
        let ran = result.get_timeout(PATIENCE).await.unwrap();
        late.push(ran - eta.as_micros());
    }
    late.sort_unstable();
    let (first, median, last) = (late[0], late[late.len() / 2], late[late.len() - 1]);
    println!("of {TASKS} tasks the median is {median} us late, the first {first} us, the last {last} us");
    assert!(first >= 0, "{first} us before its time");
    assert!(median < 1_000_000, "the median is {median} us late");
}
