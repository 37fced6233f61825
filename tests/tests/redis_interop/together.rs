//! A worker in Python and one in Rust, on one queue, while both kinds of client send.

use celeriac_tests::python::PythonOptions;

use crate::both_work::assert_every_task_is_done_once;
use crate::support::Bench;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_is_done_once_by_one_of_both() {
    let bench = Bench::new().await;
    let python = bench.python(PythonOptions { env: vec![bench.trace_file()], ..PythonOptions::default() }).await;
    // Slower than it could be, so that Python has its share.
    let _rust = bench.actor("", 2, 0.005);
    bench.until(&["ZCARD", "_celeriac.workers"], "1").await;
    assert_every_task_is_done_once(&bench, &python, 1_250).await;
}
