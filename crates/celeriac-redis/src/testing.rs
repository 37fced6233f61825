//! What the tests against servers have in common.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

use std::sync::Arc;

use celeriac_testkit::server::{RedisBuilder, RedisServer};
pub(crate) use celeriac_testkit::soon;
use celeriac_testkit::{PATIENCE, eventually};
use deadpool_redis::redis::{self, Cmd};

use crate::config::RedisConfig;
use crate::endpoint::Endpoint;
use crate::link::Link;

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

/// Waits until `holds`.
#[allow(clippy::future_not_send, reason = "a test awaits it in place")]
pub(crate) async fn until(holds: impl AsyncFn() -> bool) {
    eventually(PATIENCE, holds).await;
}

/// A server for replicas, which get its data at once.
pub(crate) fn leader() -> RedisBuilder {
    RedisServer::builder().config("repl-diskless-sync-delay 0")
}
