//! Python sends, Rust works, Python gets what came of it.

use celeriac::{Signature, TaskState, Value};
use celeriac_tests::until;
use serde_json::{Value as Json, json};

use crate::support::{Bench, PATIENCE, RustWorker, json_of};

#[tokio::test]
async fn python_gets_what_a_task_in_rust_returns() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    assert_eq!(bench.call("peers.add", json!([2, 3])).await.unwrap(), 5);
    assert_eq!(bench.call("rust.nothing", json!([])).await.unwrap(), Json::Null);
    for value in [
        json!({"list": [1, -2, 0.5, 1e300, true, null, []], "nested": {"": {"a b": "\"quoted\"\\\n\t\u{0}"}}}),
        json!("Grüße, 世界, 𝒳 and 🦀 \u{10ffff}"),
        json!({"ключ 🔑": "значение"}),
        json!([i64::MAX, i64::MIN, u64::MAX, 9_007_199_254_740_993_u64]),
        json!(""),
    ] {
        assert_eq!(bench.call("rust.echo", json!([value])).await.unwrap(), value);
    }
    for (args, kwargs, joined) in [
        (json!(["a", "b"]), json!({}), "ab"),
        (json!(["a"]), json!({"separator": " 🦀 ", "b": "ß"}), "a 🦀 ß"),
        (json!([]), json!({"b": "b", "a": "a", "separator": null}), "ab"),
    ] {
        let id = bench.client.send("rust.join", args, kwargs, json!({})).await;
        assert_eq!(bench.client.get(&id).await.unwrap(), joined);
    }
    // Numbers beyond 64 bits, which the test's own JSON does not hold.
    let huge = "2 ** 200 == app.send_task('rust.echo', (2 ** 200,)).get(timeout=60)";
    assert_eq!(bench.client.evaluate(huge).await, true);
    bench.is_empty("celery").await;
}

#[tokio::test]
async fn python_raises_what_a_task_in_rust_fails_with() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    for (how, class, args) in [
        ("ValueError", "builtins.ValueError", json!(["no such value"])),
        ("CustomError", "peer_app.CustomError", json!([7, "detail"])),
        // Classes that Python does not know are made up, of the same name.
        ("OutOfStock", "OutOfStock", json!(["only 3 left"])),
        ("ParseIntError", "ParseIntError", json!(["invalid digit found in string"])),
        ("text", "TaskError", json!(["just a text"])),
        ("panic", "Panic", json!(["out of order"])),
        ("reject", "celery.exceptions.Reject", json!(["not mine", false])),
    ] {
        let id = bench.send("rust.fail", json!([how])).await;
        let error = bench.client.get(&id).await.unwrap_err();
        assert!(error.is("builtins.Exception"), "{error:?}");
        assert!(error.class == class || error.class.ends_with(&format!(".{class}")), "{error:?} for {class}");
        assert_eq!(Json::from(error.args.clone()), args, "{error:?}");
        assert_eq!(bench.client.state(&id).await.0, "FAILURE");
    }
    // Which class it is decides what catches it.
    let caught = "[None for result in [app.send_task('rust.fail', ('ValueError',))] if not isinstance(result.get(timeout=60, propagate=False), ValueError)]";
    assert_eq!(bench.client.evaluate(caught).await, json!([]));
    let id = bench.send("rust.fail", json!(["CustomError"])).await;
    assert!(bench.client.get(&id).await.is_err());
    let traceback = format!("celery.result.AsyncResult({id:?}, app=app).traceback");
    assert_eq!(bench.client.evaluate(&traceback).await, "at the counter");
}

#[tokio::test]
async fn a_call_that_does_not_fit_fails_as_in_python() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    for args in [json!([1]), json!([1, 2, 3]), json!(["one", "two"])] {
        // Python knows a task of this name and would refuse to send it itself.
        let id = bench.client.evaluate(&format!("app.send_task('peers.add', {args}).id")).await;
        let error = bench.client.get(id.as_str().unwrap()).await.unwrap_err();
        assert_eq!(error.class, "builtins.TypeError", "{error:?}");
        assert!(error.text.contains("peers.add()"), "{error:?}");
    }
}

#[tokio::test]
async fn a_task_that_rust_does_not_know_is_not_registered() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let error = bench.call("rust.unknown", json!([1])).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.args), ("celery.exceptions.NotRegistered", vec![json!("rust.unknown")]));
    bench.is_empty("celery").await;
}

#[tokio::test]
async fn python_sees_the_states_of_a_task_in_rust() {
    sees_states(&Bench::new().await).await;
}

/// Has a task in Rust go from state to state, as Python sees them.
pub(crate) async fn sees_states(bench: &Bench) {
    let _worker = RustWorker::start(bench.app.worker().track_started(true).name("rust@here")).await;
    let id = bench.send("rust.states", json!([])).await;
    for (state, info) in [
        ("STARTED", json!({"pid": std::process::id(), "hostname": "rust@here"})),
        ("PROGRESS", json!({"current": 1, "total": 4})),
        ("HALFWAY", json!({"at": "the middle"})),
        ("SUCCESS", Json::Null),
    ] {
        until(state, async || bench.client.state(&id).await.0 == state).await;
        assert_eq!(bench.client.state(&id).await.1, info);
        bench.gate.open(1);
    }
    assert_eq!(bench.client.get(&id).await.unwrap(), Json::Null);
}

#[tokio::test]
async fn a_result_that_is_ignored_is_not_stored() {
    let bench = Bench::new().await;
    let worker = bench.rust().await;
    let no_result = json!({"ignore_result": true});
    let ids = [
        bench.send("rust.ignored", json!([])).await,
        bench.client.send("rust.echo", json!([1]), json!({}), no_result.clone()).await,
        bench.client.send("peers.add", json!([1, 2]), json!({}), no_result).await,
        bench.send("rust.fail", json!(["ignore"])).await,
    ];
    bench.is_empty("celery").await;
    worker.stop().await;
    for id in ids {
        assert_eq!(bench.client.state(&id).await, ("PENDING".to_owned(), Json::Null));
        assert_eq!(bench.client.raw(&id).await, None);
    }
}

#[tokio::test]
async fn a_megabyte_goes_there_and_back() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let text = "0123456789abcdef".repeat(65_536);
    assert_eq!(bench.call("rust.echo", json!([text])).await.unwrap(), text);
    let large = bench.call("rust.large", json!([1_048_576])).await.unwrap();
    assert_eq!(large.as_str().unwrap().len(), 1_048_576);
}

#[tokio::test]
async fn what_python_says_about_a_task_reaches_rust() {
    let bench = Bench::new().await;
    let _worker = RustWorker::start(bench.app.worker().queues(["celery", "other"])).await;
    let options = json!({
        "queue": "other", "headers": {"tenant": "ünïcode", "depth": {"a": [1]}}, "shadow": "shown", "task_id": "my-own-id",
        "priority": 4, "time_limit": 30, "soft_time_limit": 20.5,
    });
    let id = bench.client.send("peers.request", json!([]), json!({}), options).await;
    assert_eq!(id, "my-own-id");
    let seen = bench.client.get(&id).await.unwrap();
    assert_eq!(seen["extra"], json!({"tenant": "ünïcode", "depth": {"a": [1]}}));
    for (name, wanted) in [
        ("by", json!("Rust")),
        ("id", json!("my-own-id")),
        ("task", json!("peers.request")),
        ("lang", json!("py")),
        ("root_id", json!("my-own-id")),
        ("parent_id", Json::Null),
        ("retries", json!(0)),
        ("argsrepr", json!("()")),
        ("kwargsrepr", json!("{}")),
        ("shadow", json!("shown")),
        ("queue", json!("other")),
        ("routing_key", json!("other")),
        ("redelivered", json!(false)),
        ("timelimit", json!([30.0, 20.5])),
    ] {
        assert_eq!(seen[name], wanted, "{name}");
    }
    assert!(seen["origin"].as_str().unwrap().starts_with("gen"));
}

#[tokio::test]
async fn python_finds_the_children_of_a_task_in_rust() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let id = bench.send("rust.parent", json!([])).await;
    let child = bench.client.get(&id).await.unwrap();
    let children = format!("[child.id for child in celery.result.AsyncResult({id:?}, app=app).children]");
    assert_eq!(bench.client.evaluate(&children).await, json!([child]));
    assert_eq!(bench.client.get(child.as_str().unwrap()).await.unwrap(), 5);
    let meta = bench.result(child.as_str().unwrap()).meta().await.unwrap().unwrap();
    assert_eq!((meta.state, meta.parent_id.unwrap().as_str()), (TaskState::Success, id.as_str()));
}

#[tokio::test]
async fn an_extended_result_tells_python_all() {
    let bench = Bench::new().await;
    let worker = bench.app.worker().result_extended(true).name("rust@here").queues(["celery", "other"]);
    let _worker = RustWorker::start(worker).await;
    let (args, kwargs) = (json!(["a"]), json!({"b": "b"}));
    let joined = bench.client.send("rust.join", args.clone(), kwargs.clone(), json!({"queue": "celery"})).await;
    assert_eq!(bench.client.get(&joined).await.unwrap(), "ab");
    // As a task that is tried for the third time.
    let how = json!(["ValueError"]);
    let failed = bench.client.send("rust.fail", how.clone(), json!({}), json!({"queue": "other", "retries": 2})).await;
    assert!(bench.client.get(&failed).await.is_err());
    let call = Signature::named("rust.join").arg("a").kwarg("b", "b").option("queue", "other");
    let by_rust = bench.app.send(call).await.unwrap();
    by_rust.get_timeout(PATIENCE).await.unwrap();
    for (id, wanted) in [
        (joined.as_str(), json!(["rust.join", args, kwargs, "rust@here", 0, "celery"])),
        (&failed, json!(["rust.fail", how, {}, "rust@here", 2, "other"])),
        (by_rust.id(), json!(["rust.join", args, kwargs, "rust@here", 0, "other"])),
    ] {
        let result = format!("celery.result.AsyncResult({id:?}, app=app)");
        let told = format!("[[r.name, r.args, r.kwargs, r.worker, r.retries, r.queue] for r in [{result}]][0]");
        assert_eq!(bench.client.evaluate(&told).await, wanted);
        let done = format!("{result}.date_done.tzinfo is not None");
        assert_eq!(bench.client.evaluate(&done).await, true);
        assert_eq!(extended(&bench, id).await, wanted);
    }
}

/// As `an_extended_result_tells_python_all`, the other way round: Python works, Rust reads.
#[tokio::test]
async fn an_extended_result_of_python_tells_rust_all() {
    let bench = Bench::new().await;
    let _worker = bench.solo(json!({"result_extended": true})).await;
    for times in [0, 2] {
        let id = bench.client.send("peers.retry", json!([]), json!({"times": times}), json!({})).await;
        assert_eq!(bench.client.get(&id).await.unwrap(), times);
        let mut told = extended(&bench, &id).await;
        let worker = told[3].take();
        assert!(worker.as_str().unwrap().contains('@'), "{worker}");
        assert_eq!(told, json!(["peers.retry", [], {"times": times}, null, times, "celery"]));
    }
}

/// What Rust reads of an extended result.
async fn extended(bench: &Bench, id: &str) -> Json {
    let extended = bench.result(id).meta().await.unwrap().unwrap().extended;
    let names = ["name", "args", "kwargs", "worker", "retries", "queue"];
    names.map(|name| json_of(extended.get(name).unwrap())).into_iter().collect()
}

#[tokio::test]
async fn both_read_a_result_that_the_other_asked_for() {
    let bench = Bench::new().await;
    let _worker = bench.rust().await;
    let id = bench.send("rust.echo", json!([{"a": [1, null]}])).await;
    let value: Value = bench.result(&id).get_timeout(PATIENCE).await.unwrap();
    assert_eq!(json_of(&value), json!({"a": [1, null]}));
    assert_eq!(bench.client.get(&id).await.unwrap(), json!({"a": [1, null]}));
}
