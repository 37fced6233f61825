//! No password, and no URL, reaches a log: not at any level, whatever goes wrong.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac_redis::{RedisConfig, RedisStore};
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::RedisServer;
use common::*;

const SECRET: &str = "hunter2-is-secret";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::Error::other("poisoned"))?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_reaches_a_log() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).init();
    let server = RedisServer::builder().user("shop", SECRET, "~* &* +@all").start().await;
    let proxy = FaultProxy::start(server.address()).await;
    let url = |password: &str| format!("redis://shop:{password}@{}/0?lease=1&startup_timeout=1", proxy.address());

    let error = RedisStore::open(RedisConfig::from_url(&url("not-hunter2-either")).unwrap()).await.unwrap_err();
    assert!(!error.report().contains("hunter2"), "{}", error.report());

    let store = open(RedisConfig::from_url(&url(SECRET)).unwrap()).await;
    let jobs = queue("jobs");
    let mut consumer = consumer(&store, &jobs).await;
    publish(&store, &jobs, &["x"]).await;
    one(&mut consumer).await.ack().await.unwrap();
    // Lost, refused, and found again.
    proxy.refuse().await;
    proxy.cut();
    none(&mut consumer, Duration::from_millis(300)).await;
    proxy.heal().await;
    server.command(&["LPUSH", "jobs", "no message"]).await;
    drop(one(&mut consumer).await);
    store.close().await.unwrap();

    let said = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(!said.is_empty(), "something is logged");
    for secret in [SECRET, "hunter2", "redis://"] {
        assert!(!said.contains(secret), "`{secret}` is in the log:\n{said}");
    }
}
