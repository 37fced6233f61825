//! The broker half.

use std::sync::Arc;

use async_trait::async_trait;
use celeriac_broker::{Broker, Capabilities, ConsumeOptions, Consumer, ExchangeKind, Outgoing, QueueSpec};
use celeriac_core::{Error, QueueName, Result, StoreId};

use crate::consumer::SqliteConsumer;
use crate::handback::{Back, HandBack};
use crate::publish::Parcel;
use crate::settle::Settler;
use crate::store::{Half, Inner};
use crate::topology;
use crate::writer::Call;

pub(crate) struct SqliteBroker {
    inner: Arc<Inner>,
    settle: Arc<Settler>,
}

impl SqliteBroker {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let settle = Arc::new(Settler::new(Arc::clone(&inner)));
        Self { inner, settle }
    }

    pub(crate) fn settler(&self) -> &Arc<Settler> {
        &self.settle
    }
}

impl std::fmt::Debug for SqliteBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SqliteBroker").field(&self.inner.shared.place.path).finish()
    }
}

#[async_trait]
impl Broker for SqliteBroker {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::all();
        capabilities.headers = false;
        capabilities
    }

    fn store_id(&self) -> Option<StoreId> {
        Some(self.inner.id.clone())
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<()> {
        self.inner.check_open(Half::Broker, "declare queue")?;
        if let Some(argument) = queue.arguments.keys().next() {
            let why = format!("argument `{argument}` of queue `{}` is not known; there are none here", queue.name);
            return Err(Error::config("declare queue", why));
        }
        if let Some(kind) = queue.bindings.iter().map(|binding| binding.exchange.kind).find(|kind| !has(*kind)) {
            let why =
                format!("queue `{}` is bound to an exchange of kind `{}`: not on SQLite", queue.name, kind.as_str());
            return Err(Error::unsupported("declare queue", why));
        }
        let queue = queue.clone();
        let call = Call::new("declare queue", move |txn| txn.topology.declare(txn.connection, &queue, txn.now));
        self.inner.call("declare queue", call).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
        self.inner.check_open(Half::Broker, "publish")?;
        let max_bytes = self.inner.shared.config.max_message_bytes;
        let parcels = batch.iter().map(|outgoing| Parcel::new(outgoing, max_bytes)).collect::<Result<Vec<_>>>()?;
        drop(batch);
        if parcels.is_empty() {
            return Ok(());
        }
        let weight = parcels.iter().map(Parcel::weight).sum();
        let (job, answer) = Call::new("publish", move |txn| {
            parcels.iter().try_for_each(|parcel| txn.publish(parcel))?;
            // Dropped here, not by the writer.
            Ok(parcels)
        });
        self.inner.call("publish", (job.weighing(weight), answer)).await.map(drop)
    }

    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>> {
        self.inner.check_open(Half::Broker, "consume")?;
        let mut queues: Vec<QueueName> = Vec::with_capacity(options.queues.len());
        for queue in options.queues {
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        if queues.is_empty() {
            return Err(Error::config("consume", "no queue is named"));
        }
        let consumer = SqliteConsumer::start(&self.inner, &self.settle, queues, options.name).await?;
        Ok(Box::new(consumer))
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64> {
        self.inner.check_open(Half::Broker, "count")?;
        let (queue, now) = (queue.clone(), self.inner.shared.now());
        let count = move |connection: &rusqlite::Connection| {
            let sql = "SELECT
                (SELECT count(*) FROM ready WHERE queue = queue.id AND (expires IS NULL OR expires > ?2))
                + (SELECT count(*) FROM delayed WHERE queue = queue.id AND due <= ?2 AND (expires IS NULL OR expires > ?2))
                FROM queue WHERE name = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query((queue.as_str(), now))?;
            let count: i64 = rows.next()?.map_or(Ok(0), |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or(0))
        };
        self.inner.read("count", count).await
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        self.inner.check_open(Half::Broker, "purge")?;
        let queue = queue.clone();
        let call = Call::new("purge", move |txn| match txn.topology.find(txn.connection, &queue)? {
            Some(queue) => topology::empty(txn.connection, queue.id),
            None => Ok(0),
        });
        self.inner.call("purge", call).await
    }

    async fn close(&self) -> Result<()> {
        close(&self.inner).await
    }
}

/// Gives up what is held, then closes the broker half.
pub(crate) async fn close(inner: &Inner) -> Result<()> {
    if !inner.mark_closed(Half::Broker) {
        return Ok(());
    }
    // Those who wait to receive see that it is closed.
    inner.shared.ready_all();
    let flushed = match inner.orders("close") {
        Ok(_) => {
            let job = HandBack::new("close", &inner.shared, vec![Back::Everything]);
            inner.hand_back("close", job).await
        }
        Err(_) => Ok(()),
    };
    flushed.and(inner.close(Half::Broker).await)
}

fn has(kind: ExchangeKind) -> bool {
    matches!(kind, ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::Topic)
}
