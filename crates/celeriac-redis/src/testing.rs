//! What the tests against servers have in common.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

use std::sync::Arc;
use std::time::Duration;

use celeriac_testkit::server::{RedisBuilder, RedisServer};
use deadpool_redis::redis::{self, Cmd};

use crate::config::RedisConfig;
use crate::endpoint::Endpoint;
use crate::link::Link;

/// What comes at all comes within this, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn config(url: &str) -> RedisConfig {
    RedisConfig::from_url(url).unwrap()
}

pub(crate) fn endpoint(config: RedisConfig) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(config).unwrap())
}

pub(crate) fn link(config: RedisConfig) -> Link {
    Link::new(endpoint(config))
}

pub(crate) fn link_to(server: &RedisServer) -> Link {
    link(config(&server.url()))
}

/// The command of these words, between which are spaces.
pub(crate) fn command(words: &str) -> Cmd {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command
}

/// Waits for what must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}

/// Waits until `holds`.
#[allow(clippy::future_not_send, reason = "a test awaits it in place")]
pub(crate) async fn until(holds: impl AsyncFn() -> bool) {
    let look_again = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await; // wait: a server's state can only be asked for
        }
    };
    soon(look_again).await;
}

/// A server for replicas, which get its data at once.
pub(crate) fn leader() -> RedisBuilder {
    RedisServer::builder().config("repl-diskless-sync-delay 0")
}
