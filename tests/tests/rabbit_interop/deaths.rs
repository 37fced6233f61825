//! Workers that are killed, and who takes over.

use celeriac_tests::python::{Pool, PythonOptions};
use serde_json::json;

use crate::runs::{FOR_EVER, assert_run_again, send};
use crate::support::Bench;

const QUORUM: &str = "?queue_type=quorum";

#[tokio::test]
async fn the_tasks_of_a_killed_worker_in_rust_are_run_by_python() {
    for (settings, options) in [(json!({}), ""), (json!({"task_default_queue_type": "quorum"}), QUORUM)] {
        let bench = Bench::with(&settings, options, |app| app).await;
        let killed = bench.actor(options, 4, FOR_EVER);
        let results = send(&bench, 6, 4).await;
        let before = bench.traces();
        killed.kill();
        let python = bench.solo(settings).await;
        assert_run_again(&bench, &results, &before).await;
        assert!(python.log().contains("succeeded"));
    }
}

#[tokio::test]
async fn the_tasks_of_a_killed_worker_in_python_are_run_by_rust() {
    for (queue_type, options) in [("classic", ""), ("quorum", QUORUM)] {
        let settings = json!({"task_acks_late": true, "task_default_queue_type": queue_type});
        let bench = Bench::with(&settings, options, |app| app).await;
        let env = vec![bench.trace_file(), ("TRACE_SLEEP".to_owned(), FOR_EVER.to_string())];
        // It has begun two and holds the others.
        let python =
            bench.python(PythonOptions { pool: Pool::Prefork(2), settings, env, ..PythonOptions::default() }).await;
        let results = send(&bench, 5, 2).await;
        let before = bench.traces();
        bench.until("celery", (0, 5)).await;
        python.kill();
        let _rust = bench.rust().await;
        assert_run_again(&bench, &results, &before).await;
    }
}
