//! Results by messages, `rpc://`, between Rust and Python.

use std::time::Duration;

use celeriac::{Prefetch, ResultError, Signature, TaskState, Timestamp, Value};
use celeriac_tests::python::CameBy;
use celeriac_tests::until;
use serde_json::{Value as Json, json};

use crate::expiry::reach;
use crate::python_sends::sees_states;
use crate::rust_sends::hears_of_every_step;
use crate::support::{Bench, PATIENCE, RustWorker, json_of, open_step, value};

#[tokio::test]
async fn python_gets_what_a_task_in_rust_returns() {
    let bench = Bench::rpc().await;
    let _worker = bench.rust().await;
    assert_eq!(bench.call("peers.add", json!([2, 3])).await.unwrap(), 5);
    assert_eq!(bench.call("rust.nothing", json!([])).await.unwrap(), Json::Null);
    for value in [
        json!({"list": [1, -2, 0.5, 1e300, true, null, []], "nested": {"": {"a b": "\"quoted\"\\\n\t\u{0}"}}}),
        json!("Grüße, 世界, 𝒳 and 🦀 \u{10ffff}"),
        json!([i64::MAX, i64::MIN, u64::MAX, 9_007_199_254_740_993_u64]),
        json!("0123456789abcdef".repeat(65_536)),
    ] {
        assert_eq!(bench.call("rust.echo", json!([value])).await.unwrap(), value);
    }
    // Many at once, each told from the others.
    let many = "[r.get(timeout=60) for r in [app.send_task('peers.add', (n, 1)) for n in range(200)]]";
    assert_eq!(bench.client.evaluate(many).await, json!((1..=200).collect::<Vec<i32>>()));
}

#[tokio::test]
async fn python_is_told_how_a_task_in_rust_ends() {
    let bench = Bench::rpc().await;
    let _worker = bench.rust().await;
    for (how, class, args) in [
        ("ValueError", "builtins.ValueError", json!(["no such value"])),
        ("CustomError", "peer_app.CustomError", json!([7, "detail"])),
        // A class that Python does not know is made up, of the same name.
        ("OutOfStock", "OutOfStock", json!(["only 3 left"])),
        ("panic", "Panic", json!(["out of order"])),
        ("reject", "celery.exceptions.Reject", json!(["not mine", false])),
    ] {
        let id = bench.send("rust.end", json!([how])).await;
        bench.gate.open(1);
        let (outcome, by) = bench.client.end_by(&id).await;
        let error = outcome.unwrap_err();
        assert!(error.class == class || error.class.ends_with(&format!(".{class}")), "{error:?} for {class}");
        assert_eq!((Json::from(error.args.clone()), by), (args, CameBy::Push), "{error:?}");
    }
    let id = bench.send("rust.end", json!(["success"])).await;
    bench.gate.open(1);
    assert_eq!(bench.client.get_by(&id).await.unwrap(), (json!(1), CameBy::Push));
    let error = bench.call("rust.unknown", json!([1])).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.args), ("celery.exceptions.NotRegistered", vec![json!("rust.unknown")]));
}

#[tokio::test]
async fn python_sees_the_states_of_a_task_in_rust() {
    sees_states(&Bench::rpc().await).await;
}

#[tokio::test]
async fn a_result_that_nobody_wants_is_not_sent() {
    let bench = Bench::rpc().await;
    let worker = bench.rust().await;
    let no_result = json!({"ignore_result": true});
    let ids = [
        bench.send("rust.ignored", json!([])).await,
        bench.client.send("rust.echo", json!([1]), json!({}), no_result).await,
        bench.send("rust.fail", json!(["ignore"])).await,
    ];
    // Worked on after the others.
    assert_eq!(bench.call("peers.add", json!([2, 3])).await.unwrap(), 5);
    worker.stop().await;
    for id in ids {
        assert_eq!(bench.client.state(&id).await, ("PENDING".to_owned(), Json::Null));
    }
}

#[tokio::test]
async fn rust_gets_what_a_task_in_python_returns_or_raises() {
    let bench = Bench::rpc().await;
    let _worker = bench.solo(json!({})).await;
    assert_eq!(bench.get(Signature::named("peers.add").arg(2).arg(3)).await.unwrap(), 5);
    for contents in [
        json!({"list": [1, -2, 0.5, 1e300, true, null, []], "nested": {"": {"a b": "\"quoted\"\\\n\t\u{0}"}}}),
        json!("Grüße, 世界, 𝒳 and 🦀 \u{10ffff}"),
        json!("0123456789abcdef".repeat(65_536)),
        Json::Null,
    ] {
        let call = Signature::named("peers.echo").arg(value(contents.clone())).kwarg("ключ", value(contents.clone()));
        assert_eq!(bench.get(call).await.unwrap(), json!([[contents], {"ключ": contents}]));
    }
    let failure = bench.get(Signature::named("peers.fail").arg("no luck 🦀")).await.unwrap_err();
    assert_eq!((failure.exc_type.as_str(), failure.exc_module.as_deref()), ("ValueError", Some("builtins")));
    assert_eq!(failure.message(), "no luck 🦀");
    assert!(failure.traceback.unwrap().contains("raise ValueError(message)"));
    let failure = bench.get(Signature::named("peers.custom_fail").arg(7).arg("detail")).await.unwrap_err();
    assert_eq!(failure.exc_message, [Value::from(7), Value::from("detail")]);
    let failure = bench.get(Signature::named("peers.unknown")).await.unwrap_err();
    assert_eq!((failure.exc_type.as_str(), failure.message().as_str()), ("NotRegistered", "peers.unknown"));
    assert_eq!(bench.get(Signature::named("peers.retry").arg(2)).await.unwrap(), 2);
    // Sent at once, and asked for in another order.
    let calls = (0..200).map(|n| Signature::named("peers.add").arg(n).arg(1));
    let results = bench.app.send_batch(calls).await.unwrap();
    for (n, result) in results.iter().enumerate().rev() {
        assert_eq!(json_of(&result.get_timeout(PATIENCE).await.unwrap()), n + 1);
    }
}

#[tokio::test]
async fn rust_hears_of_every_step_of_a_task_in_python() {
    let bench = Bench::rpc().await;
    hears_of_every_step(&bench).await;
    let _worker = bench.solo(json!({})).await;
    let call = Signature::named("peers.custom_state").arg("HALFWAY").arg(value(json!({"at": "the 🦀"})));
    let result = bench.app.send(call).await.unwrap();
    until("the state is there", async || result.state().await.unwrap().as_str() == "HALFWAY").await;
}

#[tokio::test]
async fn results_may_be_in_msgpack() {
    let settings = json!({"result_serializer": "msgpack", "result_accept_content": ["json", "msgpack"]});
    let bench = Bench::rpc_with(&settings, |app| app.result_serializer("msgpack").accept(["json", "msgpack"])).await;
    let contents = json!({"list": [1, -2, 0.5, true, null, "🦀"], "nested": {"": {}}});
    let worker = bench.rust().await;
    assert_eq!(bench.call("rust.echo", json!([contents])).await.unwrap(), contents);
    let error = bench.call("rust.fail", json!(["ValueError"])).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.args), ("builtins.ValueError", vec![json!("no such value")]));
    worker.stop().await;
    let _worker = bench.solo(settings).await;
    let call = Signature::named("peers.echo").arg(value(contents.clone()));
    assert_eq!(bench.get(call).await.unwrap(), json!([[contents], {}]));
    let failure = bench.get(Signature::named("peers.fail").arg("no luck 🦀")).await.unwrap_err();
    assert_eq!((failure.exc_type.as_str(), failure.message().as_str()), ("ValueError", "no luck 🦀"));
}

#[tokio::test]
async fn a_result_of_python_comes_although_all_connections_were_closed() {
    let bench = Bench::rpc().await;
    let _worker = bench.solo(json!({})).await;
    let folder = bench.place.path();
    let call = Signature::named("peers.steps").arg(1).arg(folder.display().to_string());
    let result = bench.app.send(call).await.unwrap();
    until("the task runs", async || result.state().await.unwrap() == TaskState::PROGRESS).await;
    bench.close_connections().await;
    open_step(folder, 1);
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), Value::from(1));
    assert_eq!(bench.get(Signature::named("peers.add").arg(2).arg(3)).await.unwrap(), 5);
}

#[tokio::test]
async fn both_learn_that_a_task_has_expired() {
    let bench = Bench::rpc().await;
    let rust = RustWorker::start(bench.app.worker().concurrency(1).prefetch(Prefetch::Fixed(10))).await;
    // It waits in the worker until another one has ended.
    bench.send("rust.end", json!(["success"])).await;
    let soon = Timestamp::now() + Duration::from_secs(5);
    let id = bench.client.send("rust.now", json!([]), json!({}), json!({"expires": soon.to_string()})).await;
    bench.until("celery", (0, 2)).await;
    reach(soon).await;
    bench.gate.open(1);
    until("Python knows it", async || bench.client.state(&id).await.0 == "REVOKED").await;
    let error = bench.client.get(&id).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.args), ("celery.exceptions.TaskRevokedError", vec![json!("expired")]));
    rust.stop().await;

    let call = Signature::named("peers.add").arg(1).arg(2).option("expires", "2020-01-01T00:00:00+00:00");
    let result = bench.app.send(call).await.unwrap();
    let _python = bench.solo(json!({})).await;
    match result.get_timeout(PATIENCE).await {
        Err(ResultError::Revoked(failure)) => assert_eq!(failure.exc_type, "TaskRevokedError"),
        other => panic!("not revoked: {other:?}"),
    }
}

#[tokio::test]
async fn rust_sees_that_a_task_in_python_is_tried_again() {
    let bench = Bench::rpc().await;
    let _worker = bench.solo(json!({})).await;
    let result = bench.app.send(Signature::named("peers.retry").arg(1).kwarg("countdown", 2)).await.unwrap();
    until("it is to be tried again", async || result.state().await.unwrap() == TaskState::Retry).await;
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), Value::from(1));
}

#[tokio::test]
async fn an_extended_result_tells_the_other_all() {
    let bench = Bench::rpc().await;
    let worker = bench.app.worker().result_extended(true).name("rust@here");
    let rust = RustWorker::start(worker).await;
    // One object in Python knows the record, and no other.
    let told = "[[r.get(timeout=60), r.name, r.args, r.kwargs, r.worker, r.retries, r.queue] for r in [app.send_task('rust.join', ('a',), {'b': 'b'})]][0]";
    let told = bench.client.evaluate(told).await;
    assert_eq!(told, json!(["ab", "rust.join", ["a"], {"b": "b"}, "rust@here", 0, "celery"]));
    rust.stop().await;

    let _python = bench.solo(json!({"result_extended": true})).await;
    let result = bench.app.send(Signature::named("peers.retry").kwarg("times", 2)).await.unwrap();
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), Value::from(2));
    let extended = result.meta().await.unwrap().unwrap().extended;
    let told = ["name", "args", "kwargs", "retries", "queue"].map(|name| json_of(extended.get(name).unwrap()));
    assert_eq!(Json::from(told.to_vec()), json!(["peers.retry", [], {"times": 2}, 2, "celery"]));
    assert!(json_of(extended.get("worker").unwrap()).as_str().unwrap().contains('@'));
}

#[tokio::test]
async fn a_result_reaches_only_who_sent_the_task() {
    let bench = Bench::rpc().await;
    let _worker = bench.rust().await;
    let id = bench.send("rust.echo", json!([1])).await;
    assert_eq!(bench.client.get(&id).await.unwrap(), 1);
    assert_eq!(bench.result(&id).state().await.unwrap(), TaskState::Pending);
    // Nor does Python have it any more: what it asks with now is another object than what got it.
    assert_eq!(bench.client.state(&id).await.0, "PENDING");
    let result = bench.app.send(Signature::named("peers.add").arg(1).arg(2)).await.unwrap();
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), Value::from(3));
    assert_eq!(bench.client.state(result.id()).await.0, "PENDING");
    assert_eq!(result.state().await.unwrap(), TaskState::Success);
}
