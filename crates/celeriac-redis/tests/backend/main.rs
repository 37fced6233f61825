//! The result backend against a real server: its conformance suite in every way to connect, Celery's records, and watching.
#![allow(clippy::unwrap_used, reason = "a test that cannot reach its own server has failed")]

mod records;
mod states;
mod watching;

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_backend::ResultBackend;
use celeriac_core::{ContentType, Payload, StoreResult, TaskId, TaskMeta, TaskState};
use celeriac_redis::{RedisConfig, RedisStore};
use celeriac_testkit::backend::BackendHarness;
use celeriac_testkit::server::RedisServer;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, cmd};
use tokio::sync::OnceCell;

/// The one server of this process, for all tests that leave it alone.
async fn server() -> &'static RedisServer {
    static SERVER: OnceCell<RedisServer> = OnceCell::const_new();
    SERVER.get_or_init(RedisServer::start).await
}

/// Another one, which takes TLS and asks for a certificate.
#[cfg(feature = "tls")]
async fn encrypted() -> &'static RedisServer {
    use celeriac_testkit::server::ClientCertificate;
    static SERVER: OnceCell<RedisServer> = OnceCell::const_new();
    SERVER.get_or_init(|| RedisServer::builder().tls(ClientCertificate::Required).start()).await
}

async fn open(url: &str) -> RedisStore {
    RedisStore::open(RedisConfig::from_url(url).unwrap()).await.unwrap()
}

/// A store on the server of this process, `options` being those of its URL.
async fn store(options: &str) -> RedisStore {
    open(&format!("{}{options}", server().await.url())).await
}

/// Redis without celeriac, as another program uses it.
struct Other(MultiplexedConnection);

impl Other {
    async fn to(server: &RedisServer) -> Self {
        Self(Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap())
    }

    async fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        cmd("GET").arg(key).query_async(&mut self.0).await.unwrap()
    }

    /// Stores a value, and tells nobody.
    async fn set(&mut self, key: &str, value: &[u8]) {
        cmd("SET").arg(key).arg(value).exec_async(&mut self.0).await.unwrap();
    }

    /// Tells how many heard of a value.
    async fn publish(&mut self, key: &str, value: &[u8]) -> u64 {
        cmd("PUBLISH").arg(key).arg(value).query_async(&mut self.0).await.unwrap()
    }

    /// Stores a value as Celery does.
    async fn store(&mut self, key: &str, value: &[u8]) {
        let mut transaction = deadpool_redis::redis::pipe();
        transaction.atomic().cmd("SETEX").arg(key).arg(86_400).arg(value).ignore();
        transaction.cmd("PUBLISH").arg(key).arg(value).ignore();
        transaction.exec_async(&mut self.0).await.unwrap();
    }
}

fn key(id: &TaskId) -> String {
    format!("celery-task-meta-{id}")
}

/// A record whose result is this JSON.
fn record(id: &TaskId, state: TaskState, json: impl Into<String>) -> TaskMeta {
    let payload = Payload { content_type: ContentType::JSON, data: json.into().into() };
    TaskMeta::new(id.clone(), state).with_result(payload)
}

fn stored(id: &TaskId, state: TaskState, json: impl Into<String>) -> Vec<StoreResult> {
    vec![StoreResult::new(record(id, state, json))]
}

/// The record of `id`, if any.
async fn fetch(backend: &Arc<dyn ResultBackend>, id: &TaskId) -> Option<TaskMeta> {
    backend.fetch(std::slice::from_ref(id)).await.unwrap().pop().unwrap()
}

/// One way to connect.
enum Harness {
    To(fn(&RedisServer) -> String),
    #[cfg(feature = "tls")]
    ByTls,
}

impl Harness {
    async fn backend(&self) -> Arc<dyn ResultBackend> {
        let url = match self {
            Self::To(url) => url(server().await),
            #[cfg(feature = "tls")]
            Self::ByTls => encrypted().await.url_with_certificates(),
        };
        open(&url).await.backend()
    }
}

#[async_trait]
impl BackendHarness for Harness {
    async fn open(&self) -> Arc<dyn ResultBackend> {
        self.backend().await
    }

    async fn reopen(&self) -> Option<Arc<dyn ResultBackend>> {
        Some(self.backend().await)
    }
}

mod resp3 {
    use super::{Harness, RedisServer};

    celeriac_testkit::backend_conformance!(|| Harness::To(RedisServer::url));
}

mod resp2 {
    use super::Harness;

    celeriac_testkit::backend_conformance!(|| Harness::To(|server| format!("{}?protocol=resp2", server.url())));
}

mod prefixed {
    use super::Harness;

    const OPTIONS: &str = "global_keyprefix=queues_&result_keyprefix=results";
    celeriac_testkit::backend_conformance!(|| Harness::To(|server| format!("{}?{OPTIONS}", server.url_of(3))));
}

mod unix_socket {
    use super::Harness;

    celeriac_testkit::backend_conformance!(|| Harness::To(|server| format!(
        "redis+socket://{}",
        server.socket().display()
    )));
}

#[cfg(feature = "tls")]
mod by_tls {
    use super::Harness;

    celeriac_testkit::backend_conformance!(|| Harness::ByTls);
}
