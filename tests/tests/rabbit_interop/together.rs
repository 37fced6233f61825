//! A worker in Python and one in Rust, on one queue, while both kinds of client send.

use celeriac_tests::python::PythonOptions;
use serde_json::{Value as Json, json};

use crate::both_work::assert_every_task_is_done_once;
use crate::support::Bench;

async fn assert_both_work(settings: Json, options: &str, each: u64) {
    let bench = Bench::with(&settings, options, |app| app).await;
    let env = vec![bench.trace_file()];
    let python = bench.python(PythonOptions { env, settings, ..PythonOptions::default() }).await;
    // Slower than it could be, so that Python has its share.
    let _rust = bench.actor(options, 2, 0.005);
    bench.consumed("celery", 2).await;
    assert_every_task_is_done_once(&bench, &python, each).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_is_done_once_by_one_of_both() {
    assert_both_work(json!({}), "", 1_250).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_of_a_quorum_queue_is_done_once_by_one_of_both() {
    assert_both_work(json!({"task_default_queue_type": "quorum"}), "?queue_type=quorum", 600).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_of_a_priority_queue_is_done_once_by_one_of_both() {
    assert_both_work(json!({"task_queue_max_priority": 10}), "?max_priority=10", 600).await;
}
