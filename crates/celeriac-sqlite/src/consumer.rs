//! The receiving end.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Buf;
use celeriac_broker::{Consumer, Delivery, DeliveryTag, Receipt};
use celeriac_core::{Message, QueueName, Result};
use tokio::sync::{Notify, oneshot};

use crate::error::closed;
use crate::handback::{Back, HandBack};
use crate::settle::Settler;
use crate::shared::Waiting;
use crate::store::{Half, Inner};
use crate::take::{Row, Take, Taken};
use crate::wire;
use crate::writer::{Call, Order};

/// Delayed messages are looked for at least this often, for the clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

pub(crate) struct SqliteConsumer {
    inner: Arc<Inner>,
    settle: Arc<Settler>,
    names: Vec<QueueName>,
    queues: Vec<i64>,
    /// The queue that is served first the next time.
    start: usize,
    /// Its number among those that are rung for.
    id: u64,
    bell: Arc<Notify>,
    /// Its rows in the table `consumer`.
    rows: Vec<i64>,
}

impl SqliteConsumer {
    pub(crate) async fn start(
        inner: &Arc<Inner>,
        settle: &Arc<Settler>,
        names: Vec<QueueName>,
        name: Option<String>,
    ) -> Result<Self> {
        let (wished, label) = (names.clone(), name.clone());
        let (job, answer) = Call::new("consume", move |txn| {
            let me = txn.my_id();
            let (mut queues, mut rows) = (Vec::new(), Vec::new());
            for queue in &wished {
                let queue = txn.topology.ensure(txn.connection, queue, txn.now)?.id;
                let sql = "INSERT INTO consumer (owner, queue, name) VALUES (?1, ?2, ?3)";
                rows.push(txn.connection.prepare_cached(sql)?.insert((me, queue, &label))?);
                queues.push(queue);
            }
            txn.topology.changed(txn.connection)?;
            Ok((queues, rows))
        });
        let (queues, rows) = inner.call("consume", (job.joining(), answer)).await?;
        let bell = Arc::new(Notify::new());
        let waiting = Waiting { queues: queues.clone(), rows: rows.clone(), name, bell: Arc::clone(&bell) };
        let id = inner.shared.listen(waiting);
        Ok(Self { inner: Arc::clone(inner), settle: Arc::clone(settle), names, queues, start: 0, id, bell, rows })
    }

    async fn take(&mut self, limit: NonZeroUsize) -> Result<Taken> {
        let (reply, answer) = oneshot::channel();
        let orders = self.inner.orders("receive")?;
        let job = Take {
            queues: self.queues.clone(),
            start: self.start,
            limit: limit.get(),
            orders: orders.clone(),
            shared: Arc::clone(&self.inner.shared),
            reply,
            taken: Vec::new(),
            next_due: None,
        };
        self.start = (self.start + 1) % self.queues.len().max(1);
        orders.send(Order::Job(Box::new(job))).map_err(|_| closed("receive"))?;
        // CANCEL SAFETY: an answer that nobody picks up hands its messages back.
        self.inner.wait("receive", answer).await?
    }

    fn delivery(&self, row: Row) -> Option<Delivery> {
        let settle: Arc<Settler> = Arc::clone(&self.settle);
        let receipt = Receipt::new(DeliveryTag(row.tag.cast_unsigned()), settle);
        let (headers, properties) = wire::decode_head(row.bytes.get(..row.body_at)?);
        let mut body = row.bytes;
        body.advance(row.body_at);
        let message = Message { headers, properties, body };
        let deliveries = u32::try_from(row.deliveries).unwrap_or(u32::MAX);
        let delivery = Delivery::new(message, self.names.get(row.queue)?.clone(), receipt)
            .counted(deliveries)
            .redelivered(deliveries > 1 || row.handed_back);
        let published_to = row.published_to.and_then(|(exchange, key)| exchange.parse().ok().zip(key.parse().ok()));
        Some(match published_to {
            Some((exchange, key)) => delivery.published_to(exchange, key),
            None => delivery,
        })
    }

    /// What ends this consumer in the database; `None` if it has ended.
    fn end(&mut self) -> Option<HandBack> {
        self.inner.shared.unlisten(self.id);
        let rows: Vec<Back> = std::mem::take(&mut self.rows).into_iter().map(Back::Consumer).collect();
        (!rows.is_empty()).then(|| HandBack::new("cancel", &self.inner.shared, rows))
    }
}

#[async_trait]
impl Consumer for SqliteConsumer {
    async fn recv(&mut self, limit: NonZeroUsize) -> Result<Vec<Delivery>> {
        loop {
            self.inner.check_open(Half::Broker, "receive")?;
            let taken = self.take(limit).await?;
            // What was taken after the closing goes back.
            self.inner.check_open(Half::Broker, "receive")?;
            let next_due = taken.next_due;
            let rows = taken.into_rows();
            if !rows.is_empty() {
                return Ok(rows.into_iter().filter_map(|row| self.delivery(row)).collect());
            }
            // CANCEL SAFETY: a ring that is used up by a call that is dropped is followed by a taking, at the beginning of
            // the next call.
            match next_due {
                None => self.bell.notified().await,
                Some(due) => {
                    let left = due.saturating_sub(self.inner.shared.now());
                    let sleep = Duration::from_micros(u64::try_from(left).unwrap_or(0)).min(LONGEST_SLEEP);
                    // Woken earlier, or due.
                    let _ = tokio::time::timeout(sleep, self.bell.notified()).await;
                }
            }
        }
    }

    async fn cancel(mut self: Box<Self>) -> Result<()> {
        let Some(job) = self.end() else { return Ok(()) };
        self.inner.check_open(Half::Broker, "cancel")?;
        self.inner.hand_back("cancel", job).await
    }
}

impl Drop for SqliteConsumer {
    fn drop(&mut self) {
        if let (Some(job), Ok(orders)) = (self.end(), self.inner.orders("cancel")) {
            // Without a writer the consumers have ended already.
            let _ = orders.send(Order::Job(Box::new(job)));
        }
    }
}

impl std::fmt::Debug for SqliteConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteConsumer").field("queues", &self.names).finish_non_exhaustive()
    }
}
