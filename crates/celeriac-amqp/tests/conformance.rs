//! The broker's conformance suite on a real RabbitMQ, in a virtual host for each behaviour: classic queues, quorum queues, queues with
//! priorities, and by TLS.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a harness stops at the first error")]

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_amqp::{AmqpConfig, AmqpStore, QueueType};
use celeriac_broker::Broker;
use celeriac_testkit::broker::BrokerHarness;
use celeriac_testkit::server::{ClientCertificate, RabbitServer, Vhost};
use tokio::sync::OnceCell;

/// How to reach a virtual host.
type Way = fn(&Vhost<'_>) -> AmqpConfig;

struct Harness {
    way: Way,
    vhost: OnceCell<Vhost<'static>>,
}

impl Harness {
    fn new(way: Way) -> Self {
        Self { way, vhost: OnceCell::new() }
    }

    async fn store(&self) -> AmqpStore {
        let vhost = async || RabbitServer::builder().tls(ClientCertificate::Required).shared().await.vhost().await;
        AmqpStore::open((self.way)(self.vhost.get_or_init(vhost).await)).await.unwrap()
    }
}

fn plain(vhost: &Vhost<'_>) -> AmqpConfig {
    AmqpConfig::from_url(&vhost.url()).unwrap()
}

#[async_trait]
impl BrokerHarness for Harness {
    async fn open(&self) -> Arc<dyn Broker> {
        self.store().await.broker()
    }

    async fn reopen(&self) -> Option<Arc<dyn Broker>> {
        Some(self.store().await.broker())
    }
}

mod classic {
    use super::*;

    celeriac_testkit::broker_conformance!(|| Harness::new(plain));
}

mod quorum {
    use super::*;

    celeriac_testkit::broker_conformance!(|| Harness::new(|vhost| plain(vhost).queue_type(QueueType::Quorum)));
}

mod with_priorities {
    use super::*;

    celeriac_testkit::broker_conformance!(|| Harness::new(|vhost| plain(vhost).max_priority(10)));
}

#[cfg(feature = "tls")]
mod by_tls {
    use super::*;

    celeriac_testkit::broker_conformance!(|| Harness::new(|vhost| {
        let files = vhost.server().certificates();
        let pem = |path: &std::path::Path| std::fs::read(path).unwrap();
        AmqpConfig::from_url(&vhost.tls_url())
            .unwrap()
            .ca_certificate_pem(pem(&files.ca))
            .client_certificate_pem(pem(&files.client), pem(&files.client_key))
    }));
}
