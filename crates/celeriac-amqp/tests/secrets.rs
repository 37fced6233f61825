//! No password, and no URL, reaches a log: not at any level, whatever goes wrong.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::io;
use std::sync::{Arc, Mutex};

use celeriac_amqp::{AmqpConfig, AmqpStore};
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::{Permissions, RabbitServer};

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
    let server = RabbitServer::start().await;
    server.default_vhost().add_user("shop", SECRET, Permissions::ALL).await;
    let proxy = FaultProxy::start_opaque(server.address()).await;
    let url = |password: &str| format!("amqp://shop:{password}@{}/?startup_timeout=1", proxy.address());

    let error = AmqpStore::open(AmqpConfig::from_url(&url("not-hunter2-either")).unwrap()).await.unwrap_err();
    assert!(!error.report().contains("hunter2"), "{}", error.report());

    let store = AmqpStore::open(AmqpConfig::from_url(&url(SECRET)).unwrap()).await.unwrap();
    proxy.refuse().await;
    proxy.cut();
    let error = AmqpStore::open(AmqpConfig::from_url(&url(SECRET)).unwrap()).await.unwrap_err();
    assert!(!error.report().contains("hunter2"), "{}", error.report());
    proxy.heal().await;
    store.close().await.unwrap();

    let said = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(!said.is_empty(), "something is logged");
    for secret in [SECRET, "hunter2", "amqp://"] {
        assert!(!said.contains(secret), "`{secret}` is in the log:\n{said}");
    }
}
