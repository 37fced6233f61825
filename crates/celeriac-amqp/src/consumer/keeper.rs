//! Deliveries that are held for long.
//!
//! RabbitMQ closes the channel of a delivery that is not settled within its `consumer_timeout`, and hands the message to somebody else. So a
//! delivery that has been held for half of that is held on as a copy: published to a queue of this process's own, its shelter, and received from
//! there, before the first is acknowledged; and again as often as it takes. The process may die at any point: what nobody has taken from a
//! shelter, or was taken by one who died, soon goes back to the queue from which it came.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use celeriac_broker::{DeliveryTag, QueueSpec};
use celeriac_core::{Error, QueueName, Result, Value};
use futures_util::future::pending;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions};
use lapin::types::FieldTable;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::pump::next;
use super::reading::{SHELTER, copied};
use crate::config::QueueType;
use crate::error::{Fault, fault};
use crate::store::Inner;

const HOLD: &str = "hold";

/// How long a copy may lie in its shelter before it goes back.
const ROOF: Duration = Duration::from_secs(10);
/// How long a shelter stays that nobody uses: what is in it has gone back by then.
const EMPTY: Duration = Duration::from_secs(300);
/// A delivery is looked after so many times within the time that the server waits for it.
const LOOKS: u32 = 8;

/// Sees to it that what is held for long may be.
pub(crate) struct Keeper {
    inner: Weak<Inner>,
    /// The store is gone, or its broker closed.
    ended: CancellationToken,
    consumer_timeout: Duration,
    /// The shelters of this process, by the queue that what is in them came from; and what their names have in common.
    names: HashMap<QueueName, QueueName>,
    id: String,
    shelters: Option<Shelters>,
}

/// The channel by which copies come.
struct Shelters {
    channel: Channel,
    lost: CancellationToken,
    copies: SelectAll<BoxStream<'static, lapin::Result<Delivery>>>,
    /// Those that are received from.
    open: HashSet<QueueName>,
    /// Copies that are on the way.
    expected: HashSet<DeliveryTag>,
}

impl Keeper {
    pub(crate) fn new(inner: &Arc<Inner>, consumer_timeout: Duration) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        Self {
            inner: Arc::downgrade(inner),
            ended: inner.ended.clone(),
            consumer_timeout,
            names: HashMap::new(),
            id,
            shelters: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let ended = self.ended.clone();
        loop {
            // CANCEL SAFETY: streams keep what is not taken out; the others only wait.
            tokio::select! {
                () = ended.cancelled() => return,
                () = sleep(self.consumer_timeout / LOOKS) => {}
                copies = came(&mut self.shelters) => {
                    self.receive(copies);
                    continue;
                }
            }
            let Some(inner) = self.inner.upgrade() else { return };
            // CANCEL SAFETY: a copy that was published and is not known of goes back to its queue, as the delivery does.
            let looked = tokio::select! {
                () = ended.cancelled() => return,
                looked = timeout(self.consumer_timeout / LOOKS, self.look_after(&inner)) => looked,
            };
            let failed = match looked {
                Ok(Ok(())) => continue,
                Ok(Err(fault)) => fault.into_error(),
                Err(_) => Error::unavailable(HOLD, "RabbitMQ does not answer"),
            };
            tracing::warn!(error = %failed.report(), "deliveries that are held for long may be lost to RabbitMQ's `consumer_timeout`");
            self.leave(&inner);
        }
    }

    /// Publishes copies of what has been held for long.
    async fn look_after(&mut self, inner: &Inner) -> Result<(), Fault> {
        let old = inner.held.older_than(self.consumer_timeout / 2);
        if old.is_empty() {
            // Queues that nobody uses any more go by themselves.
            if inner.held.shelters_none() && self.shelters.as_ref().is_some_and(|shelters| shelters.expected.is_empty())
            {
                self.leave(inner);
            }
            return Ok(());
        }
        let mut copies = Vec::with_capacity(old.len());
        for (number, taken, queue) in old {
            let shelter = self.name(&queue)?;
            let shelters = self.shelters(inner).await?;
            if shelters.expected.insert(number) {
                shelters.open(inner, &shelter, &queue).await?;
                copies.push(taken.sheltered(&queue, number, &shelter));
            }
        }
        tracing::debug!(deliveries = copies.len(), "deliveries are held for long; they are sheltered");
        inner.publisher.publish(HOLD, copies).await.map_err(Fault::Refused)
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
        let usable = |shelters: &Shelters| shelters.channel.status().connected() && !shelters.lost.is_cancelled();
        if !self.shelters.as_ref().is_some_and(usable) {
            self.leave(inner);
            let live = inner.receiving.live(HOLD).await.map_err(Fault::Refused)?;
            let channel = live.channel(HOLD).await?;
            self.shelters = Some(Shelters {
                channel,
                lost: live.lost,
                copies: SelectAll::new(),
                open: HashSet::new(),
                expected: HashSet::new(),
            });
        }
        self.shelters.as_mut().ok_or_else(|| Fault::Broken(Error::unavailable(HOLD, "the channel is lost")))
    }

    /// Takes copies in place of what they are copies of.
    fn receive(&mut self, copies: Vec<lapin::Result<Delivery>>) {
        let (Some(inner), Some(shelters)) = (self.inner.upgrade(), &mut self.shelters) else { return };
        for copy in copies {
            // One of the last that came by a channel that is lost.
            let Ok(copy) = copy else { continue };
            let (channel, tag) = (&shelters.channel, copy.delivery_tag);
            match copied(&copy).filter(|number| shelters.expected.remove(number)) {
                Some(number) if inner.held.replace(number, channel, tag) => {}
                // It was settled meanwhile; or its channel is lost, and it is another's.
                Some(_) => drop(channel.basic_ack(tag, BasicAckOptions::default()).now_or_never()),
                // Somebody held it, before a channel was lost.
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
        let consumer = self.channel.basic_consume(name.as_str().into(), name.as_str().into(), options, none).await;
        self.copies.push(consumer.map_err(|error| fault(HOLD, &error))?.boxed());
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
async fn came(shelters: &mut Option<Shelters>) -> Vec<lapin::Result<Delivery>> {
    match shelters {
        Some(shelters) => next(&mut shelters.copies).await,
        None => pending().await,
    }
}
