//! What is seen of a running task.

use celeriac_consumer::Tasks;
use celeriac_core::{TaskHeaders, TaskId, TaskName, TaskState, Value};
use celeriac_producer::signature;

use crate::support::{Bench, output, probe, soon, stored};

task!(async Steps(cx, count: u64) -> String {
    for step in 1..=count {
        cx.progress(step, count);
        probe(cx).tell("step");
        probe(cx).pass().await;
    }
    Ok("done".to_owned())
});
task!(async Burst(cx, count: u64) -> String {
    for step in 1..=count {
        cx.progress(step, count);
    }
    probe(cx).pass().await;
    Ok("done".to_owned())
});
task!(async OwnState(cx) -> String {
    cx.update_state("WIRING", &vec![1, 2])?;
    let refused = cx.update_state("SUCCESS", &1).err().map(|error| error.to_string());
    probe(cx).pass().await;
    Ok(refused.unwrap_or_default())
});
task!(#[track_started = true] async Tracked(cx) -> i64 {
    probe(cx).pass().await;
    Ok(1)
});
task!(#[ignore_result = true] async Silent(cx) -> i64 {
    cx.progress(1, 2);
    probe(cx).tell("silent");
    probe(cx).pass().await;
    Ok(1)
});
task!(async Parent(cx) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(cx.send(signature::<Child, _>(())).await?.id().as_str().to_owned());
    }
    Ok(ids)
});
task!(async Child(cx) -> (String, Option<String>) {
    Ok((cx.root_id().as_str().to_owned(), cx.parent_id().map(|id| id.as_str().to_owned())))
});
task!(async Divide(_cx, a: i64, b: i64) -> i64 { Ok(a / b) });

fn tasks() -> Tasks {
    Tasks::new()
        .with::<Steps>()
        .with::<Burst>()
        .with::<OwnState>()
        .with::<Tracked>()
        .with::<Silent>()
        .with::<Parent>()
        .with::<Child>()
        .with::<Divide>()
}

#[tokio::test]
async fn progress_is_seen_step_by_step_until_the_task_has_ended() {
    let mut bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Steps, _>((3,))).await.unwrap();
    let mut updates = result.updates().await.unwrap();
    for step in 1..=3 {
        assert_eq!(bench.told().await, "step");
        let progress = soon(updates.next()).await.unwrap().unwrap();
        assert_eq!((progress.state, progress.current, progress.total), (TaskState::PROGRESS, Some(step), Some(3)));
        bench.open(1);
    }
    assert!(soon(updates.next()).await.is_none());
    assert_eq!(output(&result).await, "done");
    // Whoever comes late sees the end.
    assert!(soon(result.updates().await.unwrap().next()).await.is_none());
}

#[tokio::test]
async fn the_newest_progress_wins() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Burst, _>((1_000,))).await.unwrap();
    let mut updates = result.updates().await.unwrap();
    let mut seen = vec![0];
    while seen.last() != Some(&1_000) {
        seen.push(soon(updates.next()).await.unwrap().unwrap().current.unwrap());
    }
    assert!(seen.is_sorted(), "{seen:?}");
    bench.open(1);
    assert!(soon(updates.next()).await.is_none());
}

#[tokio::test]
async fn a_state_of_the_tasks_own_is_seen_with_what_it_says() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<OwnState, _>(())).await.unwrap();
    let progress = soon(result.updates().await.unwrap().next()).await.unwrap().unwrap();
    assert_eq!(progress.state, TaskState::from("WIRING"));
    assert_eq!(progress.detail, Value::from(vec![Value::from(1), Value::from(2)]));
    assert_eq!((progress.current, progress.total), (None, None));
    bench.open(1);
    assert!(output(&result).await.contains("state `SUCCESS` is set by the worker alone"));
}

#[tokio::test]
async fn the_start_of_a_task_is_seen_if_it_is_tracked() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let result = bench.producer.send(signature::<Tracked, _>(())).await.unwrap();
    let started = soon(result.updates().await.unwrap().next()).await.unwrap().unwrap();
    assert_eq!(started.state, TaskState::Started);
    assert_eq!(started.detail.get("hostname"), Some(&Value::from("worker@test")));
    assert_eq!(started.detail.get("pid"), Some(&Value::from(u64::from(std::process::id()))));
    let meta = bench.meta(result.id()).await.unwrap();
    assert_eq!((meta.date_done, meta.children), (None, Some(Vec::new())));
    bench.open(1);
    assert_eq!(output(&result).await, 1);
}

#[tokio::test]
async fn a_task_whose_result_is_ignored_shows_no_progress() {
    let mut bench = Bench::new();
    let worker = bench.start_with(tasks(), |config| config.track_started = true);
    let result = bench.producer.send(signature::<Silent, _>(())).await.unwrap();
    assert_eq!(bench.told().await, "silent");
    bench.open(1);
    worker.shut_down().await;
    assert_eq!(bench.meta(result.id()).await, None);
}

#[tokio::test]
async fn tasks_sent_by_a_task_are_its_children_and_of_its_workflow() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let parent = bench.producer.send(signature::<Parent, _>(())).await.unwrap();
    let ids = output(&parent).await;
    let meta = bench.ended(parent.id()).await;
    let children: Vec<String> = meta.children.unwrap().into_iter().map(|child| child.id).collect();
    assert_eq!(children, ids);
    for id in ids {
        let id: celeriac_core::TaskId = id.parse().unwrap();
        let (root, from) = output(&bench.producer.result::<(String, Option<String>)>(id.clone())).await;
        assert_eq!((root.as_str(), from.as_deref()), (parent.id().as_str(), Some(parent.id().as_str())));
        assert_eq!(bench.ended(&id).await.parent_id.as_ref(), Some(parent.id()));
    }
}

#[tokio::test]
async fn an_extended_result_says_what_ran_where() {
    let bench = Bench::new();
    let _worker = bench.start_with(tasks(), |config| config.result_extended = true);
    let call = celeriac_core::Signature::named("Divide").arg(6).kwarg("b", 3);
    let result = bench.producer.send(call).await.unwrap();
    let meta = bench.ended(result.id()).await;
    assert_eq!(stored(&meta), Value::from(2));
    let expected = [
        ("name", Value::from("Divide")),
        ("args", Value::from(vec![Value::from(6)])),
        ("kwargs", Value::Map([("b", 3)].into_iter().collect())),
        ("worker", Value::from("worker@test")),
        ("retries", Value::from(0)),
        ("queue", Value::from("celery")),
    ];
    assert_eq!(meta.extended, expected.into_iter().collect());
}

#[tokio::test]
async fn an_extended_result_bears_the_stamps_as_celerys_does() {
    let bench = Bench::new();
    let _worker = bench.start_with(tasks(), |config| config.result_extended = true);
    let mut headers = TaskHeaders::new(TaskName::from_static("Divide"), TaskId::random());
    let id = headers.id.clone();
    headers.stamped_headers = Some(vec!["tenant".to_owned()]);
    headers.stamps = [("tenant", "t1")].into_iter().collect();
    bench.publish(headers, None, "[[6, 3], {}, {}]").await;
    let extended = bench.ended(&id).await.extended;
    assert_eq!(extended.get("stamped_headers"), Some(&Value::from(vec![Value::from("tenant")])));
    assert_eq!(extended.get("tenant"), Some(&Value::from("t1")));
}
