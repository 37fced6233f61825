//! Connections on a real RabbitMQ: what their channels use up, and how they end.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

use celeriac_broker::{Broker, Outgoing, QueueSpec};
use celeriac_core::{Message, QueueName};
use celeriac_testkit::server::RabbitServer;

use super::*;
use crate::{AmqpConfig, AmqpStore};

const PATIENCE: Duration = Duration::from_secs(60);

async fn broker(url: &str) -> Arc<dyn Broker> {
    AmqpStore::open(AmqpConfig::from_url(url).unwrap().publish_timeout(PATIENCE)).await.unwrap().broker()
}

fn queue(name: &'static str) -> QueueName {
    QueueName::from_static(name)
}

fn outgoing(queue: &QueueName) -> Outgoing {
    Outgoing::new(Message::default(), queue)
}

#[tokio::test]
async fn channels_that_the_server_closes_use_nothing_up() {
    const CHANNELS: u16 = 8;
    let server = RabbitServer::builder().config(&format!("channel_max = {CHANNELS}")).start().await;
    let broker = broker(&server.url()).await;
    let (there, missing) = (queue("there"), queue("missing"));
    broker.declare(&QueueSpec::direct(there.clone())).await.unwrap();
    broker.publish(vec![outgoing(&there)]).await.unwrap();
    for round in 0..CHANNELS * 4 {
        assert_eq!(broker.depth(&missing).await.unwrap(), 0);
        let depth = broker.depth(&there).await.unwrap_or_else(|error| panic!("round {round}: {}", error.report()));
        assert_eq!(depth, 1, "round {round}");
        let declared = broker.declare(&QueueSpec::direct(there.clone())).await;
        declared.unwrap_or_else(|error| panic!("round {round}: {}", error.report()));
    }
    broker.publish(vec![outgoing(&there)]).await.unwrap();
    assert_eq!(broker.depth(&there).await.unwrap(), 2);
    broker.close().await.unwrap();
}
