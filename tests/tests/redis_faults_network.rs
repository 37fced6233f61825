//! The network to Redis is bad for a while: packets vanish, connections are refused, what is sent comes late or in pieces. Work goes on by
//! itself, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac::AppBuilder;
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::RedisServer;
use celeriac_tests::network::Place;
use celeriac_tests::redis::{Keys, undone};
use celeriac_tests::runs::{Runs, builder};
use celeriac_tests::scenario::{self, Site};
use celeriac_tests::until;

/// All of a server, by a URL through a proxy, with short timeouts.
struct Distant<'a>(&'a RedisServer, String);

impl Site for Distant<'_> {
    fn app(&self, runs: &Runs) -> AppBuilder {
        builder(&self.1, runs)
    }

    async fn undone(&self) -> Vec<String> {
        undone(self.0, 0, "").await
    }
}

/// An app with a worker behind a proxy.
async fn place<'a>(server: &'a RedisServer, options: &str) -> Place<Distant<'a>> {
    let proxy = FaultProxy::start(server.address()).await;
    let url = format!("redis://{}/0?lease=1&response_timeout=0.5&connect_timeout=0.5{options}", proxy.address());
    Place::new(proxy, Distant(server, url)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_for_a_while_is_waited_for() {
    for options in ["", "&protocol=resp2"] {
        let server = RedisServer::start().await;
        let place = place(&server, options).await;
        place.proxy.black_hole();
        let waiting = place.send_meanwhile();
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
        let server = RedisServer::start().await;
        let place = place(&server, options).await;
        place.proxy.refuse().await;
        place.proxy.cut();
        let waiting = place.send_meanwhile();
        tokio::time::sleep(Duration::from_millis(1_500)).await; // wait: longer than the lease, and some attempts
        place.proxy.heal().await;
        place.all_is_done(waiting).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_too_late_is_no_answer_and_nothing_is_done_twice_for_it() {
    let server = RedisServer::start().await;
    let place = place(&server, "").await;
    // Later than `response_timeout`.
    place.proxy.delay(Duration::from_millis(700));
    let waiting = place.send_meanwhile();
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
