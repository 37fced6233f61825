//! The peers in Python, among themselves: a client and a worker over a real Redis, no Rust in between.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac_testkit::server::RedisServer;
use celeriac_tests::python::{CameBy, Pool, PythonClient, PythonOptions, PythonWorker};
use celeriac_tests::until;
use serde_json::{Value, json};

/// A Redis, a worker and a client.
struct Peers {
    client: PythonClient,
    worker: PythonWorker,
    server: RedisServer,
}

async fn peers(options: PythonOptions) -> Peers {
    let server = RedisServer::start().await;
    let client = PythonClient::start(&server.url(), &server.url_of(1), &options.settings);
    let worker = PythonWorker::start(&server.url(), &server.url_of(1), options).await;
    Peers { client, worker, server }
}

fn solo() -> PythonOptions {
    PythonOptions { pool: Pool::Solo, ..PythonOptions::default() }
}

impl Peers {
    async fn send(&self, name: &str, args: Value) -> String {
        self.client.send(name, args, json!({}), json!({})).await
    }
}

#[tokio::test]
async fn results_exceptions_and_states_are_told_as_python_has_them() {
    let peers = peers(solo()).await;
    let add = peers.send("peers.add", json!([2, 3])).await;
    assert_eq!(peers.client.get(&add).await.unwrap(), 5);
    let echo = peers.client.send("peers.echo", json!([1, null]), json!({"a": [true]}), json!({})).await;
    assert_eq!(peers.client.get(&echo).await.unwrap(), json!([[1, null], {"a": [true]}]));
    let large = peers.send("peers.large", json!([100_000])).await;
    assert_eq!(peers.client.get(&large).await.unwrap().as_str().unwrap().len(), 100_000);
    let many = [add.clone(), echo.clone()];
    assert_eq!(peers.client.get_many(&many).await.unwrap()[0], 5);

    let fail = peers.send("peers.fail", json!(["no luck"])).await;
    let error = peers.client.get(&fail).await.unwrap_err();
    assert_eq!((error.class.as_str(), &error.args[..]), ("builtins.ValueError", &[json!("no luck")][..]));
    assert!(error.is("builtins.Exception") && !error.is("builtins.KeyError"));
    let (state, info) = peers.client.state(&fail).await;
    assert_eq!((state.as_str(), &info["class"]), ("FAILURE", &json!("builtins.ValueError")));
    let custom = peers.send("peers.custom_fail", json!([7, "detail"])).await;
    let error = peers.client.get(&custom).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.args), ("peer_app.CustomError", vec![json!(7), json!("detail")]));

    let progress = peers.send("peers.progress", json!([3])).await;
    assert_eq!(peers.client.get(&progress).await.unwrap(), 3);
    let halfway = peers.send("peers.custom_state", json!(["HALFWAY", {"at": 1}])).await;
    until("the state is there", async || peers.client.state(&halfway).await.0 == "HALFWAY").await;
    assert_eq!(peers.client.state(&halfway).await.1, json!({"at": 1}));
    let retry = peers.send("peers.retry", json!([2])).await;
    assert_eq!(peers.client.get(&retry).await.unwrap(), 2);
    let ignored = peers.send("peers.ignored", json!([1])).await;
    let last = peers.send("peers.sleep", json!([0.01])).await;
    assert_eq!(peers.client.get(&last).await.unwrap(), 0.01);
    assert_eq!(peers.client.state(&ignored).await.0, "PENDING");
    assert_eq!(peers.client.raw(&ignored).await, None);
    let raw: Value = serde_json::from_slice(&peers.client.raw(&add).await.unwrap()).unwrap();
    assert_eq!((&raw["status"], &raw["result"]), (&json!("SUCCESS"), &json!(5)));
}

#[tokio::test]
async fn options_of_a_call_reach_the_worker() {
    let settings = json!({"accept_content": ["json", "msgpack"]});
    let peers = peers(PythonOptions { queues: "celery,other".to_owned(), settings, ..solo() }).await;
    let options = json!({
        "queue": "other", "priority": 3, "serializer": "msgpack", "compression": "gzip", "headers": {"my": "own"},
        "eta": "2026-01-01T00:00:00Z", "expires": 3600,
    });
    let id = peers.client.send("peers.request", json!([1]), json!({"two": 2}), options).await;
    let request = peers.client.get(&id).await.unwrap();
    assert_eq!((&request["args"], &request["kwargs"]), (&json!([1]), &json!({"two": 2})));
    assert_eq!(
        (&request["delivery_info"]["routing_key"], &request["delivery_info"]["priority"]),
        (&json!("other"), &json!(3))
    );
    assert_eq!((&request["eta"], &request["my"]), (&json!("2026-01-01T00:00:00+00:00"), &json!("own")));
    assert!(request["expires"].is_string());
}

#[tokio::test]
async fn a_result_that_comes_later_is_pushed() {
    let peers = peers(solo()).await;
    peers.worker.pause();
    let add = peers.send("peers.add", json!([2, 3])).await;
    peers.server.command(&["CONFIG", "RESETSTAT"]).await;
    let go_on = async {
        until("the client has looked in vain", async || {
            peers.server.command(&["INFO", "commandstats"]).await.text().contains("cmdstat_get:")
        })
        .await;
        peers.worker.resume();
    };
    let (result, ()) = tokio::join!(peers.client.get_by(&add), go_on);
    assert_eq!(result.unwrap(), (json!(5), CameBy::Push));
    // Another client has to look, for it comes too late.
    let late = PythonClient::start(&peers.server.url(), &peers.server.url_of(1), &json!({}));
    assert_eq!(late.get_by(&add).await.unwrap(), (json!(5), CameBy::Look));
}

#[tokio::test]
async fn a_canvas_is_an_expression() {
    let peers = peers(solo()).await;
    let id = peers.client.evaluate("chain(add.s(1, 2), add.s(10)).apply_async().id").await;
    assert_eq!(peers.client.get(id.as_str().unwrap()).await.unwrap(), 13);
}

/// How many processes of the group `leader` run.
#[cfg(target_os = "linux")]
fn running(leader: u32) -> usize {
    let of_group = |stat: &String| {
        // Behind the program's name: state, parent, group.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, group) = (fields.next(), fields.nth(1));
        state != Some("Z") && group == Some(&leader.to_string())
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok()).filter(of_group).count()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_killed_worker_leaves_no_child_behind() {
    let place = tempfile::tempdir().unwrap();
    let trace = place.path().join("trace");
    let env = [("TRACE_FILE", trace.to_str().unwrap()), ("TRACE_SLEEP", "600")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let peers = peers(PythonOptions { env, ..PythonOptions::default() }).await;
    for n in 1..=2 {
        peers.send("peers.trace", json!([n])).await;
    }
    until("both children work", async || std::fs::read_to_string(&trace).unwrap_or_default().lines().count() == 2)
        .await;
    let leader = peers.worker.pid();
    assert!(running(leader) >= 3);
    peers.worker.kill();
    until("all have gone", async || running(leader) == 0).await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_finishes_its_task() {
    let peers = peers(PythonOptions::default()).await;
    let sleep = peers.send("peers.sleep", json!([0.5])).await;
    until("the task was received", async || peers.worker.log().contains(&sleep)).await;
    peers.worker.stop().await;
    assert_eq!(peers.client.get(&sleep).await.unwrap(), 0.5);
    assert!(tokio::time::timeout(Duration::from_secs(60), peers.worker.stop()).await.is_ok());
}
