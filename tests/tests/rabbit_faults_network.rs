//! The network to RabbitMQ is bad for a while, or the server takes no messages because its memory is used up: nobody waits longer than they
//! said, nothing is lost, and work goes on by itself.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use celeriac::ErrorKind;
use celeriac::prelude::*;
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::{RabbitServer, Vhost};
use celeriac_tests::network::Place;
use celeriac_tests::rabbit::Queue;
use celeriac_tests::runs::{PATIENCE, Runs, Worker, twice};
use celeriac_tests::scenario::{self, Site as _};
use celeriac_tests::until;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// The server of all tests of this process.
async fn vhost() -> Vhost<'static> {
    static SERVER: OnceCell<RabbitServer> = OnceCell::const_new();
    SERVER.get_or_init(RabbitServer::start).await.vhost().await
}

/// An app with a worker behind a proxy, over a queue of this kind.
async fn place(kind: &str) -> Place<Queue<'static>> {
    let vhost = vhost().await;
    let proxy = FaultProxy::start_amqp(vhost.server().address()).await;
    let url = format!("{}?queue_type={kind}&heartbeat=1&connect_timeout=0.5", vhost.url_at(proxy.address()));
    Place::new(proxy, Queue::new(&vhost, url, "celery")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_for_a_while_is_waited_for() {
    for kind in ["classic", "quorum"] {
        let place = place(kind).await;
        place.proxy.black_hole();
        let waiting = place.send_meanwhile();
        // Those that were there are given up, because no heartbeat comes, and new ones are tried.
        let before = place.proxy.connections();
        until("it is tried anew", async || place.proxy.connections() > before + 3).await;
        place.proxy.heal().await;
        place.all_is_done(waiting).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_connections_for_a_while_is_waited_for() {
    for kind in ["classic", "quorum"] {
        let place = place(kind).await;
        place.proxy.refuse().await;
        place.proxy.cut();
        let waiting = place.send_meanwhile();
        tokio::time::sleep(Duration::from_millis(500)).await; // wait: some attempts fail
        place.proxy.heal().await;
        place.all_is_done(waiting).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_pieces_and_a_slow_one_change_nothing() {
    let vhost = vhost().await;
    for (what, delay, piece) in [("pieces", 0, 1), ("slow", 20, usize::MAX), ("both", 5, 7)] {
        let proxy = FaultProxy::start_amqp(vhost.server().address()).await;
        proxy.split(piece);
        proxy.delay(Duration::from_millis(delay));
        let site = Queue::new(&vhost, vhost.url_at(proxy.address()), what);
        let runs = scenario::run(&site, 1, Duration::from_millis(100)).await.unwrap();
        assert_eq!(runs.all(), scenario::TASKS + 1, "{what}: each once, and one twice that was handed back");
    }
}

/// What sending a task comes to while the server takes none because it is short of memory. It is told in time.
async fn refusal(app: &App, n: u64, limit: Duration) -> String {
    let begun = Instant::now();
    let error = app.send(twice::s(n)).await.unwrap_err();
    assert!(begun.elapsed() < limit * 10, "{:?}", begun.elapsed());
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{}", error.report());
    assert!(error.is_retryable(), "{}", error.report());
    error.report()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_memory_is_told_to_who_sends_and_worked_off_by_workers() {
    const LIMIT: Duration = Duration::from_millis(700);
    let server = RabbitServer::start().await;
    let vhost = server.default_vhost();
    // The deadline may be the app's or the store's.
    for (kind, option, limit) in [("classic", "", LIMIT), ("quorum", "&publish_timeout=0.7", PATIENCE)] {
        let runs = Runs::default();
        let site = Queue::new(&vhost, format!("{}?queue_type={kind}", vhost.url()), kind);
        let hasty = Queue::new(&vhost, format!("{}?queue_type={kind}{option}", vhost.url()), kind);
        let hasty = hasty.app(&runs).publish_timeout(limit).build().await.unwrap();
        let sender = site.app(&runs).build().await.unwrap();
        let working = site.app(&runs).build().await.unwrap();
        sender.send_batch((0..500).map(|n| twice::s(n).ignore_result(true))).await.unwrap();
        // Results are messages as well, and wait in the worker.
        let late = sender.send_batch((500..504).map(twice::s)).await.unwrap();
        until("the hasty one is connected", async || hasty.send(twice::s(510)).await.is_ok()).await;

        server.raise_memory_alarm().await;
        let worker = Worker::start(&working, 8);
        let told = |report: &str| ["`connection.blocked`", "low on memory"].iter().all(|word| report.contains(word));
        until("the server has said why it is silent", async || told(&refusal(&hasty, 504, LIMIT).await)).await;
        for n in 505..508 {
            let report = refusal(&hasty, n, LIMIT).await;
            assert!(told(&report), "{report}");
        }
        until("the worker has done and acknowledged all but what has a result to send", async || {
            let queue = vhost.queue_info(kind).await.unwrap();
            runs.done() >= 505 && queue.ready == 0 && queue.unacked < 100
        })
        .await;

        server.clear_memory_alarm().await;
        until("sending works again", async || hasty.send(twice::s(508)).await.is_ok()).await;
        for (n, result) in (500..).zip(late) {
            assert_eq!(result.get_timeout(PATIENCE).await.unwrap(), n * 2);
        }
        assert_eq!(sender.send(twice::s(509)).await.unwrap().get_timeout(PATIENCE).await.unwrap(), 509 * 2);
        until("nothing is left", async || site.undone().await.is_empty()).await;
        worker.stop().await;
        for app in [working, sender, hasty] {
            app.close().await.unwrap();
        }
        assert_eq!(site.undone().await, Vec::<String>::new());
        assert!((0..504).chain(508..511).all(|n| runs.of(n).all > 0), "{runs:?}");
    }
}
