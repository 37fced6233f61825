//! The broker's conformance suite, on a private server for each behaviour: as it comes, and with what changes the way to the server or the keys.
#![allow(clippy::unwrap_used, reason = "a harness stops at the first error")]

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_backend::ResultBackend;
use celeriac_broker::Broker;
use celeriac_redis::{RedisConfig, RedisStore};
use celeriac_testkit::broker::BrokerHarness;
use celeriac_testkit::server::{ClientCertificate, RedisServer};
use tokio::sync::{Mutex, OnceCell};

/// How the server is reached.
#[derive(Clone, Copy)]
enum Way {
    Tcp,
    Socket,
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "there is no such way then"))]
    Tls,
}

struct Harness {
    way: Way,
    /// What stands behind the URL.
    options: &'static str,
    server: OnceCell<RedisServer>,
    latest: Mutex<Option<RedisStore>>,
}

impl Harness {
    fn new(way: Way, options: &'static str) -> Self {
        Self { way, options, server: OnceCell::new(), latest: Mutex::default() }
    }

    async fn store(&self) -> RedisStore {
        let start = || async {
            match self.way {
                Way::Tls => RedisServer::builder().tls(ClientCertificate::Required).start().await,
                Way::Tcp | Way::Socket => RedisServer::start().await,
            }
        };
        let server = self.server.get_or_init(start).await;
        let url = match self.way {
            Way::Socket => format!("unix://{}", server.socket().display()),
            Way::Tcp => server.url(),
            Way::Tls => server.url_with_certificates(),
        };
        RedisStore::open(RedisConfig::from_url(&format!("{url}{}", self.options)).unwrap()).await.unwrap()
    }
}

#[async_trait]
impl BrokerHarness for Harness {
    async fn open(&self) -> Arc<dyn Broker> {
        let store = self.store().await;
        let broker = store.broker();
        *self.latest.lock().await = Some(store);
        broker
    }

    async fn reopen(&self) -> Option<Arc<dyn Broker>> {
        Some(self.store().await.broker())
    }

    async fn backend(&self) -> Option<Arc<dyn ResultBackend>> {
        self.latest.lock().await.as_ref().map(RedisStore::backend)
    }
}

mod as_it_comes {
    use super::{Harness, Way};

    celeriac_testkit::broker_conformance!(|| Harness::new(Way::Tcp, ""));
}

mod with_resp2_and_the_highest_priority_first {
    use super::{Harness, Way};

    celeriac_testkit::broker_conformance!(|| Harness::new(Way::Tcp, "?protocol=resp2&priority_order=highest"));
}

mod with_a_prefix_and_ten_priorities_by_a_socket {
    use super::{Harness, Way};

    celeriac_testkit::broker_conformance!(|| {
        Harness::new(Way::Socket, "?global_keyprefix=pre_&priority_steps=0,1,2,3,4,5,6,7,8,9&db=3")
    });
}

#[cfg(feature = "tls")]
mod by_tls {
    use super::{Harness, Way};

    celeriac_testkit::broker_conformance!(|| Harness::new(Way::Tls, ""));
}
