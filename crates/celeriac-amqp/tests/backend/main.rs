//! Results by messages, on a real RabbitMQ.

#![cfg(test)]
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a harness stops at the first error")]

mod losses;
mod messages;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_amqp::{AmqpConfig, AmqpStore};
use celeriac_backend::{ResultBackend, Watch};
use celeriac_core::{ContentType, ErrorKind, Payload, RoutingKey, StoreResult, TaskId, TaskMeta, TaskState};
use celeriac_testkit::backend::BackendHarness;
use celeriac_testkit::server::{ClientCertificate, RabbitBuilder, RabbitServer, Vhost};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

/// The server that all tests share which leave it as it is.
async fn server() -> &'static RabbitServer {
    RabbitServer::shared().await
}

async fn vhost() -> Vhost<'static> {
    server().await.vhost().await
}

async fn open(url: &str) -> AmqpStore {
    AmqpStore::open(AmqpConfig::from_url(url).unwrap()).await.unwrap()
}

async fn backend(url: &str) -> Arc<dyn ResultBackend> {
    open(url).await.backend()
}

/// A client that is not celeriac.
async fn stranger(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// A result in JSON, for whoever reads `reply_to`.
fn result(id: &TaskId, state: TaskState, json: impl Into<String>, reply_to: Option<RoutingKey>) -> StoreResult {
    let payload = Payload { content_type: ContentType::JSON, data: json.into().into() };
    let mut result = StoreResult::new(TaskMeta::new(id.clone(), state).with_result(payload));
    result.reply_to = reply_to;
    result
}

async fn next(watch: &mut Box<dyn Watch>) -> TaskMeta {
    timeout(SOON, watch.next()).await.expect("a record comes").unwrap()
}

/// The record of a task, once it has ended.
async fn end(backend: &Arc<dyn ResultBackend>, id: &TaskId) -> TaskMeta {
    let mut watch = backend.watch(id).await.unwrap();
    loop {
        let meta = next(&mut watch).await;
        if meta.state.is_ready() {
            return meta;
        }
    }
}

/// What a record's result is, in JSON.
fn json(meta: &TaskMeta) -> serde_json::Value {
    meta.result.as_ref().map_or(serde_json::Value::Null, |payload| serde_json::from_slice(&payload.data).unwrap())
}

/// How to reach the server.
type Way = fn(&RabbitServer) -> AmqpConfig;

struct Rpc {
    way: Way,
    builder: RabbitBuilder,
}

#[async_trait]
impl BackendHarness for Rpc {
    async fn open(&self) -> Arc<dyn ResultBackend> {
        let server = self.builder.clone().shared().await;
        AmqpStore::open((self.way)(server)).await.unwrap().backend()
    }

    async fn reopen(&self) -> Option<Arc<dyn ResultBackend>> {
        Some(self.open().await)
    }
}

mod conformance {
    use super::*;

    celeriac_testkit::backend_conformance!(|| Rpc {
        way: |server| AmqpConfig::from_url(&server.url()).unwrap(),
        builder: RabbitServer::builder(),
    });
}

#[cfg(feature = "tls")]
mod conformance_by_tls {
    use super::*;

    celeriac_testkit::backend_conformance!(|| Rpc {
        way: |server| {
            let files = server.certificates();
            let pem = |path: &std::path::Path| std::fs::read(path).unwrap();
            AmqpConfig::from_url(&server.tls_url())
                .unwrap()
                .ca_certificate_pem(pem(&files.ca))
                .client_certificate_pem(pem(&files.client), pem(&files.client_key))
        },
        builder: RabbitServer::builder().tls(ClientCertificate::Required),
    });
}
