//! How large a body may be.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::Arc;

use celeriac_broker::Broker as _;
use celeriac_core::{ErrorKind, QueueName, Signature};
use celeriac_memory::MemoryStore;
use celeriac_producer::{Producer, ProducerConfig};

#[tokio::test]
async fn a_body_is_measured_before_it_is_compressed() {
    let store = MemoryStore::new();
    let mut config = ProducerConfig::default();
    config.max_body_bytes = 1_000;
    let producer = Producer::builder(Arc::new(store.clone())).config(config).build().unwrap();
    let call = |text: String| Signature::named("add").arg(text).option("compression", "zlib");

    let error = producer.send(call("x".repeat(2_000))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().starts_with("the body of task `add` has 20"), "{error}");
    producer.send(call("x".repeat(900))).await.unwrap();
    assert_eq!(store.depth(&QueueName::DEFAULT).await.unwrap(), 1);
}
