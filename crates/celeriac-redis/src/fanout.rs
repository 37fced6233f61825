//! Fanout exchanges: what is broadcast reaches the queues that are bound to them.
//!
//! kombu publishes to a channel, and whoever listens has it. What we publish goes into the lists of bound queues too, in the same step. What
//! Python publishes is put there by the first of our consumers that hears it; so each queue gets each message once.

use std::sync::{Arc, Weak};

use celeriac_core::{QueueName, Result};
use deadpool_redis::redis::{self, Pipeline};
use tokio::sync::mpsc;

use crate::error::unexpected;
use crate::hub::{Ear, Subscription};
use crate::script;
use crate::store::Inner;

/// Hands what was heard to the task that puts it into its queue.
struct Bridge {
    heard: mpsc::UnboundedSender<Vec<u8>>,
}

impl Ear for Bridge {
    fn heard(&self, _channel: &[u8], payload: Vec<u8>) {
        // The task ends only after this has.
        let _ = self.heard.send(payload);
    }

    fn resumed(&self) {}
}

/// Listens to the fanout exchanges that `queues` are bound to.
pub(crate) async fn listen(inner: &Arc<Inner>, queues: &[QueueName]) -> Result<Vec<Subscription>> {
    const CONSUME: &str = "consume";
    let keys = &inner.shared.keys;
    let mut pipeline = Pipeline::new();
    queues.iter().for_each(|queue| {
        pipeline.cmd("SMEMBERS").arg(keys.fanouts(queue));
    });
    let mut subscriptions = Vec::new();
    for (queue, exchanges) in queues.iter().zip(inner.link.pipeline(CONSUME, &pipeline).await?) {
        let exchanges: Vec<String> = redis::from_redis_value(exchanges).map_err(|error| unexpected(CONSUME, error))?;
        if exchanges.is_empty() {
            continue;
        }
        let channel = |exchange: &String| literal(&keys.fanout_channel(exchange, ""));
        let patterns = exchanges.iter().map(channel).flat_map(|one| [one.clone(), [one.as_slice(), b"/*"].concat()]);
        let (heard, payloads) = mpsc::unbounded_channel();
        tokio::spawn(bridge(Arc::downgrade(inner), queue.clone(), payloads));
        subscriptions.push(inner.hub.psubscribe(CONSUME, patterns.collect(), Arc::new(Bridge { heard })).await?);
    }
    Ok(subscriptions)
}

/// Puts what is heard into the queue, until nobody listens any more.
async fn bridge(inner: Weak<Inner>, queue: QueueName, mut payloads: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(payload) = payloads.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        let keys = &inner.shared.keys;
        let mut command = script::BRIDGE.call();
        command.arg(1).arg(keys.list(&queue, 0)).arg(keys.seen_prefix()).arg(queue.as_str()).arg(payload);
        if let Err(error) = inner.link.query("receive", &command).await {
            tracing::error!(%queue, error = %error.report(), "a broadcast message could not be put into its queue");
        }
    }
}

/// A pattern that matches this text alone.
fn literal(text: &str) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^') {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern
}
