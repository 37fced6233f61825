//! What Python composes: workers in Rust carry out no canvas yet, and must not lose any.

use serde_json::json;

use crate::support::Bench;

#[tokio::test]
async fn what_a_worker_in_rust_cannot_carry_out_is_refused_and_python_learns_of_it() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    for code in [
        // Of each, the tasks that reach the worker first.
        "[chain(add.s(1, 2), add.s(10)).apply_async().parent.id]",
        "[task.id for task in chord([add.s(1, 2), add.s(3, 4)], echo.s()).apply_async().parent.children]",
        "[add.apply_async((1, 2), link=add.s(10)).id]",
        "[add.apply_async((1, 2), link_error=echo.s()).id]",
    ] {
        let ids = bench.client.evaluate(code).await;
        for id in ids.as_array().unwrap() {
            let error = bench.client.get(id.as_str().unwrap()).await.unwrap_err();
            assert!(error.class.ends_with(".Unsupported"), "{code}: {error:?}");
            assert!(error.text.contains("peers.add"), "{code}: {error:?}");
        }
    }
    bench.is_empty("celery").await;
}

#[tokio::test]
async fn the_tasks_of_a_plain_group_are_worked() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let group = "group(add.s(1, 1), add.s(2, 2), add.s(3, 3)).apply_async().get(timeout=60)";
    assert_eq!(bench.client.evaluate(group).await, json!([2, 4, 6]));
    let member = "group(app.signature('peers.request'), add.s(1, 1)).apply_async()";
    let seen = format!("(lambda result: [result.id, result.children[0].get(timeout=60)['group']])({member})");
    let seen = bench.client.evaluate(&seen).await;
    assert_eq!(seen[0], seen[1], "a task knows its group");
}
