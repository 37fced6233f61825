//! The keeper: a thread of its own that renews leases, hands back what was dropped, and finds what the dead have left.
//!
//! A thread, because a lease must be renewed also while tasks keep every thread of the program busy.

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use celeriac_core::{Error, Result};
use celeriac_serializer::{Json, Serializer as _};
use deadpool_redis::redis::{self, Value};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::endpoint::Endpoint;
use crate::entries::Entries;
use crate::error::{unbound, unexpected};
use crate::held::{Entry, OURS};
use crate::keys::SEPARATOR;
use crate::link::Link;
use crate::script;
use crate::store::Shared;
use crate::topology;
use crate::wire::envelope::{self, Stamp};

/// The most tags that are renewed, and entries that are restored, by one call.
const MOST: usize = 1_000;
/// The most entries that are read and written back by one call: each may be large.
const AT_ONCE: usize = 32;
/// How many entries one search looks at: as in the script.
const SEARCHED: usize = 5_000;
/// How long others get at least, after an outage, to renew their leases.
const GRACE: Duration = Duration::from_secs(3);
/// How long an entry that was found is left to its finder, and one that cannot be restored is left alone.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long all handles together leave between two searches for what the dead have left.
const BETWEEN_SWEEPS: Duration = Duration::from_millis(900);

/// How long, from the closing on, the keeper goes on trying to hand everything back: the server may be away.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// How long it tries to tidy up behind itself.
const TIDY: Duration = Duration::from_secs(1);

/// What the keeper is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Hand this delivery back.
    Back(u64),
    /// Hand everything back, and end; then answer, if anybody waits. No answer comes if that took longer than [`FAREWELL`].
    Stop(Option<tokio::sync::oneshot::Sender<Result<()>>>),
}

/// Starts the thread. It ends soon after `closing`, whatever becomes of the server.
pub(crate) fn start(
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    closing: CancellationToken,
) -> Result<mpsc::UnboundedSender<Order>> {
    const CONSUME: &str = "consume";
    let cannot = |error: std::io::Error| Error::unavailable(CONSUME, "cannot start a thread").with_source(error);
    let (sender, orders) = mpsc::unbounded_channel();
    let (started, outcome) = std_mpsc::channel();
    let run = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(Ok(()));
        let renewing = Renewing::new(Arc::clone(&shared), Arc::clone(&endpoint));
        let (link, calm) = (Link::new(endpoint), renewing.calm.clone());
        let keeper = Keeper::new(link, shared, calm, closing.clone());
        runtime.block_on(async {
            let too_long = async {
                closing.cancelled().await;
                tokio::time::sleep(FAREWELL).await; // wait: for the server, within reason
            };
            // CANCEL SAFETY: what is held still comes back when its lease ends.
            tokio::select! {
                () = keeper.run(orders) => {}
                // On a connection of its own: nothing that is restored or handed back holds it up.
                () = renewing.run() => {}
                () = too_long => tracing::warn!("deliveries could not be handed back in time; they come back when their lease ends"),
            }
        });
    };
    std::thread::Builder::new().name("celeriac-keep".to_owned()).spawn(run).map_err(cannot)?;
    // It answers at once.
    outcome.recv().unwrap_or_else(|_| Err(std::io::Error::other("the thread has ended"))).map_err(cannot)?;
    Ok(sender)
}

/// Renews leases, and says that this handle lives.
struct Renewing {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
    link: Link,
    /// From when on leases were renewed in time.
    calm: watch::Sender<Instant>,
}

impl Renewing {
    fn new(shared: Arc<Shared>, endpoint: Arc<Endpoint>) -> Self {
        let link = Link::new(Arc::clone(&endpoint));
        Self { shared, endpoint, link, calm: watch::Sender::new(Instant::now()) }
    }

    /// Never ends.
    async fn run(mut self) {
        let tick = self.shared.config.lease / 5;
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            // All but what was taken or renewed just now.
            let renewed = tokio::time::timeout(tick, self.shared.renew(&self.link, tick / 2)).await;
            if last.elapsed() > tick * 3 {
                // The server, or this process, was away: others may have been as well, and get their time to renew.
                self.calm.send_replace(Instant::now());
            }
            match renewed {
                Ok(Ok(())) => last = Instant::now(),
                Ok(Err(error)) => tracing::warn!(error = %error.report(), "leases could not be renewed"),
                Err(_) => {
                    tracing::warn!("leases could not be renewed in time; trying another connection");
                    self.link.close();
                    self.link = Link::new(Arc::clone(&self.endpoint));
                }
            }
        }
    }
}

impl Shared {
    /// Renews the leases of what was taken or renewed longer ago than `age`, and says that this handle is alive.
    async fn renew(&self, link: &Link, age: Duration) -> Result<()> {
        let tags = self.held.due_for_renewal(age);
        let mut chunks = tags.chunks(MOST);
        let mut chunk: &[String] = chunks.next().unwrap_or_default();
        loop {
            let asked = Instant::now();
            let lost = self.renew_tags(link, chunk).await?;
            let lost = self.held.renewed(chunk, asked, &lost);
            if lost > 0 {
                tracing::warn!(deliveries = lost, "leases were lost; others have the messages by now");
            }
            match chunks.next() {
                Some(next) => chunk = next,
                None => return Ok(()),
            }
        }
    }

    /// Renews these leases; those of them that were lost.
    pub(crate) async fn renew_tags(&self, link: &Link, tags: &[String]) -> Result<Vec<Vec<u8>>> {
        const RENEW: &str = "renew leases";
        let mut command = script::RENEW.call();
        command.arg(3).arg(&self.keys.unacked_index).arg(&self.keys.workers).arg(&self.marks);
        command.arg(&self.owner).arg(self.config.lease.as_secs_f64()).arg(tags);
        redis::from_redis_value(link.query(RENEW, &command).await?).map_err(|error| unexpected(RENEW, error))
    }
}

struct Keeper {
    shared: Arc<Shared>,
    /// On this thread's own runtime.
    link: Link,
    /// From when on leases were renewed in time.
    calm: watch::Sender<Instant>,
    closing: CancellationToken,
    /// How many entries the next search passes over: Python may hold more than one search looks at.
    offset: usize,
    /// The server's clock, as it was seen last.
    clock: Option<Seen>,
}

/// A clock.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// When it was asked for, or a little earlier.
    asked: Instant,
    /// What it showed, in microseconds.
    time: u64,
}

impl Seen {
    /// The latest that it may show now if nobody has set it.
    fn latest(self, tolerance: Duration) -> u64 {
        self.time.saturating_add(micros(self.asked.elapsed() + tolerance))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Keeper {
    fn new(link: Link, shared: Arc<Shared>, calm: watch::Sender<Instant>, closing: CancellationToken) -> Self {
        Self { link, shared, calm, closing, offset: 0, clock: None }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut ticks = tokio::time::interval((self.shared.config.lease / 5).min(Duration::from_secs(2)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut waiting = Vec::new();
        loop {
            // CANCEL SAFETY: both are cancel safe.
            tokio::select! {
                // All there are: what was dropped together goes back together, in order.
                count = orders.recv_many(&mut waiting, usize::MAX) => {
                    if count == 0 {
                        return;
                    }
                }
                _ = ticks.tick() => {
                    let closing = self.closing.clone();
                    // CANCEL SAFETY: what was found and not restored is found again later.
                    tokio::select! {
                        swept = self.sweep() => if let Err(error) = swept {
                            tracing::warn!(error = %error.report(), "messages of lost workers could not be looked for");
                        },
                        () = closing.cancelled() => {}
                    }
                }
            }
            let mut stop = None;
            let back = waiting.drain(..).filter_map(|order| match order {
                Order::Back(number) => Some(number),
                Order::Stop(answer) => {
                    stop = Some(answer);
                    None
                }
            });
            let back: Vec<u64> = back.collect();
            self.hand_back(self.shared.held.take(back.iter().copied())).await;
            self.shared.returning.send_modify(|count| *count -= back.len());
            if let Some(answer) = stop {
                let outcome = self.end().await;
                if let Some(answer) = answer {
                    let _ = answer.send(outcome);
                }
                return;
            }
        }
    }

    /// Hands back; what cannot be comes back when its lease ends.
    async fn hand_back(&self, held: Vec<(u64, Entry)>) {
        let count = held.len();
        if let Err(error) = self.shared.hand_back(&self.link, "hand back", held).await {
            tracing::warn!(deliveries = count, error = %error.report(), "deliveries could not be handed back; they come back when their lease ends");
        }
    }

    async fn end(&self) -> Result<()> {
        const CLOSE: &str = "close";
        let outcome = self.shared.hand_back(&self.link, CLOSE, self.shared.held.take_all()).await;
        let mut farewell = redis::pipe();
        farewell.cmd("ZREM").arg(&self.shared.keys.workers).arg(&self.shared.owner);
        farewell.cmd("DEL").arg(&self.shared.marks);
        // Both end by themselves, if a little later.
        if tokio::time::timeout(TIDY, self.link.pipeline(CLOSE, &farewell)).await.is_err() {
            tracing::debug!("nothing was tidied up behind this handle");
        }
        self.link.close();
        outcome
    }

    /// Moves what is due in queues that nobody waits for, and restores what is in nobody's hands any more.
    async fn sweep(&mut self) -> Result<()> {
        const SWEEP: &str = "sweep";
        let (shared, keys) = (&self.shared, &self.shared.keys);
        let calm = self.calm.borrow().elapsed();
        // What is due moves at any time: nobody else may be there to do it. But others get time to renew after an outage.
        let early = self.clock.is_none() || calm < shared.config.lease.max(GRACE);
        let asked = Instant::now();
        let mut command = script::SWEEP.call();
        command.arg(4).arg(&keys.unacked).arg(&keys.unacked_index).arg(&keys.sweep).arg(&keys.parked_index);
        command.arg(OURS).arg(shared.config.visibility_timeout.as_secs_f64()).arg(if early { 0 } else { MOST });
        command.arg(u64::try_from(BETWEEN_SWEEPS.as_millis()).unwrap_or(u64::MAX)).arg(SEPARATOR);
        command.arg(keys.parked_prefix()).arg(keys.list_prefix()).arg(self.offset).arg(PATIENCE.as_secs());
        let answer = self.link.query(SWEEP, &command).await?;
        let Value::Array(answer) = answer else { return Ok(()) };
        let mut answer = answer.into_iter();
        let read = |error| unexpected(SWEEP, error);
        let time: u64 = answer.next().map_or(Ok(0), redis::from_redis_value).map_err(read)?;
        // Leases outlast a clock that is set forward by a fifth of them, as they are renewed in time.
        let leapt = self.clock.is_some_and(|clock| time > clock.latest(shared.config.lease / 5));
        self.clock = Some(Seen { asked, time });
        if leapt {
            tracing::warn!(
                "the clock of the Redis server was set forward; others get time to renew their leases by it"
            );
            self.calm.send_replace(Instant::now());
            return Ok(());
        }
        let Some(more) = answer.next() else { return Ok(()) };
        let more: u8 = redis::from_redis_value(more).map_err(read)?;
        let again: String = answer.next().map_or(Ok(String::new()), redis::from_redis_value).map_err(read)?;
        self.offset = if more == 1 { self.offset + SEARCHED } else { 0 };
        let found: Vec<(String, f64)> = redis::from_redis_value(Value::Array(answer.collect())).map_err(read)?;
        // What is held here is renewed here, whatever the server's clock says.
        let found: Vec<(String, f64)> = found.into_iter().filter(|(tag, _)| !shared.held.holds(tag)).collect();
        let mut restored = 0;
        for some in found.chunks(AT_ONCE) {
            restored += self.restore_all(some, &again).await?;
        }
        if restored > 0 {
            tracing::info!(messages = restored, "restored messages that were in nobody's hands");
        }
        Ok(())
    }

    /// Restores these, tags and the scores they had, unless they have another score than `again` by now; how many were. One that cannot be is
    /// left, and found again later.
    async fn restore_all(&self, found: &[(String, f64)], again: &str) -> Result<usize> {
        const SWEEP: &str = "sweep";
        let mut command = redis::cmd("HMGET");
        command.arg(&self.shared.keys.unacked);
        found.iter().for_each(|(tag, _)| {
            command.arg(tag);
        });
        let values: Vec<Option<Vec<u8>>> = redis::from_redis_value(self.link.query(SWEEP, &command).await?)
            .map_err(|error| unexpected(SWEEP, error))?;
        let mut entries = Entries::default();
        for ((tag, score), value) in found.iter().zip(values) {
            let Some(value) = value else { continue };
            if let Err(error) = self.restore(&mut entries, tag, (*score, again), &value).await {
                tracing::error!(tag, error = %error.report(), "a message of a lost worker cannot be restored");
            }
        }
        entries.carry_out_each(&self.shared, &self.link, SWEEP).await
    }

    /// Adds what restoring one entry comes to. `value` is the list of envelope, exchange and routing key.
    async fn restore(&self, entries: &mut Entries, tag: &str, (score, again): (f64, &str), value: &[u8]) -> Result<()> {
        const SWEEP: &str = "sweep";
        let keys = &self.shared.keys;
        let parts = Json.split_list(value)?;
        let [envelope, exchange, key] = parts.as_slice() else {
            return Err(Error::malformed(SWEEP, "it is no list of envelope, exchange and routing key"));
        };
        let text = |part: &[u8]| Json.decode_value(part).map(|value| value.as_str().unwrap_or_default().to_owned());
        let (exchange, key) = (text(exchange)?, text(key)?);
        let read = envelope::decode(envelope);
        let step = keys.step(read.as_ref().map_or(0, |read| read.message.priority().0));
        let stamp = read.as_ref().ok().and_then(|read| read.stamp);
        // The numbers of ours began as microseconds, so both kinds compare.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a time in microseconds; an absurd one saturates"
        )]
        let taken = tag
            .rsplit_once('.')
            .filter(|_| tag.starts_with(OURS))
            .and_then(|(_, number)| number.parse().ok())
            .unwrap_or((score * 1e6) as u64);
        let order = stamp.map_or(taken, |stamp| stamp.order);
        let before = stamp.map_or(0, |stamp| stamp.deliveries);
        let back = envelope::handed_back(envelope, Stamp { order, deliveries: before.saturating_add(1) });
        if exchange.is_empty() {
            entries.back(tag, again, (&keys.list(&key, step), &[]), order, &back);
            return Ok(());
        }
        // As kombu: wherever the exchange leads now.
        let queues = topology::lookup(&self.shared, &self.link, SWEEP, &exchange, &key).await?;
        let lists: Vec<String> = queues.iter().map(|queue| keys.list(queue, step)).collect();
        match lists.split_first() {
            Some((first, others)) => {
                entries.back(tag, again, (first, others), order, &back);
                Ok(())
            }
            None => Err(unbound(SWEEP, &exchange, &key)),
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
