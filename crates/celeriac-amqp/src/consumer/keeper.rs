//! Deliveries that are held for long.
//!
//! RabbitMQ closes the channel of a delivery that is not settled within its `consumer_timeout`, and hands the message to somebody else. So a
//! delivery that has been held for half of that is held on as a copy: published to a queue of this process's own, its shelter, and received from
//! there, before the first is acknowledged; and again as often as it takes. The process may die at any point: what nobody has taken from a
//! shelter, or was taken by one who died, soon goes back to the queue from which it came.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use celeriac_broker::{DeliveryTag, Outgoing, QueueSpec};
use celeriac_core::{Error, QueueName, Result, Value};
use futures_util::future::{OptionFuture, join_all, pending, ready};
use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions};
use lapin::types::FieldTable;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::pump::next;
use super::reading::{SHELTER, Taken, copied};
use crate::config::QueueType;
use crate::error::Fault;
use crate::link::Live;
use crate::store::Inner;

const HOLD: &str = "hold";

/// How long a copy may lie in its shelter before it goes back.
const ROOF: Duration = Duration::from_secs(10);
/// How long a shelter stays that nobody uses: what is in it has gone back by then.
const EMPTY: Duration = Duration::from_secs(300);
/// A delivery is looked after so many times within the time that the server waits for it.
const LOOKS: u32 = 8;
/// But not more often than this.
const SHORTEST: Duration = Duration::from_millis(50);

/// Sees to it that what is held for long may be.
pub(crate) struct Keeper {
    inner: Weak<Inner>,
    /// The store is gone, or its broker closed.
    ended: CancellationToken,
    /// There is a new consumer, of queues for which the server may wait less.
    again: Arc<Notify>,
    /// The shelters of this process, by the queue that what is in them came from; and what their names have in common.
    names: HashMap<QueueName, QueueName>,
    id: String,
    shelters: Option<Shelters>,
    /// The deliveries copies of which are on the way, and since when.
    expected: HashMap<DeliveryTag, Instant>,
}

/// The channel by which copies come.
struct Shelters {
    channel: Channel,
    live: Live,
    copies: SelectAll<BoxStream<'static, Event>>,
    /// Those that are received from.
    open: HashSet<QueueName>,
}

/// What a shelter brings.
#[allow(clippy::large_enum_variant, reason = "nearly all of them are copies")]
enum Event {
    Copy(Delivery),
    /// Nothing comes from this one any more.
    Ended(QueueName),
}

/// Sees to it that there is a [`Keeper`] while there are consumers.
#[derive(Default)]
pub(crate) struct Keeping {
    task: Mutex<Option<JoinHandle<()>>>,
    again: Arc<Notify>,
}

impl Keeping {
    /// Has what is held for long be looked after from now on; again, if the runtime on which that was done has ended.
    pub(crate) fn start(&self, inner: &Arc<Inner>) {
        self.again.notify_one();
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) && inner.topology.shortest_consumer_timeout().is_some() {
            *task = Some(tokio::spawn(Keeper::new(inner, Arc::clone(&self.again)).run()));
        }
    }
}

impl Keeper {
    fn new(inner: &Arc<Inner>, again: Arc<Notify>) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        Self {
            inner: Arc::downgrade(inner),
            ended: inner.ended.clone(),
            again,
            names: HashMap::new(),
            id,
            shelters: None,
            expected: HashMap::new(),
        }
    }

    async fn run(mut self) {
        let (ended, again) = (self.ended.clone(), Arc::clone(&self.again));
        loop {
            let Some(timeout) = self.inner.upgrade().map(|inner| inner.topology.shortest_consumer_timeout()) else {
                return;
            };
            let look = timeout.map(|timeout| sleep((timeout / LOOKS).max(SHORTEST)));
            // CANCEL SAFETY: streams keep what is not taken out; the others only wait.
            tokio::select! {
                () = ended.cancelled() => return,
                Some(()) = OptionFuture::from(look) => {}
                () = again.notified() => continue,
                events = came(&mut self.shelters) => {
                    self.receive(events);
                    continue;
                }
            }
            let Some(inner) = self.inner.upgrade() else { return };
            // CANCEL SAFETY: a copy that was published and is not known of goes back to its queue, as the delivery does.
            let looked = tokio::select! {
                () = ended.cancelled() => return,
                looked = self.look_after(&inner) => looked,
            };
            if let Err(fault) = looked {
                let error = fault.into_error().report();
                tracing::warn!(error, "deliveries that are held for long may be lost to RabbitMQ's `consumer_timeout`");
            }
        }
    }

    /// Publishes copies of what has been held for long. What fails is tried again the next time.
    async fn look_after(&mut self, inner: &Inner) -> Result<(), Fault> {
        if self.shelters.as_ref().is_some_and(|shelters| !shelters.usable()) {
            self.leave(inner);
        }
        // By then it has come, or gone back.
        self.expected.retain(|_, since| since.elapsed() < ROOF);
        let half = |queue: &QueueName| inner.topology.consumer_timeout(queue).map(|timeout| timeout / 2);
        // A copy waits in its shelter, for which the server waits as for any queue.
        let old = inner.held.older_than(half, inner.config.patience().map(|timeout| timeout / 2));
        if old.is_empty() {
            // Queues that nobody uses any more go by themselves.
            if inner.held.shelters_none() && self.expected.is_empty() {
                self.leave(inner);
            }
            return Ok(());
        }
        tracing::debug!(deliveries = old.len(), "deliveries are held for long; they are sheltered");
        let mut copies = Vec::with_capacity(old.len());
        let mut failed = None;
        for (delivery, taken, queue) in old {
            match self.copy(inner, delivery, taken, &queue).await {
                Ok(copy) => copies.push(copy),
                Err(fault) => failed = Some(fault),
            }
        }
        let publish = |(delivery, copy)| async move { (delivery, inner.publisher.publish(HOLD, vec![copy]).await) };
        for (delivery, published) in join_all(copies.into_iter().map(publish)).await {
            if let Err(error) = published {
                self.expected.remove(&delivery);
                failed = Some(Fault::Refused(error));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The copy of a delivery, which is expected from now on.
    async fn copy(
        &mut self,
        inner: &Inner,
        delivery: DeliveryTag,
        taken: Taken,
        queue: &QueueName,
    ) -> Result<(DeliveryTag, Outgoing), Fault> {
        let shelter = self.name(queue)?;
        self.shelters(inner).await?.open(inner, &shelter, queue).await?;
        self.expected.insert(delivery, Instant::now());
        Ok((delivery, taken.sheltered(queue, delivery, &shelter)))
    }

    fn name(&mut self, queue: &QueueName) -> Result<QueueName, Fault> {
        if let Some(name) = self.names.get(queue) {
            return Ok(name.clone());
        }
        let name = QueueName::new(format!("{SHELTER}{}.{}", self.id, self.names.len())).map_err(Fault::Refused)?;
        self.names.insert(queue.clone(), name.clone());
        Ok(name)
    }

    async fn shelters(&mut self, inner: &Inner) -> Result<&mut Shelters, Fault> {
        if !self.shelters.as_ref().is_some_and(Shelters::usable) {
            self.leave(inner);
            let live = inner.receiving.live(HOLD).await.map_err(Fault::Refused)?;
            let channel = live.channel(HOLD).await?;
            let (copies, open) = (SelectAll::new(), HashSet::new());
            self.shelters = Some(Shelters { channel, live, copies, open });
        }
        self.shelters.as_mut().ok_or_else(|| Fault::Broken(Error::unavailable(HOLD, "the channel is lost")))
    }

    /// Takes copies in place of what they are copies of.
    fn receive(&mut self, events: Vec<Event>) {
        let (Some(inner), Some(shelters)) = (self.inner.upgrade(), &mut self.shelters) else { return };
        for event in events {
            let copy = match event {
                Event::Copy(copy) => copy,
                Event::Ended(shelter) => {
                    // Deleted, if the channel stands; it is made again when there are copies for it.
                    shelters.open.remove(&shelter);
                    inner.topology.forget_queue(&shelter);
                    continue;
                }
            };
            let (channel, tag) = (&shelters.channel, copy.delivery_tag);
            match copied(&copy) {
                // It came before, and that channel is lost: if it was held by then, nobody holds it any more.
                Some(delivery) if copy.redelivered && !self.expected.contains_key(&delivery) => go_back(channel, tag),
                Some(delivery) => {
                    self.expected.remove(&delivery);
                    if !inner.held.replace(delivery, channel, tag) {
                        // It was settled meanwhile; or its channel is lost, and it is another's.
                        drop(channel.basic_ack(tag, BasicAckOptions::default()).now_or_never());
                    }
                }
                None => go_back(channel, tag),
            }
        }
    }

    /// Gives the channel up: what was held by it is not any more.
    fn leave(&mut self, inner: &Inner) {
        if let Some(shelters) = self.shelters.take() {
            inner.held.lose(&shelters.channel);
            if shelters.channel.status().connected() {
                let _ = shelters.channel.close(200, "closed".into()).now_or_never();
            }
        }
    }
}

impl Shelters {
    fn usable(&self) -> bool {
        self.channel.status().connected() && !self.live.lost.is_cancelled()
    }

    /// Makes the shelter of what came from `queue`, and receives from it.
    async fn open(&mut self, inner: &Inner, name: &QueueName, queue: &QueueName) -> Result<(), Fault> {
        if self.open.contains(name) {
            return Ok(());
        }
        let mut spec = QueueSpec::unbound(name.clone());
        spec.message_ttl = Some(ROOF);
        spec.expires = Some(EMPTY);
        spec.arguments.insert("x-dead-letter-exchange", "");
        spec.arguments.insert("x-dead-letter-routing-key", queue.as_str());
        if inner.config.queue_type == QueueType::Quorum {
            spec.arguments.insert("x-dead-letter-strategy", "at-least-once");
            spec.arguments.insert("x-overflow", Value::from("reject-publish"));
        }
        inner.topology.declare(&spec).await.map_err(Fault::Refused)?;
        let options = BasicConsumeOptions::default();
        let none = FieldTable::default();
        let consume = self.channel.basic_consume(name.as_str().into(), name.as_str().into(), options, none);
        let consumer = self.live.answered(HOLD, consume).await?;
        // One of the last that came by a channel that is lost may be an error.
        let copies = consumer.filter_map(|copy| ready(copy.ok().map(Event::Copy)));
        self.copies.push(copies.chain(stream::iter([Event::Ended(name.clone())])).boxed());
        self.open.insert(name.clone());
        Ok(())
    }
}

/// Lets a copy go back to the queue where what it is a copy of came from.
pub(crate) fn go_back(channel: &Channel, tag: u64) {
    // Not into the shelter, where nobody would take it.
    let options = BasicNackOptions { multiple: false, requeue: false };
    drop(channel.basic_nack(tag, options).now_or_never());
}

/// Waits for copies.
async fn came(shelters: &mut Option<Shelters>) -> Vec<Event> {
    match shelters {
        Some(shelters) => next(&mut shelters.copies).await,
        None => pending().await,
    }
}
