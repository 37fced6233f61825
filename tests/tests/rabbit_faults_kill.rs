//! Workers of one queue on RabbitMQ, in Rust and in Python, are killed with SIGKILL while they work: no task and no result is lost.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test tells its figures, and may fail")]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use celeriac_testkit::server::RabbitServer;
use celeriac_tests::load::{have_results, send_traced};
use celeriac_tests::python::{Pool, PythonOptions, PythonWorker};
use celeriac_tests::rabbit::Queue;
use celeriac_tests::scenario::Site as _;
use celeriac_tests::{Place, until};
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Child;

/// How many workers of each kind are killed.
const RUST_KILLS: usize = 14;
const PYTHON_KILLS: usize = 3;
/// How many tasks there are at least.
const TASKS: u64 = 1_000;

/// How many tasks Python runs, and holds, at once.
const PYTHONS: usize = 2;

fn rust_worker(url: &str, place: &Place) -> Child {
    place.worker_of(env!("CARGO_BIN_EXE_actor"), url, 4)
}

async fn python_worker(url: &str, kind: &str, folder: &Path) -> PythonWorker {
    let settings = json!({
        "task_acks_late": true,
        "task_default_queue_type": kind,
        "worker_prefetch_multiplier": 1,
    });
    let env = [("TRACE_FILE", folder.join("trace").display().to_string()), ("TRACE_SLEEP", "0.02".to_owned())];
    let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let options = PythonOptions { pool: Pool::Prefork(PYTHONS), settings, env, ..PythonOptions::default() };
    PythonWorker::start(url, "rpc://", options).await
}

/// Kills workers in Rust, and as many in Python as `python_kills` says, while they work on a queue of this kind.
async fn tasks_survive_kills(kind: &str, python_kills: usize) {
    let (server, place) = (RabbitServer::start().await, Place::new());
    let vhost = server.default_vhost();
    let url = format!("{}?queue_type={kind}", vhost.url());
    let app = celeriac_tests::app(&url, place.path()).await.unwrap();
    let mut rust = [rust_worker(&url, &place), rust_worker(&url, &place)];
    let mut python = match python_kills {
        0 => None,
        _ => Some(python_worker(&vhost.url(), kind, place.path()).await),
    };
    let enough = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(send_traced(app.clone(), TASKS, Arc::clone(&enough)));

    let traces = place.traces();
    let mut random = fastrand::Rng::with_seed(5);
    let mut more = async || {
        let count = traces.lines("trace").len() + random.usize(50..150);
        until("more tasks run", async || traces.lines("trace").len() >= count).await;
    };
    for kill in 0..RUST_KILLS {
        more().await;
        let victim = kill % rust.len();
        rust[victim].kill().await.unwrap();
        rust[victim] = rust_worker(&url, &place);
        if let Some(worker) = &mut python
            && kill % RUST_KILLS.div_ceil(python_kills) == 0
        {
            worker.kill();
            *worker = python_worker(&vhost.url(), kind, place.path()).await;
        }
    }
    enough.store(true, Ordering::Relaxed);
    let results = sending.await.unwrap();
    let count = results.len();
    have_results(results, |n| n).await;
    let queue = Queue::new(&vhost, url, "celery");
    until("nothing is left", async || queue.undone().await.is_empty()).await;
    for mut worker in rust {
        celeriac_tests::signal(&worker, Signal::TERM);
        assert!(worker.wait().await.unwrap().success());
    }
    if let Some(worker) = python {
        worker.stop().await;
    }
    app.close().await.unwrap();

    assert_eq!(queue.undone().await, Vec::<String>::new());
    let ran: Vec<u64> = traces.lines("trace").iter().map(|n| n.parse().unwrap()).collect();
    let once: HashSet<u64> = ran.iter().copied().collect();
    assert_eq!(once.len(), count);
    println!("{count} tasks, {} runs too many", ran.len() - count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_in_a_classic_queue_survive_the_kills_of_workers_in_rust_and_in_python() {
    tasks_survive_kills("classic", PYTHON_KILLS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_in_a_quorum_queue_survive_the_kills_of_workers_in_rust_and_in_python() {
    tasks_survive_kills("quorum", 1).await;
}
