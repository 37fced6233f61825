//! Watching: by Celery's channels, through lost connections, and by thousands.

use std::time::Duration;

use celeriac_backend::Watch;
use celeriac_core::{ErrorKind, StoreResult, TaskId, TaskMeta, TaskState};
use celeriac_testkit::server::{Fsync, RedisServer, Reply};
use celeriac_testkit::{PATIENCE, eventually, soon};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{Other, fetch, key, open, record, server, store, stored};

async fn next(watch: &mut Box<dyn Watch>) -> TaskMeta {
    soon(watch.next()).await.unwrap()
}

/// Sees to it that nothing comes.
async fn nothing(watch: &mut Box<dyn Watch>) {
    if let Ok(record) = timeout(Duration::from_millis(40), watch.next()).await {
        panic!("nothing was to come, but {record:?}");
    }
}

fn data(meta: &TaskMeta) -> &[u8] {
    meta.result.as_ref().map(|payload| &*payload.data).unwrap_or_default()
}

fn python(task: &TaskId, status: &str, result: u32) -> Vec<u8> {
    format!(r#"{{"status": "{status}", "result": {result}, "traceback": null, "children": [], "task_id": "{task}"}}"#)
        .into_bytes()
}

/// How many connections hear of a task.
async fn hearing(server: &RedisServer, task: &TaskId) -> i64 {
    match server.command(&["PUBSUB", "NUMSUB", &key(task)]).await {
        Reply::Array(counts) => match counts[..] {
            [_, Reply::Integer(count)] => count,
            _ => panic!("{counts:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_python_stores_is_seen() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let task = TaskId::random();
    let mut watch = backend.watch(&task).await.unwrap();
    for (status, result) in [("STARTED", 1), ("PROGRESS", 2), ("PROGRESS", 2), ("SUCCESS", 3)] {
        other.store(&key(&task), &python(&task, status, result)).await;
        let meta = next(&mut watch).await;
        assert_eq!((meta.state.as_str(), data(&meta)), (status, result.to_string().as_bytes()));
    }
    nothing(&mut watch).await;
}

#[tokio::test]
async fn what_is_published_is_not_read_again() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let task = TaskId::random();
    let mut watch = backend.watch(&task).await.unwrap();
    assert_eq!(other.publish(&key(&task), &python(&task, "SUCCESS", 1)).await, 1);
    assert_eq!(data(&next(&mut watch).await), b"1");
    assert_eq!(fetch(&backend, &task).await, None);
}

#[tokio::test]
async fn a_publication_that_is_no_record_is_malformed_and_the_watch_goes_on() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let task = TaskId::random();
    let mut watch = backend.watch(&task).await.unwrap();
    other.publish(&key(&task), b"{garbage").await;
    let error = soon(watch.next()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{}", error.report());
    assert!(error.to_string().contains(task.as_str()), "{error}");
    nothing(&mut watch).await;
    other.publish(&key(&task), &python(&task, "SUCCESS", 1)).await;
    assert_eq!(data(&next(&mut watch).await), b"1");
}

#[tokio::test]
async fn watches_of_one_task_share_a_subscription_that_ends_with_the_last() {
    let backend = store("").await.backend();
    let task = TaskId::random();
    let watches = join_all((0..50).map(|_| backend.watch(&task))).await;
    let mut watches: Vec<_> = watches.into_iter().map(Result::unwrap).collect();
    assert_eq!(hearing(server().await, &task).await, 1);
    let mut last = watches.pop().unwrap();
    drop(watches);
    backend.store(stored(&task, TaskState::Success, "1")).await.unwrap();
    assert_eq!(data(&next(&mut last).await), b"1");
    assert_eq!(hearing(server().await, &task).await, 1);
    drop(last);
    eventually(PATIENCE, async || hearing(server().await, &task).await == 0).await;
}

#[tokio::test]
async fn a_watch_that_is_given_up_while_it_begins_leaves_others_to_go_on() {
    let backend = store("").await.backend();
    for round in 0..40 {
        let task = TaskId::random();
        let given_up = timeout(Duration::from_micros(round * 20), backend.watch(&task));
        let (_, staying) = tokio::join!(given_up, backend.watch(&task));
        let mut staying = staying.unwrap();
        backend.store(stored(&task, TaskState::Success, "1")).await.unwrap();
        assert_eq!(data(&next(&mut staying).await), b"1");
    }
}

#[tokio::test]
async fn a_watch_ends_when_the_store_is_dropped() {
    let store = store("").await;
    let (backend, task) = (store.backend(), TaskId::random());
    let mut watch = backend.watch(&task).await.unwrap();
    let waiting = tokio::spawn(async move { (watch.next().await, watch.next().await) });
    drop((store, backend));
    let ends = soon(waiting).await.unwrap();
    for end in [ends.0, ends.1] {
        assert_eq!(end.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_watch_that_begins_after_a_record_was_deleted_elsewhere_sees_only_what_is_stored_then() {
    let (backend, mut other) = (store("").await.backend(), Other::to(server().await).await);
    let task = TaskId::random();
    let mut before = backend.watch(&task).await.unwrap();
    backend.store(stored(&task, TaskState::Success, "1")).await.unwrap();
    assert_eq!(data(&next(&mut before).await), b"1");
    server().await.command(&["DEL", &key(&task)]).await;
    let mut after = backend.watch(&task).await.unwrap();
    nothing(&mut after).await;
    other.store(&key(&task), &python(&task, "STARTED", 2)).await;
    assert_eq!(data(&next(&mut after).await), b"2");
    nothing(&mut before).await;
}

/// Has what is stored without a word seen by a watch that lost its connection.
async fn survives_a_lost_connection(options: &str) {
    let server = RedisServer::start().await;
    let (store, mut other) = (open(&format!("{}{options}", server.url())).await, Other::to(&server).await);
    let backend = store.backend();
    let tasks: Vec<TaskId> = (0..700).map(|_| TaskId::random()).collect();
    let mut watches: Vec<_> = join_all(tasks.iter().map(|task| backend.watch(task))).await;
    for round in 1..=2 {
        for task in &tasks[1..] {
            other.set(&key(task), &python(task, "PROGRESS", round)).await;
        }
        let killed = server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert!(matches!(killed, Reply::Integer(1..)), "{killed:?}");
        for watch in &mut watches[1..] {
            assert_eq!(data(&next(watch.as_mut().unwrap()).await), round.to_string().as_bytes());
        }
    }
    let reads = calls(&server, "mget").await;
    assert!((4..30).contains(&reads), "{reads} reads of many at once");
    // The one without a record hears as before.
    let first = watches[0].as_mut().unwrap();
    nothing(first).await;
    other.store(&key(&tasks[0]), &python(&tasks[0], "SUCCESS", 3)).await;
    assert_eq!(data(&next(first).await), b"3");
    store.close().await.unwrap();
}

#[tokio::test]
async fn records_stored_while_the_connection_was_lost_are_read() {
    survives_a_lost_connection("").await;
}

#[tokio::test]
async fn records_stored_while_the_connection_was_lost_are_read_in_resp2() {
    survives_a_lost_connection("?protocol=resp2").await;
}

#[tokio::test]
async fn a_watch_survives_a_restart_of_the_server() {
    let server = RedisServer::builder().append_only(Fsync::Always).start().await;
    let store = open(&server.url()).await;
    let (backend, task, later) = (store.backend(), TaskId::random(), TaskId::random());
    let mut watch = backend.watch(&task).await.unwrap();
    let mut waiting = backend.watch(&later).await.unwrap();
    server.kill();
    // Nobody publishes it.
    let (meta, ()) = tokio::join!(next(&mut watch), async {
        server.restart().await;
        Other::to(&server).await.set(&key(&task), &python(&task, "SUCCESS", 1)).await;
        server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    });
    assert_eq!(data(&meta), b"1");
    // What was called while the server was away is answered when it is back.
    server.kill();
    let (stored, ()) = tokio::join!(backend.store(stored(&later, TaskState::Success, "2")), server.restart());
    stored.unwrap();
    assert_eq!(data(&next(&mut waiting).await), b"2");
    assert_eq!(data(&fetch(&backend, &later).await.unwrap()), b"2");
    store.close().await.unwrap();
}

#[test]
fn a_watch_outlives_the_runtime_that_its_store_was_opened_on() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let task = TaskId::random();
    let (backend, watch) = first.block_on(async {
        let backend = store("").await.backend();
        let watch = backend.watch(&task).await;
        (backend, watch.unwrap())
    });
    let mut watches = second.block_on(async {
        let later = backend.watch(&task).await.unwrap();
        Other::to(server().await).await.set(&key(&task), &python(&task, "PROGRESS", 1)).await;
        [watch, later]
    });
    drop(first);
    second.block_on(async {
        for watch in &mut watches {
            assert_eq!(data(&next(watch).await), b"1");
        }
        backend.store(stored(&task, TaskState::Success, "2")).await.unwrap();
        for watch in &mut watches {
            assert_eq!(data(&next(watch).await), b"2");
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_watches_are_woken_and_each_costs_one_subscription_and_one_read() {
    const COUNT: usize = 2_000;
    let server = RedisServer::start().await;
    let (watching, storing) = (open(&server.url()).await, open(&server.url()).await);
    let (backend, storer) = (watching.backend(), storing.backend());
    let tasks: Vec<TaskId> = (0..COUNT).map(|_| TaskId::random()).collect();
    let watches = join_all(tasks.iter().map(|task| backend.watch(task))).await;
    let woken = join_all(watches.into_iter().map(|watch| async {
        let mut watch = watch.unwrap();
        next(&mut watch).await
    }));
    let batch = |tasks: &[TaskId]| {
        tasks.iter().map(|task| StoreResult::new(record(task, TaskState::Success, "1"))).collect::<Vec<_>>()
    };
    let (woken, stored) = tokio::join!(woken, storer.store(batch(&tasks)));
    stored.unwrap();
    assert_eq!(woken.iter().map(|meta| &meta.task_id).collect::<Vec<_>>(), tasks.iter().collect::<Vec<_>>());
    for (command, most) in [("subscribe", COUNT + 5), ("get", COUNT + 5), ("mget", 0)] {
        let calls = calls(&server, command).await;
        assert!(calls <= most, "{calls} calls of {command}");
    }
    let channels = async || server.command(&["PUBSUB", "CHANNELS", "celery-task-meta-*"]).await.texts().len();
    eventually(PATIENCE, async || channels().await == 0).await;
}

/// How often a command was called.
async fn calls(server: &RedisServer, command: &str) -> usize {
    let statistics = server.command(&["INFO", "commandstats"]).await.text();
    let start = format!("cmdstat_{command}:calls=");
    let line = statistics.lines().find_map(|line| line.strip_prefix(&start));
    line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}
