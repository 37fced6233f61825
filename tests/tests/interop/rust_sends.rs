//! Rust sends, Python works, Rust gets what came of it.

use celeriac::{Signature, TaskState, Value};
use celeriac_tests::python::PythonOptions;
use celeriac_tests::until;
use serde_json::{Value as Json, json};

use crate::support::{Bench, PATIENCE, json_of, open_step, value};

#[tokio::test]
async fn rust_gets_what_a_task_in_python_returns() {
    let bench = Bench::new().await;
    let _worker = bench.solo(json!({})).await;
    assert_eq!(bench.get(Signature::named("peers.add").arg(2).arg(3)).await.unwrap(), 5);
    assert_eq!(bench.get(Signature::named("peers.add").arg(2).kwarg("y", 3)).await.unwrap(), 5);
    assert_eq!(bench.get(Signature::named("peers.echo")).await.unwrap(), json!([[], {}]));
    // By the signature of the task in Rust, whose name Python knows too.
    assert_eq!(bench.app.send(crate::tasks::add::s(2, 3)).await.unwrap().get_timeout(PATIENCE).await.unwrap(), 5);
    for contents in [
        json!({"list": [1, -2, 0.5, 1e300, true, null, []], "nested": {"": {"a b": "\"quoted\"\\\n\t\u{0}"}}}),
        json!("Grüße, 世界, 𝒳 and 🦀 \u{10ffff}"),
        json!([i64::MAX, i64::MIN, u64::MAX, 9_007_199_254_740_993_u64]),
        Json::Null,
        json!(""),
    ] {
        let call = Signature::named("peers.echo").arg(value(contents.clone())).kwarg("ключ", value(contents.clone()));
        assert_eq!(bench.get(call).await.unwrap(), json!([[contents], {"ключ": contents}]));
    }
    let text = "0123456789abcdef".repeat(65_536);
    assert_eq!(bench.get(Signature::named("peers.echo").arg(text.as_str())).await.unwrap()[0][0], text);
    let large = bench.get(Signature::named("peers.large").arg(1_048_576)).await.unwrap();
    assert_eq!(large.as_str().unwrap().len(), 1_048_576);
    // Python reads what Rust has asked for, too.
    let result = bench.app.send(Signature::named("peers.add").arg(1).arg(1)).await.unwrap();
    assert_eq!(bench.client.get(result.id()).await.unwrap(), 2);
    bench.is_empty("celery").await;
}

#[tokio::test]
async fn rust_gets_what_a_task_in_python_raises() {
    let bench = Bench::new().await;
    let _worker = bench.solo(json!({})).await;
    let failure = bench.get(Signature::named("peers.fail").arg("no luck 🦀")).await.unwrap_err();
    assert_eq!((failure.exc_type.as_str(), failure.exc_module.as_deref()), ("ValueError", Some("builtins")));
    assert_eq!(failure.message(), "no luck 🦀");
    let traceback = failure.traceback.unwrap();
    assert!(traceback.contains("raise ValueError(message)"), "{traceback}");

    let failure = bench.get(Signature::named("peers.custom_fail").arg(7).arg("detail")).await.unwrap_err();
    assert_eq!((failure.exc_type.as_str(), failure.exc_module.as_deref()), ("CustomError", Some("peer_app")));
    assert_eq!(failure.exc_message, [Value::from(7), Value::from("detail")]);

    let failure = bench.get(Signature::named("peers.unknown")).await.unwrap_err();
    assert_eq!((failure.exc_type.as_str(), failure.message().as_str()), ("NotRegistered", "peers.unknown"));
    let failure = bench.get(Signature::named("peers.add").arg(1)).await.unwrap_err();
    assert_eq!(failure.exc_type, "TypeError");
    // It goes on after all of that.
    assert_eq!(bench.get(Signature::named("peers.retry").arg(2)).await.unwrap(), 2);
}

#[tokio::test]
async fn rust_hears_of_every_step_of_a_task_in_python() {
    hears_of_every_step(&Bench::new().await).await;
}

/// Has a task in Python tell its steps, and hears of them in Rust.
pub(crate) async fn hears_of_every_step(bench: &Bench) {
    let _worker = bench.solo(json!({"task_track_started": true})).await;
    let folder = bench.place.path();
    let call = Signature::named("peers.steps").arg(3).arg(folder.display().to_string());
    let result = bench.app.send(call).await.unwrap();
    let mut updates = result.updates().await.unwrap();
    let mut next = 1;
    while let Some(update) = tokio::time::timeout(PATIENCE, updates.next()).await.unwrap() {
        let update = update.unwrap();
        if update.state == TaskState::Started {
            assert!(update.detail.get("pid").is_some() && next == 1, "{update:?}");
            continue;
        }
        assert_eq!((&update.state, update.current, update.total), (&TaskState::PROGRESS, Some(next), Some(3)));
        open_step(folder, next);
        next += 1;
    }
    assert_eq!(next, 4);
    assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), Value::from(3));
}

#[tokio::test]
async fn rust_sees_a_state_of_pythons_own() {
    let bench = Bench::new().await;
    let _worker = bench.solo(json!({})).await;
    let call = Signature::named("peers.custom_state").arg("HALFWAY").arg(value(json!({"at": "the 🦀"})));
    let result = bench.app.send(call).await.unwrap();
    until("the state is there", async || result.state().await.unwrap().as_str() == "HALFWAY").await;
    let mut updates = result.updates().await.unwrap();
    let update = updates.next().await.unwrap().unwrap();
    assert_eq!(json_of(&update.detail), json!({"at": "the 🦀"}));
}

#[tokio::test]
async fn python_stores_no_result_that_rust_does_not_want() {
    let bench = Bench::new().await;
    let _worker = bench.solo(json!({})).await;
    let unwanted = bench.app.send(Signature::named("peers.add").arg(1).arg(2).option("ignore_result", true)).await;
    let ignored = bench.app.send(Signature::named("peers.ignored").arg(1)).await.unwrap();
    let unwanted = unwanted.unwrap();
    assert_eq!(bench.get(Signature::named("peers.add").arg(1).arg(2)).await.unwrap(), 3);
    assert!(unwanted.get().await.is_err(), "nobody waits for what will not come");
    for result in [unwanted, ignored] {
        assert_eq!(result.state().await.unwrap(), TaskState::Pending);
    }
}

#[tokio::test]
async fn what_rust_says_about_a_task_reaches_python() {
    let bench = Bench::new().await;
    let _worker = bench.solo(json!({})).await;
    let call = Signature::named("peers.request").arg(1).kwarg("two", "zwei").option("priority", 4);
    let call = call.option("headers", value(json!({"tenant": "ünïcode", "depth": {"a": [1]}})));
    let seen = bench
        .get(
            call.option("task_id", "my-own-id")
                .option("shadow", "shown")
                .option("time_limit", 30)
                .option("soft_time_limit", 20.5),
        )
        .await
        .unwrap();
    for (name, wanted) in [
        ("id", json!("my-own-id")),
        ("task", json!("peers.request")),
        ("lang", json!("rs")),
        ("root_id", json!("my-own-id")),
        ("parent_id", Json::Null),
        ("retries", json!(0)),
        ("args", json!([1])),
        ("kwargs", json!({"two": "zwei"})),
        ("argsrepr", json!("(1,)")),
        ("kwargsrepr", json!("{'two': 'zwei'}")),
        ("shadow", json!("shown")),
        ("tenant", json!("ünïcode")),
        ("depth", json!({"a": [1]})),
        ("correlation_id", json!("my-own-id")),
        ("timelimit", json!([30, 20.5])),
    ] {
        assert_eq!(seen[name], wanted, "{name} of {seen}");
    }
    assert_eq!(seen["delivery_info"]["priority"], 4);
    assert_eq!(seen["delivery_info"]["routing_key"], "celery");
    assert_eq!(seen["delivery_info"]["redelivered"], false);
}

#[tokio::test]
async fn rust_finds_the_children_of_a_task_in_python() {
    let bench = Bench::new().await;
    let _worker = bench.solo(json!({"result_extended": true})).await;
    let result = bench.app.send(Signature::named("peers.parent").arg(2).arg(3)).await.unwrap();
    let child = json_of(&result.get_timeout(PATIENCE).await.unwrap());
    let child = child.as_str().unwrap();
    let meta = result.meta().await.unwrap().unwrap();
    assert_eq!(meta.children.unwrap().iter().map(|child| child.id.as_str()).collect::<Vec<_>>(), [child]);
    assert_eq!(meta.extended.get("name"), Some(&Value::from("peers.parent")));
    assert_eq!(bench.result(child).get_timeout(PATIENCE).await.unwrap(), Value::from(5));
    assert_eq!(bench.result(child).meta().await.unwrap().unwrap().parent_id.as_ref(), Some(result.id()));
}

#[tokio::test]
async fn a_task_of_rust_has_the_time_in_python_that_rust_gives_it() {
    let bench = Bench::new().await;
    let _worker = bench.python(PythonOptions::default()).await;
    for (limit, class) in [("time_limit", "TimeLimitExceeded"), ("soft_time_limit", "SoftTimeLimitExceeded")] {
        let failure = bench.get(Signature::named("peers.sleep").arg(600).option(limit, 1)).await.unwrap_err();
        assert_eq!(failure.exc_type, class, "{failure:?}");
    }
}
