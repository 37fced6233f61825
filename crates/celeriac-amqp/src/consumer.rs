//! The receiving end.

mod acks;
pub(crate) mod keeper;
mod line;
mod pump;
pub(crate) mod reading;
pub(crate) mod session;
mod state;
mod window;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use celeriac_broker::{ConsumeOptions, Consumer, Delivery, Settle};
use celeriac_core::{Error, QueueName, Result};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::error::{again, closed};
use crate::held::delivery_tag;
use crate::settle::Settler;
use crate::store::{Half, Inner};
use pump::Pump;
use session::Session;

const CONSUME: &str = "consume";
const RECEIVE: &str = "receive";

/// AMQP has 255 bytes for the name of a subscription, and a dot and a number stand behind the consumer's.
const LONGEST_NAME: usize = 255 - 21;

pub(crate) struct AmqpConsumer {
    inner: Arc<Inner>,
    settle: Arc<dyn Settle>,
    shared: Arc<Shared>,
    /// Drops its end once it has ended.
    ended: watch::Receiver<Stage>,
}

/// What the consumer shares with the task that receives for it.
struct Shared {
    queues: Vec<QueueName>,
    /// The most that may be on the way from each queue.
    most: usize,
    desk: Mutex<Desk>,
    /// There is something to take.
    news: Notify,
    /// The consumer is gone.
    stop: CancellationToken,
}

#[derive(Default)]
struct Desk {
    /// The channel, while there is one.
    session: Option<Arc<Session>>,
    /// So many messages more would be taken.
    asked: usize,
    /// Why no more will come.
    failed: Option<Arc<Error>>,
}

/// How far the task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Consuming,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, operation: &'static str) -> Option<Error> {
        self.desk().failed.as_ref().map(|error| again(error, operation))
    }
}

impl AmqpConsumer {
    pub(crate) async fn start(inner: &Arc<Inner>, settler: &Arc<Settler>, options: ConsumeOptions) -> Result<Self> {
        let ConsumeOptions { mut queues, name, prefetch, .. } = options;
        let mut seen = std::collections::HashSet::new();
        queues.retain(|queue| seen.insert(queue.clone()));
        if queues.is_empty() {
            return Err(Error::config(CONSUME, "no queue is named"));
        }
        for queue in &queues {
            inner.topology.ensure_queue(CONSUME, queue).await?;
        }
        let shared = Arc::new(Shared {
            queues,
            most: prefetch.get(),
            desk: Mutex::default(),
            news: Notify::new(),
            stop: CancellationToken::new(),
        });
        let (stage, mut ended) = watch::channel(Stage::Starting);
        let mut name = name.unwrap_or_else(|| "celeriac".to_owned());
        let fits = |length: &usize| name.is_char_boundary(*length);
        name.truncate((0..=LONGEST_NAME.min(name.len())).rev().find(fits).unwrap_or(0));
        let settle: Arc<dyn Settle> = Arc::clone(settler) as _;
        // Dropped before its end, it stops the task.
        let consumer = Self { inner: Arc::clone(inner), settle, shared: Arc::clone(&shared), ended: ended.clone() };
        tokio::spawn(Pump::new(inner, shared, name, stage).run());
        // Whatever stands in the way for good is told here.
        inner.keep_up();
        let started = ended.wait_for(|stage| *stage == Stage::Consuming).await.is_ok();
        if started { Ok(consumer) } else { Err(consumer.shared.failure(CONSUME).unwrap_or_else(|| closed(CONSUME))) }
    }

    /// Takes what is there, up to `limit`, and notes what more would be taken.
    fn take(&self, limit: usize) -> Result<Vec<Delivery>> {
        let mut desk = self.shared.desk();
        if let Some(error) = &desk.failed {
            return Err(again(error, RECEIVE));
        }
        desk.asked = limit;
        let Some(session) = desk.session.clone() else { return Ok(Vec::new()) };
        let deliveries = session.take(limit, &self.settle, |tag| delivery_tag(session.number, tag));
        desk.asked = limit - deliveries.len();
        if session.is_short(desk.asked, self.shared.most) {
            session.demand.notify_one();
        }
        Ok(deliveries)
    }
}

#[async_trait]
impl Consumer for AmqpConsumer {
    async fn recv(&mut self, limit: NonZeroUsize) -> Result<Vec<Delivery>> {
        loop {
            self.inner.check_open(Half::Broker, RECEIVE)?;
            let deliveries = self.take(limit.get())?;
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
            // CANCEL SAFETY: both only wait; what has come stays where it is.
            tokio::select! {
                () = self.inner.closing.cancelled() => {}
                () = self.shared.news.notified() => {}
            }
        }
    }

    async fn cancel(mut self: Box<Self>) -> Result<()> {
        self.inner.check_open(Half::Broker, "cancel")?;
        self.shared.stop.cancel();
        // Its end is dropped with the task.
        while self.ended.changed().await.is_ok() {}
        self.inner.check_open(Half::Broker, "cancel")
    }
}

impl Drop for AmqpConsumer {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        // The task sees to the rest; nothing more is to come meanwhile.
        let session = self.shared.desk().session.take();
        if let Some(session) = session {
            session.retire();
            self.inner.held.let_go(&session);
        }
    }
}

impl std::fmt::Debug for AmqpConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpConsumer").field("queues", &self.shared.queues).finish_non_exhaustive()
    }
}
