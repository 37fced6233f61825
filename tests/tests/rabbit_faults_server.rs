//! The RabbitMQ server is away for a while, stopped, killed or halted, or an operator closes its connections, while tasks are sent and worked:
//! nothing is lost, and work goes on by itself.

use std::cell::Cell;
use std::time::Duration;

use celeriac_testkit::server::RabbitServer;
use celeriac_tests::load::under_load;
use celeriac_tests::rabbit::Queue;

/// A classic queue and a quorum queue.
fn sites<'a>(server: &'a RabbitServer, options: &str) -> [Queue<'a>; 2] {
    let vhost = server.default_vhost();
    ["classic", "quorum"].map(|kind| Queue::new(&vhost, format!("{}?queue_type={kind}{options}", vhost.url()), kind))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_an_operator_closes_lose_nothing() {
    let server = RabbitServer::start().await;
    under_load(&sites(&server, ""), 6, async || server.close_all_connections("for a test").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_stopped_or_killed_and_started_again_loses_nothing() {
    let server = RabbitServer::start().await;
    // Stopped first: one that is killed within moments of a quorum queue's declaration does not know the queue any more when it is back.
    let kill = Cell::new(false);
    under_load(&sites(&server, ""), 4, async || {
        if kill.replace(!kill.get()) {
            server.kill();
        } else {
            server.stop().await;
        }
        server.restart().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_halts_loses_nothing() {
    let server = RabbitServer::start().await;
    // Its clients find out the second time.
    let halt = Cell::new(Duration::from_millis(300));
    under_load(&sites(&server, "&heartbeat=1"), 2, async || {
        server.pause();
        tokio::time::sleep(halt.replace(Duration::from_secs(4))).await; // wait: longer than two heartbeats
        server.resume();
    })
    .await;
}
