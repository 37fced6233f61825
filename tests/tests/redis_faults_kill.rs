//! Workers of one queue on Redis, in Rust and in Python, are killed with SIGKILL while they work: no task and no result is lost.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use celeriac_testkit::server::RedisServer;
use celeriac_tests::load::{have_results, send_traced};
use celeriac_tests::python::{Pool, PythonOptions, PythonWorker};
use celeriac_tests::redis::undone;
use celeriac_tests::{Place, until};
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Child;

/// How many workers of each kind are killed.
const RUST_KILLS: usize = 14;
const PYTHON_KILLS: usize = 4;
/// How many tasks there are at least.
const TASKS: u64 = 2_000;

/// How many tasks Python runs, and holds, at once.
const PYTHONS: usize = 2;

fn rust_worker(url: &str, place: &Place) -> Child {
    place.worker_of(env!("CARGO_BIN_EXE_actor"), url, 4)
}

async fn python_worker(server: &RedisServer, folder: &Path) -> PythonWorker {
    let settings = json!({
        "task_acks_late": true,
        "worker_prefetch_multiplier": 1,
        "broker_transport_options": {"visibility_timeout": 5},
    });
    let env = [("TRACE_FILE", folder.join("trace").display().to_string()), ("TRACE_SLEEP", "0.02".to_owned())];
    let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let options = PythonOptions { pool: Pool::Prefork(PYTHONS), settings, env, ..PythonOptions::default() };
    PythonWorker::start(&server.url(), &server.url(), options).await
}

/// The tags of what Python holds.
async fn held_by_python(server: &RedisServer) -> HashSet<String> {
    let tags = server.command(&["HKEYS", "unacked"]).await.texts();
    tags.into_iter().filter(|tag| !tag.starts_with("rs.")).collect()
}

/// Kills a Python worker in the middle of its work, but while it holds as much as it may: between taking a message and recording it Python
/// would lose it. `lost` is what dead ones hold.
async fn kill_python(server: &RedisServer, worker: &PythonWorker, lost: &mut HashSet<String>) {
    until("a Python worker holds as much as it may", async || {
        worker.pause();
        let held = held_by_python(server).await;
        if held.difference(lost).count() == PYTHONS {
            worker.kill();
            lost.extend(held);
            return true;
        }
        worker.resume();
        false
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_survive_the_kills_of_workers_in_rust_and_in_python() {
    let (server, place) = (RedisServer::start().await, Place::new());
    let url = format!("{}?lease=1&visibility_timeout=5", server.url());
    let app = celeriac_tests::app(&url, place.path()).await.unwrap();
    let mut rust = [rust_worker(&url, &place), rust_worker(&url, &place)];
    let mut python = python_worker(&server, place.path()).await;
    let enough = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(send_traced(app.clone(), TASKS, Arc::clone(&enough)));

    let traces = place.traces();
    let (mut random, mut lost) = (fastrand::Rng::with_seed(5), HashSet::new());
    let mut more = async || {
        let count = traces.lines("trace").len() + random.usize(50..150);
        until("more tasks run", async || traces.lines("trace").len() >= count).await;
    };
    for kill in 0..RUST_KILLS {
        more().await;
        let victim = kill % rust.len();
        rust[victim].kill().await.unwrap();
        rust[victim] = rust_worker(&url, &place);
        if kill % RUST_KILLS.div_ceil(PYTHON_KILLS) == 0 {
            kill_python(&server, &python, &mut lost).await;
            python = python_worker(&server, place.path()).await;
        }
    }
    enough.store(true, Ordering::Relaxed);
    let results = sending.await.unwrap();
    let count = results.len();
    have_results(results, |n| n).await;
    until("nothing is left", async || undone(&server, 0, "").await.is_empty()).await;
    for mut worker in rust {
        celeriac_tests::signal(&worker, Signal::TERM);
        assert!(worker.wait().await.unwrap().success());
    }
    python.stop().await;
    app.close().await.unwrap();

    assert_eq!(undone(&server, 0, "").await, Vec::<String>::new());
    let ran: Vec<u64> = traces.lines("trace").iter().map(|n| n.parse().unwrap()).collect();
    let once: HashSet<u64> = ran.iter().copied().collect();
    assert_eq!(once.len(), count);
    println!("{count} tasks, {} runs too many", ran.len() - count);
}
