//! The receiving end: takes many at once, waits without asking again.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use celeriac_broker::{Consumer, Delivery, DeliveryTag, Receipt, Settle};
use celeriac_core::{ExchangeName, QueueName, Result, RoutingKey};
use deadpool_redis::redis::{self, Value};
use futures_util::FutureExt as _;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::error::{closed, script_failed, unexpected};
use crate::fanout;
use crate::held::{Entry, Source};
use crate::hub::{Ear, Subscription};
use crate::keys::SEPARATOR;
use crate::script;
use crate::settle::Settler;
use crate::store::{Half, Inner};
use crate::wire::envelope::{self, Unreadable};
use crate::wire::json;

const RECEIVE: &str = "receive";

/// The most messages that are taken by one call: the server serves nobody else meanwhile.
const MOST: usize = 256;
/// About the most bytes that are taken by one call, where messages are small. The server writes no more than 64 KiB to a connection before it
/// looks at its others and carries out what they ask: an answer that is larger is held up by the calls after it, and both come at once.
const PIECE: usize = 56 << 10;
/// Fewer messages than these are not worth a call of their own, even if they are larger together.
const FEW: usize = 24;
/// But no more bytes than about these.
const MOST_BYTES: usize = 256 << 10;
/// The most calls at a time, where there is a lot: while one answer is read and worked, the server works on the next.
const CALLS: usize = 2;
/// The fewest messages that are worth a call beside another.
const LEAST: usize = 24;
/// How long messages wait here to be picked up, before they go back for others.
const HOARD: Duration = Duration::from_secs(1);
/// A message is looked for at least this often, for the case that the server forgot to tell.
const SAFETY: Duration = Duration::from_secs(30);
/// How long to wait for the server's promise to tell of changes, before looking for messages again without it.
const PROMISE: Duration = Duration::from_secs(1);

pub(crate) struct RedisConsumer {
    inner: Arc<Inner>,
    settler: Arc<Settler>,
    reader: Arc<Reader>,
    /// Rung when there may be something.
    bell: Arc<Notify>,
    /// What is being taken, in the order of asking: a `recv` leaves to the next one what it does not wait for.
    pending: VecDeque<Call>,
    /// The queue that is served first the next time.
    turn: usize,
    /// How many times in a row others were faster.
    misses: u32,
    /// Whether there is something, most likely: then it is taken, and nothing asked before.
    likely: bool,
    /// Whether there is a lot, most likely.
    plenty: bool,
    /// When the next parked message is due, as far as is known.
    due: Option<Instant>,
    /// Whether a list could not be read.
    blocked: bool,
    /// What was said to be wrong.
    said: Vec<String>,
    _due: Subscription,
    _fanouts: Vec<Subscription>,
}

/// What is read, and how.
struct Reader {
    /// By queue, then by step in the order of reading.
    sources: Vec<Vec<Arc<Source>>>,
    /// The keys of all lists.
    lists: Vec<Vec<u8>>,
}

/// A call under way.
type Taking = Pin<Box<dyn Future<Output = Result<Taken>> + Send>>;

/// A call that takes messages.
struct Call {
    /// The most messages that may come of it.
    limit: usize,
    place: Place,
}

/// Where a call goes on.
enum Place {
    /// In `recv`.
    Here(Taking),
    /// In a task of its own, because no `recv` waits for it: what comes has to be known, so that its leases are renewed.
    Away(oneshot::Receiver<Shelf>),
    /// It has ended.
    Came(Shelf),
}

/// What came of a call, until it is picked up or has waited for too long. Dropped, what it has goes back.
type Shelf = Arc<Mutex<Option<Result<Taken>>>>;

impl Call {
    /// Sends the call, and leaves it to a task.
    fn begin(&mut self) {
        if let Place::Here(taking) = &mut self.place
            && let Some(taken) = taking.now_or_never()
        {
            self.place = Place::Came(shelf(taken));
        }
        self.go_away();
    }

    /// Leaves the call to a task.
    fn go_away(&mut self) {
        let Place::Here(_) = self.place else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (sender, receiver) = oneshot::channel();
        if let Place::Here(taking) = std::mem::replace(&mut self.place, Place::Away(receiver)) {
            runtime.spawn(async move {
                let shelf = shelf(taking.await);
                let waits = Arc::downgrade(&shelf);
                if sender.send(shelf).is_ok() {
                    tokio::time::sleep(HOARD).await; // wait: for a worker that may be busy
                    drop(waits.upgrade().and_then(|shelf| locked(&shelf).take()));
                }
            });
        }
    }
}

fn shelf(taken: Result<Taken>) -> Shelf {
    Arc::new(Mutex::new(Some(taken)))
}

fn locked(shelf: &Shelf) -> MutexGuard<'_, Option<Result<Taken>>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that `recv` waits for; dropped before its end, it goes on elsewhere.
struct Waiting<'a>(&'a mut Call);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.go_away();
    }
}

/// What came of one call.
struct Taken {
    unseen: Unseen,
    /// Whether as much came as may come at once: there is more, most likely.
    full: bool,
    /// When the next is due; `None` if nothing is parked.
    due: Option<Instant>,
    /// What is wrong with a list.
    wrong: Vec<String>,
}

/// Deliveries that nobody has been given, with their numbers. Dropped, they go back as if they had never been taken.
struct Unseen {
    inner: Arc<Inner>,
    deliveries: VecDeque<(u64, Delivery)>,
}

impl Unseen {
    /// Up to `limit` of them, to be given to somebody.
    fn give(&mut self, limit: usize) -> Vec<Delivery> {
        let given = self.deliveries.drain(..limit.min(self.deliveries.len()));
        let (numbers, deliveries): (Vec<u64>, Vec<Delivery>) = given.unzip();
        self.inner.shared.held.give(&numbers);
        deliveries
    }
}

/// Rings for queues of which a message will be due earlier than was known.
struct Due {
    names: Vec<QueueName>,
    bell: Arc<Notify>,
}

impl Ear for Due {
    fn heard(&self, _channel: &[u8], payload: Vec<u8>) {
        if self.names.iter().any(|name| name.as_bytes() == payload) {
            self.bell.notify_one();
        }
    }

    fn resumed(&self) {
        self.bell.notify_one();
    }
}

impl RedisConsumer {
    pub(crate) async fn start(inner: &Arc<Inner>, settler: &Arc<Settler>, queues: Vec<QueueName>) -> Result<Self> {
        const CONSUME: &str = "consume";
        let keys = &inner.shared.keys;
        let source = |queue: &QueueName, step: u8| {
            let mut tail = b", \"\", ".to_vec();
            json::push_text(&mut tail, queue);
            tail.push(b']');
            Arc::new(Source {
                queue: queue.clone(),
                step,
                list: keys.list(queue, step),
                plain: keys.list(queue, 0),
                parked: keys.parked(queue),
                tail,
            })
        };
        let steps = keys.steps();
        let sources: Vec<Vec<Arc<Source>>> =
            queues.iter().map(|queue| steps.iter().map(|step| source(queue, *step)).collect()).collect();
        let lists = sources.iter().flatten().map(|source| source.list.clone().into_bytes()).collect();
        let bell = Arc::new(Notify::new());
        let due: Arc<dyn Ear> = Arc::new(Due { names: queues.clone(), bell: Arc::clone(&bell) });
        let due = inner.hub.subscribe(CONSUME, vec![keys.due_channel.clone().into_bytes()], due).await?;
        let fanouts = fanout::listen(inner, &queues).await?;
        // Before anything is taken, there is somebody who renews and hands back.
        inner.keep()?;
        Ok(Self {
            inner: Arc::clone(inner),
            settler: Arc::clone(settler),
            reader: Arc::new(Reader { sources, lists }),
            bell,
            pending: VecDeque::new(),
            turn: 0,
            misses: 0,
            // It also tells what is parked.
            likely: true,
            plenty: false,
            due: None,
            blocked: false,
            said: Vec::new(),
            _due: due,
            _fanouts: fanouts,
        })
    }

    /// What came of the next call, up to `limit` messages; none if it brought none. Makes calls for what is to come then, too.
    ///
    /// # Cancel safety
    /// What is under way is kept.
    async fn take(&mut self, limit: usize) -> Result<Vec<Delivery>> {
        self.ask(limit);
        let Some(call) = self.pending.front_mut() else { return Err(unexpected_shape()) };
        let waiting = Waiting(call);
        let came = match &mut waiting.0.place {
            Place::Here(taking) => shelf(taking.await),
            Place::Away(coming) => coming.await.unwrap_or_else(|_| shelf(Err(closed(RECEIVE)))),
            Place::Came(shelf) => Arc::clone(shelf),
        };
        waiting.0.place = Place::Came(Arc::clone(&came));
        drop(waiting);
        let mut came = locked(&came);
        let Some(Ok(taken)) = &mut *came else {
            let failed = came.take();
            drop(came);
            match failed {
                Some(Err(error)) => {
                    self.pending.pop_front();
                    return Err(error);
                }
                // It has gone back, and so does what was asked for after it: else that would come before it.
                _ => self.pending.clear(),
            }
            self.likely = true;
            return Ok(Vec::new());
        };
        let given = taken.unseen.give(limit);
        self.learn(taken, given.is_empty());
        if taken.unseen.deliveries.is_empty() {
            self.pending.pop_front();
        }
        Ok(given)
    }

    /// Notes what a call has told, which brought nothing or something.
    fn learn(&mut self, taken: &Taken, nothing: bool) {
        for what in &taken.wrong {
            if !self.said.contains(what) {
                tracing::error!(error = %script_failed(RECEIVE, what).report(), "a list cannot be read; the others are");
                self.said.push(what.clone());
            }
        }
        let now = Instant::now();
        // What is due and did not come cannot be moved for now.
        self.due = taken.due.map(|due| if nothing && due <= now { now + PROMISE } else { due });
        self.blocked = !taken.wrong.is_empty();
        self.likely = taken.full;
        self.plenty = taken.full;
        self.misses = if nothing { self.misses.saturating_add(1) } else { 0 };
    }

    /// Makes as many calls as are worth it, for no more messages than `limit` with those that are on their way.
    fn ask(&mut self, limit: usize) {
        // What goes back has to be there first, and a call waits for that: the next might overtake it.
        let calm = *self.inner.shared.returning.borrow() == 0;
        let calls = if self.plenty && calm { CALLS } else { 1 };
        while self.pending.len() < calls {
            let coming: usize = self.pending.iter().map(|call| call.limit).sum();
            let limit = limit.saturating_sub(coming).min(MOST);
            if !self.pending.is_empty() && limit < LEAST {
                return;
            }
            let (inner, settler, reader) =
                (Arc::clone(&self.inner), Arc::clone(&self.settler), Arc::clone(&self.reader));
            let turn = self.turn;
            self.turn = (turn + 1) % reader.sources.len().max(1);
            let taking: Taking = Box::pin(async move { reader.take(&inner, &settler, turn, limit).await });
            let mut call = Call { limit, place: Place::Here(taking) };
            if calls > 1 {
                // In this order they are carried out, unless the connection is lost.
                call.begin();
            }
            self.pending.push_back(call);
        }
    }

    /// Has the server tell when there is something, and looks whether there is. How long to wait for it; `None` if there is something.
    async fn look(&mut self) -> Option<Duration> {
        let look = self.inner.hub.look(RECEIVE, &self.reader.lists, &self.bell);
        match timeout(PROMISE, look).await {
            Ok(Ok(0)) => Some(SAFETY),
            // What is there cannot be taken.
            Ok(Ok(_)) if self.blocked => Some(PROMISE),
            Ok(Ok(_)) => None,
            Ok(Err(_)) | Err(_) => Some(PROMISE),
        }
    }
}

impl Reader {
    async fn take(&self, inner: &Arc<Inner>, settler: &Arc<Settler>, turn: usize, limit: usize) -> Result<Taken> {
        let shared = &inner.shared;
        let keys = &shared.keys;
        // More urgent ones of all queues first; among those of one step, each queue is first in its turn.
        let steps = self.sources.first().map_or(0, Vec::len);
        let turns = || self.sources.iter().cycle().skip(turn).take(self.sources.len());
        let order: Vec<&Arc<Source>> =
            (0..steps).flat_map(|step| turns().filter_map(move |queue| queue.get(step))).collect();
        // What was dropped here goes back before more is taken: it comes first. A keeper that cannot is not waited for.
        let mut returning = shared.returning.subscribe();
        let _ = timeout(PROMISE, returning.wait_for(|count| *count == 0)).await;
        let _taking = inner.taking();
        // Once it is closed, nobody would renew what is taken.
        inner.check_open(Half::Broker, RECEIVE)?;
        let asked = Instant::now();
        let slot = shared.slots.take();
        let command = |again: bool| {
            let mut command = script::TAKE.call();
            command.arg(5).arg(&keys.unacked).arg(&keys.unacked_index).arg(&keys.taken);
            command.arg(&keys.parked_index).arg(&shared.marks);
            command.arg(slot.name()).arg(slot.call()).arg(if again { "1" } else { "0" });
            command
                .arg(shared.held.prefix())
                .arg(limit)
                .arg(PIECE)
                .arg(FEW)
                .arg(MOST_BYTES)
                .arg(shared.config.lease.as_secs_f64());
            command.arg(SEPARATOR).arg(self.sources.len());
            for source in self.sources.iter().filter_map(|queue| queue.first()) {
                command.arg(source.queue.as_str()).arg(&source.plain).arg(&source.parked);
            }
            for source in &order {
                command.arg(&source.list).arg(&source.tail);
            }
            command
        };
        let answer = inner.link.once(RECEIVE, command).await?;
        drop(slot);
        let received = Instant::now();
        let Value::Array(parts) = answer else { return Err(unexpected_shape()) };
        let mut parts = parts.into_iter();
        let (Some(first), Some(due), Some(wrong), Some(more)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(unexpected_shape());
        };
        let read = |error| unexpected(RECEIVE, error);
        let mut number: u64 = redis::from_redis_value(first).map_err(read)?;
        let due: i64 = redis::from_redis_value(due).map_err(read)?;
        let wrong: Vec<String> = redis::from_redis_value(wrong).map_err(read)?;
        let more: i64 = redis::from_redis_value(more).map_err(read)?;
        let mut entries = Vec::new();
        let mut deliveries = VecDeque::new();
        for part in parts {
            let Value::Array(part) = part else { return Err(unexpected_shape()) };
            let mut part = part.into_iter();
            let place: usize = part.next().map_or(Ok(0), redis::from_redis_value).map_err(read)?;
            let Some(source) = order.get(place) else { return Err(unexpected_shape()) };
            for item in part {
                if let Value::BulkString(item) = item {
                    let (delivery, entry) = read_item(settler, source, number, item, asked);
                    entries.push((number, entry));
                    deliveries.push_back((number, delivery));
                }
                number += 1;
            }
        }
        if asked.elapsed() > shared.config.lease / 2 {
            // So late that it may be another's by now.
            let tags: Vec<String> = entries.iter().map(|(number, _)| shared.held.tag(*number)).collect();
            let asked = Instant::now();
            let lost = shared.renew_tags(&inner.link, &tags).await?;
            let lost: Vec<&[u8]> = lost.iter().map(Vec::as_slice).collect();
            let kept: Vec<bool> = tags.iter().map(|tag| !lost.contains(&tag.as_bytes())).collect();
            let mut keep = kept.iter();
            entries.retain_mut(|(_, entry)| {
                entry.renewed = asked;
                keep.next().copied().unwrap_or_default()
            });
            let mut keep = kept.iter();
            deliveries.retain(|_| keep.next().copied().unwrap_or_default());
        }
        shared.held.insert(entries);
        let due = u64::try_from(due).ok().map(|micros| received + Duration::from_micros(micros));
        Ok(Taken { unseen: Unseen { inner: Arc::clone(inner), deliveries }, full: more != 0, due, wrong })
    }
}

/// One taken item, as a delivery and as what is held of it.
fn read_item(
    settler: &Arc<Settler>,
    source: &Arc<Source>,
    number: u64,
    item: Vec<u8>,
    asked: Instant,
) -> (Delivery, Entry) {
    let receipt = Receipt::new(DeliveryTag(number), Arc::clone(settler) as Arc<dyn Settle>);
    let entry = |order, deliveries, unreadable| Entry {
        source: Arc::clone(source),
        order,
        deliveries,
        unreadable,
        renewed: asked,
        settling: false,
        unseen: true,
    };
    match envelope::decode(&item) {
        Ok(read) => {
            let stamp = read.stamp;
            let before = stamp.map_or(u32::from(read.redelivered), |stamp| stamp.deliveries);
            let deliveries = before.saturating_add(1);
            let key = read.routing_key.unwrap_or_else(|| RoutingKey::from(&source.queue));
            let delivery = Delivery::new(read.message, source.queue.clone(), receipt)
                .published_to(read.exchange, key)
                .counted(deliveries)
                .redelivered(read.redelivered || deliveries > 1);
            (delivery, entry(stamp.map_or(number, |stamp| stamp.order), deliveries, None))
        }
        Err(unreadable) => {
            tracing::warn!(queue = %source.queue, reason = unreadable.reason, "an item of the queue is no message");
            let message = Unreadable::message(Bytes::from(item));
            let delivery = Delivery::new(message, source.queue.clone(), receipt)
                .published_to(ExchangeName::DEFAULT, RoutingKey::from(&source.queue))
                .counted(1);
            (delivery, entry(number, 1, Some(unreadable.reason.into())))
        }
    }
}

fn unexpected_shape() -> celeriac_core::Error {
    unexpected(RECEIVE, "what the script that takes messages does not answer")
}

#[async_trait]
impl Consumer for RedisConsumer {
    async fn recv(&mut self, limit: NonZeroUsize) -> Result<Vec<Delivery>> {
        let closing = self.inner.closing.clone();
        loop {
            self.inner.check_open(Half::Broker, RECEIVE)?;
            if self.likely || !self.pending.is_empty() {
                // CANCEL SAFETY: what is being taken is kept in `pending`.
                let taken = tokio::select! {
                    () = closing.cancelled() => continue,
                    taken = self.take(limit.get()) => taken?,
                };
                if taken.is_empty() {
                    continue;
                }
                return Ok(taken);
            }
            // What was just handed out is worked first: to look for more is in no hurry.
            tokio::task::yield_now().await;
            // CANCEL SAFETY: a look that is dropped leaves a bell that may ring.
            let wait = tokio::select! {
                () = closing.cancelled() => continue,
                wait = self.look() => wait,
            };
            let Some(wait) = wait else {
                self.likely = true;
                continue;
            };
            let wait = match self.due.map(|due| due.saturating_duration_since(Instant::now())) {
                // What is due and in the way of nothing else cannot be moved to its list.
                Some(Duration::ZERO) if self.blocked => wait,
                Some(until) => until.min(wait),
                None => wait,
            };
            // CANCEL SAFETY: what rang is remembered before anything else is waited for.
            tokio::select! {
                () = closing.cancelled() => {}
                () = self.bell.notified() => {
                    self.likely = true;
                    // Where others always are faster, they are let.
                    let delay = fastrand::u64(0..=100 * u64::from(self.misses.min(20)));
                    if self.misses > 1 && delay > 0 {
                        tokio::time::sleep(Duration::from_micros(delay)).await; // wait: so that not all who wait ask at once
                    }
                }
                () = tokio::time::sleep(wait) => self.likely = true,
            }
        }
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.inner.check_open(Half::Broker, "cancel")
    }
}

impl std::fmt::Debug for RedisConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queues: Vec<&str> =
            self.reader.sources.iter().filter_map(|queue| queue.first()).map(|source| source.queue.as_str()).collect();
        f.debug_struct("RedisConsumer").field("queues", &queues).finish_non_exhaustive()
    }
}
