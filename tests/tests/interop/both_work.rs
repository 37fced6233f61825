//! Both kinds of clients send while both kinds of workers work.

use celeriac::{Signature, Value};
use celeriac_tests::python::PythonWorker;
use serde_json::json;

use crate::support::{Bench, PATIENCE};

/// Has each of both clients send so many tasks, and sees to it that each is done once, some by `python` and some by another worker.
pub(crate) async fn assert_every_task_is_done_once(bench: &Bench, python: &PythonWorker, each: u64) {
    let all = 2 * each;
    let by_rust = async {
        let mut ids = Vec::new();
        for start in (0..each).step_by(50) {
            let call = |n: u64| Signature::named("peers.trace").arg(n);
            // Some alone, some at once.
            for n in start..start + 10 {
                ids.push(bench.app.send(call(n)).await.unwrap().id().to_string());
            }
            let sent = bench.app.send_batch((start + 10..start + 50).map(call)).await.unwrap();
            ids.extend(sent.iter().map(|result| result.id().to_string()));
        }
        ids
    };
    let by_python = format!("[trace.delay(n).id for n in range({each}, {all})]");
    let (mut ids, by_python) = tokio::join!(by_rust, bench.client.evaluate(&by_python));
    ids.extend(by_python.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
    assert_eq!(ids.len() as u64, all);

    for (n, id) in ids.iter().enumerate() {
        let value = bench.result(id).get_timeout(PATIENCE).await;
        assert_eq!(value.unwrap_or_else(|error| panic!("task {n} has no result: {error}")), Value::from(n as u64));
    }
    let seen_by_python = bench.client.get_many(&ids).await.unwrap();
    assert_eq!(seen_by_python, (0..all).map(|n| json!(n)).collect::<Vec<_>>());
    let mut done = bench.traces();
    done.sort_unstable();
    assert_eq!(done, (0..all).collect::<Vec<_>>());
    bench.is_empty("celery").await;
    let of_python =
        python.log().lines().filter(|line| line.contains("peers.trace[") && line.contains("succeeded")).count();
    println!("of {all} tasks, Python did {of_python}");
    assert!((1..all).contains(&(of_python as u64)), "both took part: {of_python} by Python");
}
