//! TLS to Redis and to RabbitMQ from one program: neither minds what the other has set up for the whole process, whichever comes first.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use celeriac::prelude::*;
use celeriac_testkit::server::{ClientCertificate, RabbitServer, RedisServer};

struct Servers {
    redis: RedisServer,
    rabbit: RabbitServer,
}

impl Servers {
    async fn start() -> Self {
        let client = ClientCertificate::NotAsked;
        let (redis, rabbit) =
            tokio::join!(RedisServer::builder().tls(client).start(), RabbitServer::builder().tls(client).start());
        Self { redis, rabbit }
    }

    fn redis(&self) -> String {
        format!("{}?ssl_ca_certs={}", self.redis.url(), self.redis.certificates().ca.display())
    }

    fn rabbit(&self) -> String {
        format!("{}?ssl_ca_certs={}", self.rabbit.tls_url(), self.rabbit.certificates().ca.display())
    }
}

async fn connects(broker: &str, backend: &str) {
    let app = App::builder("shop").broker_url(broker).result_backend(backend).build().await;
    let app = app.unwrap_or_else(|error| panic!("{}", error.report()));
    app.close().await.unwrap();
}

#[tokio::test]
async fn rabbitmq_first() {
    let servers = Servers::start().await;
    connects(&servers.rabbit(), &servers.redis()).await;
}

#[tokio::test]
async fn redis_first() {
    let servers = Servers::start().await;
    connects(&servers.redis(), &servers.rabbit()).await;
}
