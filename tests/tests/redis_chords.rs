//! Chords in Redis that Python and Rust work on together: Python sends them, and tasks of one header end in both.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use base64::Engine as _;
use celeriac::redis::chord::{Chords, Claim, Part, Report};
use celeriac::redis::{RedisConfig, RedisStore};
use celeriac_core::{
    ContentType, GroupId, Payload, ResultTuple, StoreResult, TaskFailure, TaskId, TaskMeta, TaskState,
};
use celeriac_testkit::server::{RawRedis, RedisServer};
use celeriac_tests::python::{Pool, PythonClient, PythonOptions, PythonWorker};
use celeriac_tests::until;
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(86_400);

/// A Redis, whose database 1 has the results, and a client.
struct Peers {
    client: PythonClient,
    store: RedisStore,
    chords: Chords,
    results: RawRedis,
    server: RedisServer,
}

/// A task of a header, taken from its list as Python put it there.
struct Task {
    id: TaskId,
    group: GroupId,
    index: i64,
    args: Value,
}

impl Peers {
    async fn start() -> Self {
        let server = RedisServer::start().await;
        let client = PythonClient::start(&server.url(), &server.url_of(1), &json!({}));
        let store = RedisStore::open(RedisConfig::from_url(&server.url_of(1)).unwrap()).await.unwrap();
        let mut results = server.connect().await.unwrap();
        results.command(&["SELECT", "1"]).await.unwrap();
        Self { client, chords: store.chords(), store, results, server }
    }

    /// A Python worker on the queue `python`.
    async fn worker(&self) -> PythonWorker {
        let options = PythonOptions { pool: Pool::Solo, queues: "python".to_owned(), ..PythonOptions::default() };
        PythonWorker::start(&self.server.url(), &self.server.url_of(1), options).await
    }

    /// Has Python send a chord with a task for Python, then one for us. The body's id.
    async fn send(&self) -> String {
        let code =
            "chord([add.s(1, 1).set(queue='python'), add.s(2, 2).set(queue='rust')])(echo.s().set(queue='python')).id";
        self.client.evaluate(code).await.as_str().unwrap().to_owned()
    }

    /// Takes the task that is for us.
    async fn take(&self) -> Task {
        let envelope: Value = serde_json::from_str(&self.server.command(&["RPOP", "rust"]).await.text()).unwrap();
        let headers = &envelope["headers"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let body = base64::engine::general_purpose::STANDARD.decode(text(&envelope["body"])).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body[2]["chord"]["task"], "peers.echo");
        Task {
            id: text(&headers["id"]).parse().unwrap(),
            group: text(&headers["group"]).parse().unwrap(),
            index: headers["group_index"].as_i64().unwrap(),
            args: body[0].clone(),
        }
    }

    /// Ends a task of a header: stores how, and reports it.
    async fn end(&self, task: &Task, state: TaskState, result: &Value) -> Option<Claim> {
        let payload = Payload { content_type: ContentType::JSON, data: result.to_string().into() };
        let mut meta = TaskMeta::new(task.id.clone(), state).with_result(payload);
        meta.group_id = Some(task.group.clone());
        let part = Part::from(&meta);
        self.store.backend().store(vec![StoreResult::new(meta).expires(DAY)]).await.unwrap();
        let report = Report::new(task.group.clone(), Some(task.index), part).expires(DAY).result_expires(DAY);
        self.chords.report(&report).await.unwrap()
    }

    async fn ask(&mut self, words: &[&str]) -> String {
        self.results.command(words).await.unwrap().text()
    }

    /// Waits until a chord is left as Python leaves it when its body was sent.
    async fn until_done(&mut self, group: &GroupId) {
        let key = |end: &str| format!("celery-taskset-meta-{group}{end}");
        until("the chord is done", async || self.ask(&["GET", &key(".c")]).await == "done").await;
        let left = self.ask(&["EXISTS", &key(""), &key(".j"), &key(".s"), &key(".d"), &key(".t")]).await;
        assert_eq!(left, "0");
        let life: i64 = self.ask(&["TTL", &key(".c")]).await.parse().unwrap();
        assert!((200..=300).contains(&life), "{life}");
    }
}

#[tokio::test]
async fn whoever_has_the_last_part_of_a_chord_sends_its_body_with_the_results_of_both() {
    let mut peers = Peers::start().await;

    // Python's part comes last: no Python worker is there yet.
    let body = peers.send().await;
    let first = peers.take().await;
    assert_eq!((&first.args, first.index), (&json!([2, 2]), 1));
    assert_eq!(peers.end(&first, TaskState::Success, &json!(4)).await, None);
    let failed_body = peers.send().await;
    let failure = TaskFailure::new("builtins", "ValueError", "no luck").to_value();
    let failure = serde_json::to_value(&failure).unwrap();
    let failing = peers.take().await;
    assert_eq!(peers.end(&failing, TaskState::Failure, &failure).await, None);

    let _worker = peers.worker().await;
    assert_eq!(peers.client.get(&body).await.unwrap(), json!([[[2, 4]], {}]));
    peers.until_done(&first.group).await;
    assert_eq!(peers.end(&first, TaskState::Success, &json!(4)).await, None, "it is done");
    let error = peers.client.get(&failed_body).await.unwrap_err();
    assert_eq!(error.class, "celery.exceptions.ChordError");
    assert!(error.text.contains(&format!("Dependency {} raised ValueError('no luck')", failing.id)), "{}", error.text);

    // Ours comes last.
    let body = peers.send().await;
    let last = peers.take().await;
    let counted = format!("celery-taskset-meta-{}.d", last.group);
    until("Python has reported", async || peers.ask(&["SCARD", &counted]).await == "1").await;
    let claim = peers.end(&last, TaskState::Success, &json!(4)).await.unwrap();
    let parts = peers.chords.parts(claim.group()).await.unwrap();
    let results: Vec<Value> =
        parts.iter().map(|part| serde_json::from_slice(&part.result.as_ref().unwrap().data).unwrap()).collect();
    assert_eq!((&results[..], &parts[1].task_id), (&[json!(2), json!(4)][..], &last.id));
    assert!(peers.chords.extend(&claim, Duration::from_secs(21)).await.unwrap());
    let options = json!({"task_id": body, "queue": "python"});
    peers.client.send("peers.echo", json!([results]), json!({}), options).await;
    assert!(peers.chords.finish(&claim).await.unwrap());
    peers.until_done(&last.group).await;
    assert_eq!(peers.client.get(&body).await.unwrap(), json!([[[2, 4]], {}]));
}

#[tokio::test]
async fn groups_that_one_saved_are_read_by_the_other() {
    let peers = Peers::start().await;
    let (theirs, ours) = (GroupId::from_static("theirs"), GroupId::from_static("ours"));
    let code = "(lambda group: (group.save(), group.as_tuple())[1])\
        (app.GroupResult('theirs', [app.AsyncResult('a'), app.GroupResult('inner', [app.AsyncResult('b')])]))";
    let tuple = peers.client.evaluate(code).await;
    let saved = peers.chords.group(&theirs).await.unwrap().unwrap();
    assert_eq!(serde_json::to_value(&saved).unwrap(), tuple);
    let tuple = ResultTuple { id: ours.to_string(), ..saved };
    peers.chords.save_group(&ours, &tuple, Some(DAY)).await.unwrap();
    let restored = peers.client.evaluate("app.GroupResult.restore('ours').as_tuple()").await;
    assert_eq!(restored, serde_json::to_value(&tuple).unwrap());
}
