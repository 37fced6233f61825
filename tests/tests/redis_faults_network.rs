//! The network to Redis is bad for a while: packets vanish, connections are refused, what is sent comes late or in pieces. Work goes on by
//! itself, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac::prelude::*;
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::RedisServer;
use celeriac_tests::redis::{Keys, undone};
use celeriac_tests::runs::{PATIENCE, Runs, Worker, builder, twice};
use celeriac_tests::scenario;
use celeriac_tests::until;
use tokio::task::JoinSet;

/// An app with a worker behind a proxy.
struct Place {
    server: RedisServer,
    proxy: FaultProxy,
    runs: Runs,
    app: App,
    worker: Worker,
}

impl Place {
    async fn new(options: &str) -> Self {
        let (server, runs) = (RedisServer::start().await, Runs::default());
        let proxy = FaultProxy::start(server.address()).await;
        let url = format!("redis://{}/0?lease=1&response_timeout=0.5&connect_timeout=0.5{options}", proxy.address());
        let app = builder(&url, &runs).publish_timeout(PATIENCE).build().await.unwrap();
        let worker = Worker::start(&app, 4);
        assert_eq!(app.send(twice::s(0)).await.unwrap().get_timeout(PATIENCE).await.unwrap(), 0);
        Self { server, proxy, runs, app, worker }
    }

    /// Sends tasks while the network is bad. Their results have to come once it is good.
    async fn send_meanwhile(&self) -> JoinSet<(u64, Result<u64, String>)> {
        let mut waiting = JoinSet::new();
        for n in 1..=20 {
            let app = self.app.clone();
            waiting.spawn(async move {
                let sent = app.send(twice::s(n)).await.map_err(|error| error.report());
                let outcome = match sent {
                    Ok(result) => result.get_timeout(PATIENCE).await.map_err(|error| error.to_string()),
                    Err(error) => Err(error),
                };
                (n, outcome)
            });
        }
        waiting
    }

    async fn all_is_done(self, mut waiting: JoinSet<(u64, Result<u64, String>)>) {
        while let Some(ended) = waiting.join_next().await {
            let (n, outcome) = ended.unwrap();
            assert_eq!(outcome, Ok(n * 2));
        }
        until("nothing is left", async || undone(&self.server, 0, "").await.is_empty()).await;
        self.worker.stop().await;
        self.app.close().await.unwrap();
        assert_eq!(undone(&self.server, 0, "").await, Vec::<String>::new());
        assert_eq!(self.runs.done(), 21);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_for_a_while_is_waited_for() {
    for options in ["", "&protocol=resp2"] {
        let place = Place::new(options).await;
        place.proxy.black_hole();
        let waiting = place.send_meanwhile().await;
        // Those that were there are given up, and new ones are tried.
        let before = place.proxy.connections();
        until("it is tried anew", async || place.proxy.connections() > before + 3).await;
        place.proxy.heal().await;
        place.all_is_done(waiting).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_connections_for_a_while_is_waited_for() {
    for options in ["", "&protocol=resp2"] {
        let place = Place::new(options).await;
        place.proxy.refuse().await;
        place.proxy.cut();
        let waiting = place.send_meanwhile().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await; // wait: longer than the lease, and some attempts
        place.proxy.heal().await;
        place.all_is_done(waiting).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_too_late_is_no_answer_and_nothing_is_done_twice_for_it() {
    let place = Place::new("").await;
    // Later than `response_timeout`.
    place.proxy.delay(Duration::from_millis(700));
    let waiting = place.send_meanwhile().await;
    tokio::time::sleep(Duration::from_millis(2_000)).await; // wait: a few attempts fail
    place.proxy.heal().await;
    place.all_is_done(waiting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_pieces_and_a_slow_one_change_nothing() {
    let server = RedisServer::start().await;
    for options in ["", "&protocol=resp2"] {
        for (what, delay, piece) in [("pieces.", 0, 1), ("slow.", 20, usize::MAX), ("both.", 5, 7)] {
            let proxy = FaultProxy::start(server.address()).await;
            proxy.split(piece);
            proxy.delay(Duration::from_millis(delay));
            let prefix = format!("{}.{what}", options.len());
            let site = Keys::new(&server, proxy.address(), options, &prefix);
            let runs = scenario::run(&site, 1, Duration::from_millis(100)).await.unwrap();
            assert_eq!(runs.all(), scenario::TASKS + 1, "{what}: each once, and one twice that was handed back");
        }
    }
}
