//! Publishing: always confirmed, many at a time, and again what a lost connection left open.
//!
//! Calls are published in rounds, each on a channel that is its own until every message of it is confirmed. So it is always clear whose message
//! the server returned, or closed a channel for: the driver does not tell, and the server only for a channel as a whole. Calls that come
//! while all channels are busy go together in the next round.

mod letter;
mod round;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use celeriac_broker::Outgoing;
use celeriac_core::{Clock, Error, ErrorKind, Result, RoutingKey, SystemClock};
use lapin::options::ConfirmSelectOptions;
use lapin::{BasicProperties, Channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::config::AmqpConfig;
use crate::error::Fault;
use crate::link::{Link, Live};
use crate::topology::Topology;
use letter::Letter;
use round::Round;

/// How many rounds may be under way before calls wait for one another. While a server writes to disk what one round sent, others are sent.
const LANES: usize = 8;
/// A round is not made larger than this by taking one more call.
const TOGETHER: usize = 1_000;

/// Publishes for all who have the store.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    config: AmqpConfig,
    link: Link,
    topology: Arc<Topology>,
    desk: Mutex<Desk>,
}

/// What is to be published, and by how many.
#[derive(Default)]
struct Desk {
    waiting: Vec<Call>,
    busy: usize,
    /// Channels of the connection with this number, ready to be used.
    idle: Vec<(u64, Channel)>,
}

/// One call of `publish`.
struct Call {
    operation: &'static str,
    letters: Vec<Letter>,
    outcome: oneshot::Sender<Result<()>>,
}

impl Publisher {
    pub(crate) fn new(config: AmqpConfig, link: Link, topology: Arc<Topology>) -> Self {
        Self { shared: Arc::new(Shared { config, link, topology, desk: Mutex::default() }) }
    }

    /// Publishes `batch`, within `publish_timeout`.
    ///
    /// # Errors
    /// As [`Broker::publish`](celeriac_broker::Broker::publish) has them.
    pub(crate) async fn publish(&self, operation: &'static str, batch: Vec<Outgoing>) -> Result<()> {
        self.publish_until(Instant::now() + self.shared.config.publish_timeout, operation, batch).await
    }

    /// Publishes `batch`, of a call to which `publish_timeout` leaves time until then.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub(crate) async fn publish_until(
        &self,
        end: Instant,
        operation: &'static str,
        batch: Vec<Outgoing>,
    ) -> Result<()> {
        let letters = self.letters(operation, batch)?;
        self.in_time(end, operation, letters).await
    }

    /// Publishes `batch`, however long there is no connection, or the server takes no messages: until the store is closed.
    ///
    /// # Errors
    /// What waiting does not cure; and `Unavailable` if a queue is full, because it may be the caller who is to empty it.
    pub(crate) async fn publish_for_long(&self, operation: &'static str, batch: Vec<Outgoing>) -> Result<()> {
        let letters = self.letters(operation, batch)?;
        self.shared.accept(operation, letters).await.unwrap_or_else(|_| Err(abandoned(operation)))
    }

    /// Publishes replies to the queues of these names, within `publish_timeout`. A reply to a queue that is gone is dropped by the server.
    ///
    /// # Errors
    /// As [`Publisher::publish`], save that a queue that is not there is none.
    pub(crate) async fn reply(&self, replies: Vec<(RoutingKey, BasicProperties, Bytes)>) -> Result<()> {
        let end = Instant::now() + self.shared.config.publish_timeout;
        self.in_time(end, "store", replies.into_iter().map(Letter::reply).collect()).await
    }

    fn letters(&self, operation: &'static str, batch: Vec<Outgoing>) -> Result<Vec<Letter>> {
        let most = self.shared.config.max_message_bytes;
        if let Some(long) = batch.iter().map(|outgoing| outgoing.message.body.len()).find(|length| *length > most) {
            let why = format!("a message of {long} bytes, and `max_message_bytes` is {most}");
            return Err(Error::new(ErrorKind::TooLarge, operation, why));
        }
        let now = SystemClock.now();
        Ok(batch.into_iter().map(|outgoing| Letter::new(outgoing, now)).collect())
    }

    async fn in_time(&self, end: Instant, operation: &'static str, letters: Vec<Letter>) -> Result<()> {
        if let Ok(done) = timeout_at(end, self.shared.accept(operation, letters)).await {
            return done.unwrap_or_else(|_| Err(abandoned(operation)));
        }
        self.shared.lock().waiting.retain(|call| !call.outcome.is_closed());
        let why = "RabbitMQ has not confirmed all messages within `publish_timeout`; it may have them";
        Err(self.shared.link.late(operation, why))
    }
}

/// The runtime that carried a round out has ended.
fn abandoned(operation: &'static str) -> Error {
    Error::unavailable(operation, "the runtime on which it was published has ended; RabbitMQ may have the messages")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a call in, and sees to it that somebody works on it.
    fn accept(self: &Arc<Self>, operation: &'static str, letters: Vec<Letter>) -> oneshot::Receiver<Result<()>> {
        let (outcome, told) = oneshot::channel();
        if letters.is_empty() {
            // Who asked is there.
            let _ = outcome.send(Ok(()));
            return told;
        }
        let mut desk = self.lock();
        desk.waiting.push(Call { operation, letters, outcome });
        self.employ(desk);
        told
    }

    /// One more lane, if there is work for it.
    fn employ(self: &Arc<Self>, mut desk: MutexGuard<'_, Desk>) {
        if desk.waiting.is_empty() || desk.busy >= LANES {
            return;
        }
        desk.busy += 1;
        // A runtime that is going down drops it at once, and that takes the lock.
        drop(desk);
        tokio::spawn(Lane { shared: Arc::clone(self), counted: true }.run());
    }

    /// A channel for one round: one that was used before, or a new one.
    async fn channel(&self, operation: &'static str, live: &Live) -> std::result::Result<Channel, Fault> {
        let idle = {
            let mut desk = self.lock();
            desk.idle.retain(|(number, channel)| *number == live.number && channel.status().connected());
            desk.idle.pop()
        };
        match idle {
            Some((_, channel)) => Ok(channel),
            None => {
                let channel = live.channel(operation).await?;
                live.answered(operation, channel.confirm_select(ConfirmSelectOptions::default())).await?;
                Ok(channel)
            }
        }
    }

    fn give_back(&self, number: u64, channel: Channel) {
        let mut desk = self.lock();
        if desk.idle.len() < LANES {
            desk.idle.push((number, channel));
        }
    }
}

/// Works on one round after the other, for as long as there are calls.
struct Lane {
    shared: Arc<Shared>,
    /// Whether it counts among those that are busy.
    counted: bool,
}

impl Lane {
    async fn run(mut self) {
        while self.counted {
            let calls = self.next();
            if calls.is_empty() {
                return;
            }
            Round::new(calls).run(&mut self).await;
        }
    }

    /// The next calls, in their order; none if there is nothing left to do.
    fn next(&mut self) -> Vec<Call> {
        let mut desk = self.shared.lock();
        let mut letters = 0;
        let fits = |call: &&Call| {
            letters += call.letters.len();
            letters <= TOGETHER
        };
        let count = desk.waiting.iter().take_while(fits).count().max(1).min(desk.waiting.len());
        let calls = desk.waiting.drain(..count).collect::<Vec<_>>();
        if calls.is_empty() {
            // Under the same lock, so that a call that comes now finds that it needs a lane.
            desk.busy -= 1;
            self.counted = false;
        }
        calls
    }

    /// What it waits for takes long, as with a queue whose replicas are gone: others need not wait for it.
    fn step_aside(&mut self) {
        if std::mem::replace(&mut self.counted, false) {
            let mut desk = self.shared.lock();
            desk.busy -= 1;
            self.shared.employ(desk);
        }
    }
}

impl Drop for Lane {
    /// Also when the runtime goes down: then nobody works on what waits, until the next call.
    fn drop(&mut self) {
        if self.counted {
            let mut desk = self.shared.lock();
            desk.busy -= 1;
            if desk.busy == 0 {
                let abandoned = std::mem::take(&mut desk.waiting);
                drop(desk);
                drop(abandoned);
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
