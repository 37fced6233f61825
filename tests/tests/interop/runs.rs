//! Which tasks ran, and how often, where workers die.

use celeriac::{AsyncResult, Signature, Value};
use celeriac_tests::until;

use crate::support::{Bench, PATIENCE};

/// How many seconds a task takes: longer than any test.
pub(crate) const FOR_EVER: f64 = 3_600.0;

/// Sends so many, and waits until so many of them run.
pub(crate) async fn send(bench: &Bench, count: u64, running: usize) -> Vec<AsyncResult<Value>> {
    let results = bench.app.send_batch((0..count).map(|n| Signature::named("peers.trace").arg(n))).await.unwrap();
    until("tasks run", async || bench.traces().len() == running).await;
    results
}

/// Waits until all have ended, and sees to it that those that ran before ran once more, and no other did.
pub(crate) async fn assert_run_again(bench: &Bench, results: &[AsyncResult<Value>], before: &[u64]) {
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), Value::from(n as u64));
    }
    let mut wanted: Vec<u64> = (0..results.len() as u64).chain(before.iter().copied()).collect();
    wanted.sort_unstable();
    let mut done = bench.traces();
    done.sort_unstable();
    assert_eq!(done, wanted);
    bench.is_empty("celery").await;
}
