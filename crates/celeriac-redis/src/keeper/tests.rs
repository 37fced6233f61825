//! Tests of what the keeper makes of the server's clock.

use celeriac_testkit::server::RedisServer;
use celeriac_testkit::{PATIENCE, eventually};

use super::*;
use crate::testing::{config, link};

const LEASE: Duration = Duration::from_secs(5);
const HELD: &str = r#"[{"body": "x", "headers": {}, "properties": {}}, "", "jobs"]"#;

/// The server's clock, in microseconds.
async fn clock(server: &RedisServer) -> u64 {
    let time: Vec<u64> =
        server.command(&["TIME"]).await.texts().iter().map(|part| part.parse().expect("a number")).collect();
    time[0] * 1_000_000 + time[1]
}

/// A keeper that has not been disturbed for long, and what another worker holds, under a lease that has just ended.
async fn keeper(server: &RedisServer) -> Keeper {
    server.command(&["HSET", "unacked", "rs.other.1", HELD]).await;
    lease_has_ended(server).await;
    let config = config(&server.url()).lease(LEASE);
    let calm = watch::Sender::new(Instant::now() - LEASE * 2);
    Keeper::new(link(config.clone()), Arc::new(Shared::new(config)), calm, CancellationToken::new())
}

async fn lease_has_ended(server: &RedisServer) {
    let ended = clock(server).await / 1_000_000 - 1;
    server.command(&["ZADD", "unacked_index", &ended.to_string(), "rs.other.1"]).await;
}

async fn waiting(server: &RedisServer) -> String {
    server.command(&["LLEN", "jobs"]).await.text()
}

#[tokio::test]
async fn what_is_held_by_others_is_not_taken_back_just_after_the_servers_clock_was_set_forward() {
    let server = RedisServer::start().await;
    let mut keeper = keeper(&server).await;
    keeper.clock = Some(Seen { asked: Instant::now(), time: clock(&server).await - 60_000_000 });
    keeper.sweep().await.unwrap();
    assert_eq!(waiting(&server).await, "0");
    // The others get as much time as after an outage, by this worker's clock.
    assert!(keeper.calm.borrow().elapsed() < LEASE);
    keeper.sweep().await.unwrap();
    assert_eq!(waiting(&server).await, "0");
    keeper.calm.send_replace(Instant::now() - LEASE * 2);
    lease_has_ended(&server).await;
    // Whoever has not renewed by then is dead. Between two searches there is a pause.
    eventually(PATIENCE, async || {
        keeper.sweep().await.unwrap();
        waiting(&server).await == "1"
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_runs_as_ones_own_is_believed() {
    let server = RedisServer::start().await;
    let mut keeper = keeper(&server).await;
    keeper.sweep().await.unwrap();
    assert_eq!(waiting(&server).await, "0", "the first sweep only sees what time it is");
    // However long ago that was.
    let Seen { asked, time } = keeper.clock.unwrap();
    keeper.clock = Some(Seen { asked: asked - LEASE * 2, time: time - 10_000_000 });
    keeper.sweep().await.unwrap();
    assert_eq!(waiting(&server).await, "1");
    assert!(keeper.calm.borrow().elapsed() >= LEASE);
}
