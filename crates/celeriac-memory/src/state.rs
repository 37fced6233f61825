//! What the store's one lock protects: queues, exchanges, held deliveries, consumers, results, entries of the schedule.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use celeriac_broker::{Destination, ExchangeKind, Outgoing, QueueSpec, check_headers_binding};
use celeriac_core::{Error, ErrorKind, ExchangeName, Headers, QueueName, Result, RoutingKey, Timestamp};
use tokio::sync::Notify;

use crate::entries::Entries;
use crate::queue::{Entry, Queue, Stored};
use crate::results::Results;
use crate::routing::Exchanges;

pub(crate) type QueueId = u64;

/// Names one handle on a store.
pub(crate) type HandleId = u64;

/// What is left to do once the lock is released: those woken would only run into it, and dropping messages takes time.
#[derive(Debug, Default)]
pub(crate) struct After {
    wakes: Vec<Arc<Notify>>,
    dropped: Vec<Entry>,
}

impl After {
    pub(crate) fn wake(&mut self, waiter: Arc<Notify>) {
        self.wakes.push(waiter);
    }

    /// Makes room for so many messages to drop.
    pub(crate) fn room(&mut self, count: usize) {
        self.dropped.reserve(count);
    }

    pub(crate) fn drop_later(&mut self, entry: Entry) {
        self.dropped.push(entry);
    }

    pub(crate) fn run(self) {
        self.wakes.iter().for_each(|waiter| waiter.notify_one());
    }
}

/// A delivery in someone's hands.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) entry: Entry,
    pub(crate) queue: QueueId,
    pub(crate) handle: HandleId,
}

/// Hashes tags. They are counted up here, so nobody can choose them to collide.
#[derive(Debug, Default)]
pub(crate) struct TagHasher(u64);

impl Hasher for TagHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, tag: u64) {
        // Fibonacci hashing: neighbours are spread over the upper bits too, which the table looks at first.
        self.0 = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A consumer.
#[derive(Debug)]
struct Member {
    handle: HandleId,
    queues: Vec<QueueId>,
    notify: Arc<Notify>,
}

/// A message ready to be queued. Made before the lock is taken.
#[derive(Debug)]
pub(crate) struct Incoming {
    stored: Arc<Stored>,
    due: Option<Timestamp>,
}

impl From<Outgoing> for Incoming {
    fn from(outgoing: Outgoing) -> Self {
        let Outgoing { message, destination, deliver_at, .. } = outgoing;
        Self { stored: Arc::new(Stored { message, destination }), due: deliver_at }
    }
}

impl Incoming {
    /// What decides where it goes.
    pub(crate) fn route(&self) -> (&Destination, &Headers) {
        (&self.stored.destination, &self.stored.message.headers)
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    names: HashMap<QueueName, QueueId>,
    pub(crate) queues: HashMap<QueueId, Queue>,
    exchanges: Exchanges,
    pub(crate) held: HashMap<u64, Held, BuildHasherDefault<TagHasher>>,
    members: HashMap<u64, Member>,
    pub(crate) results: Results,
    pub(crate) entries: Entries,
    pub(crate) last_id: u64,
    /// How many queues go when nobody consumes them for a while.
    mortal_queues: usize,
    /// Wakes the task that lets messages in when they are due, while it runs.
    pub(crate) timer: Option<Arc<Notify>>,
}

impl State {
    /// A number never used before: for tags, tickets, queues, consumers.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn queue_id(&self, name: &str) -> Option<QueueId> {
        self.names.get(name).copied()
    }

    pub(crate) fn queue_named(&mut self, name: &str) -> Option<&mut Queue> {
        let id = self.queue_id(name)?;
        self.queues.get_mut(&id)
    }

    /// Creates the queue, its exchanges and bindings where they do not exist.
    pub(crate) fn declare(&mut self, spec: &QueueSpec, now: Timestamp) -> Result<()> {
        check_spec(spec)?;
        let mut kinds: HashMap<&ExchangeName, ExchangeKind> = HashMap::new();
        for binding in &spec.bindings {
            let (name, kind) = (&binding.exchange.name, binding.exchange.kind);
            let known = self.exchanges.kind(name).unwrap_or(*kinds.entry(name).or_insert(kind));
            if known != kind {
                let message = format!(
                    "exchange `{name}` of queue `{}` is of kind {}, not {}",
                    spec.name,
                    known.as_str(),
                    kind.as_str()
                );
                return Err(Error::config("declare queue", message));
            }
        }
        if let Some(queue) = self.queue_named(&spec.name) {
            check_same(&queue.spec, spec)?;
            queue.idle_since = now;
        }
        let id = self.ensure_queue(spec, now);
        for binding in &spec.bindings {
            self.exchanges.bind(binding, id);
        }
        Ok(())
    }

    /// The queue of that name, made if need be.
    fn ensure_queue(&mut self, spec: &QueueSpec, now: Timestamp) -> QueueId {
        if let Some(id) = self.queue_id(&spec.name) {
            return id;
        }
        let id = self.fresh_id();
        self.names.insert(spec.name.clone(), id);
        self.queues.insert(id, Queue::new(spec.clone(), now));
        self.mortal_queues += usize::from(spec.expires.is_some());
        id
    }

    fn remove_queue(&mut self, id: QueueId, after: &mut After) {
        if let Some(mut queue) = self.queues.remove(&id) {
            queue.clear(after);
            self.names.remove(&queue.spec.name);
            self.exchanges.unbind(id);
            self.mortal_queues -= usize::from(queue.spec.expires.is_some());
        }
    }

    /// Removes the queues that nobody has consumed for too long.
    pub(crate) fn expire_queues(&mut self, now: Timestamp, after: &mut After) {
        if self.mortal_queues == 0 {
            return;
        }
        let unused = |queue: &Queue| {
            queue.consumers == 0 && queue.spec.expires.is_some_and(|after| queue.idle_since + after <= now)
        };
        let gone: Vec<QueueId> = self.queues.iter().filter(|(_, queue)| unused(queue)).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.remove_queue(id, after));
    }

    /// Whether every message of a batch can be routed, and has room.
    pub(crate) fn check_routes<'a>(
        &self,
        batch: impl Iterator<Item = (&'a Destination, &'a Headers)>,
        max_queue_length: Option<usize>,
    ) -> Result<()> {
        let mut added: HashMap<&str, usize> = HashMap::new();
        for (destination, headers) in batch {
            if destination.exchange.is_empty() {
                if destination.routing_key.is_empty() {
                    let message = "the default exchange routes by queue name, and the routing key is empty";
                    return Err(Error::new(ErrorKind::NotFound, "publish", message));
                }
                if let Some(max) = max_queue_length {
                    check_room(
                        &destination.routing_key,
                        self.queue_id(&destination.routing_key).and_then(|id| self.queues.get(&id)),
                        &mut added,
                        max,
                    )?;
                }
                continue;
            }
            let queues = self.exchanges.route(destination, headers)?;
            if let Some(max) = max_queue_length {
                for queue in queues.iter().filter_map(|id| self.queues.get(id)) {
                    check_room(&queue.spec.name, Some(queue), &mut added, max)?;
                }
            }
        }
        Ok(())
    }

    /// Queues messages whose routes were checked under the same lock.
    pub(crate) fn enqueue(&mut self, batch: Vec<Incoming>, now: Timestamp, after: &mut After) {
        let mut batch = batch.into_iter().peekable();
        while let Some(first) = batch.next() {
            let targets = self.targets(&first.stored, now);
            let same = Arc::clone(&first.stored);
            let by_headers = self.exchanges.kind(&same.destination.exchange) == Some(ExchangeKind::Headers);
            let mut run = vec![first];
            while let Some(next) = batch.next_if(|next| !by_headers && next.stored.destination == same.destination) {
                run.push(next);
            }
            let Some((last, others)) = targets.split_last() else { continue };
            for id in others {
                let copies = run.iter().map(|one| Incoming { stored: Arc::clone(&one.stored), due: one.due });
                self.fill(*id, copies, now, after);
            }
            self.fill(*last, run.into_iter(), now, after);
        }
    }

    fn fill(&mut self, id: QueueId, messages: impl Iterator<Item = Incoming>, now: Timestamp, after: &mut After) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.drop_expired_heads(now, after);
        let before = queue.ready();
        queue.promote(now);
        let mut first_due = false;
        for Incoming { stored, due } in messages {
            first_due |= queue.push(stored, due, now);
        }
        queue.wake(queue.ready() - before, after);
        if first_due {
            self.rearm(id, after);
        }
    }

    fn targets(&mut self, Stored { message, destination }: &Stored, now: Timestamp) -> Vec<QueueId> {
        if !destination.exchange.is_empty() {
            return self.exchanges.route(destination, &message.headers).unwrap_or_default();
        }
        let key: &RoutingKey = &destination.routing_key;
        match self.queue_id(key) {
            Some(id) => vec![id],
            None => match QueueName::new(key.as_str().to_owned()) {
                Ok(name) => vec![self.ensure_queue(&QueueSpec::unbound(name), now)],
                Err(_) => Vec::new(),
            },
        }
    }

    /// Sees to it that somebody looks at the time when the next message of the queue is due.
    pub(crate) fn rearm(&mut self, id: QueueId, after: &mut After) {
        match &self.timer {
            Some(timer) => after.wake(Arc::clone(timer)),
            // Whoever waits starts the timer; nobody waiting means that the next to come looks at the time.
            None => {
                if let Some(queue) = self.queues.get_mut(&id) {
                    queue.wake(1, after);
                }
            }
        }
    }

    /// Takes a delivery back into its queue: at once, or as due at `until`, when it does not count.
    pub(crate) fn take_back(&mut self, held: Held, until: Option<Timestamp>, now: Timestamp, after: &mut After) {
        let Held { mut entry, queue: id, .. } = held;
        let Some(queue) = self.queues.get_mut(&id) else { return after.drop_later(entry) };
        let before = queue.ready();
        let first_due = match until {
            None => {
                queue.put_back(entry);
                false
            }
            Some(until) => {
                entry.deliveries = entry.deliveries.saturating_sub(1);
                queue.park(entry, until, now)
            }
        };
        queue.wake(queue.ready() - before, after);
        if first_due {
            self.rearm(id, after);
        }
    }

    /// Takes back everything that `handle` holds, and ends its consumers.
    pub(crate) fn leave(&mut self, handle: HandleId, now: Timestamp, after: &mut After) {
        let mut tags: Vec<u64> =
            self.held.iter().filter(|(_, held)| held.handle == handle).map(|(tag, _)| *tag).collect();
        tags.sort_unstable();
        for tag in tags {
            if let Some(held) = self.held.remove(&tag) {
                self.take_back(held, None, now, after);
            }
        }
        let members: Vec<u64> =
            self.members.iter().filter(|(_, member)| member.handle == handle).map(|(id, _)| *id).collect();
        for id in members {
            if let Some(notify) = self.remove_member(id, now, after) {
                after.wake(notify);
            }
        }
    }

    /// Adds a consumer of `queues`, made if need be.
    pub(crate) fn add_member(
        &mut self,
        handle: HandleId,
        names: Vec<QueueName>,
        notify: &Arc<Notify>,
        now: Timestamp,
    ) -> (u64, Vec<(QueueId, QueueName)>) {
        let mut queues: Vec<(QueueId, QueueName)> = Vec::with_capacity(names.len());
        for name in names {
            let id = self.ensure_queue(&QueueSpec::unbound(name.clone()), now);
            if queues.iter().any(|(other, _)| *other == id) {
                continue;
            }
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.consumers += 1;
            }
            queues.push((id, name));
        }
        let id = self.fresh_id();
        let ids = queues.iter().map(|(id, _)| *id).collect();
        self.members.insert(id, Member { handle, queues: ids, notify: Arc::clone(notify) });
        (id, queues)
    }

    /// Ends a consumer; its queues may go with it.
    pub(crate) fn remove_member(&mut self, id: u64, now: Timestamp, after: &mut After) -> Option<Arc<Notify>> {
        let member = self.members.remove(&id)?;
        for id in member.queues {
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            queue.consumers -= 1;
            queue.idle_since = now;
            if queue.consumers == 0 && queue.spec.auto_delete {
                self.remove_queue(id, after);
            }
        }
        Some(member.notify)
    }
}

fn check_room<'a>(name: &'a str, queue: Option<&Queue>, added: &mut HashMap<&'a str, usize>, max: usize) -> Result<()> {
    let added = added.entry(name).or_default();
    *added += 1;
    if queue.map_or(0, Queue::len) + *added > max {
        return Err(Error::unavailable("publish", format!("queue `{name}` is full: it keeps {max} messages at most")));
    }
    Ok(())
}

fn check_spec(spec: &QueueSpec) -> Result<()> {
    if let Some((name, _)) = spec.arguments.iter().next() {
        let message = format!("argument `{name}` of queue `{}` is not known to the memory broker", spec.name);
        return Err(Error::config("declare queue", message));
    }
    for binding in &spec.bindings {
        if binding.exchange.name.is_empty() {
            let message =
                format!("queue `{}` cannot be bound to the default exchange, which feeds it anyway", spec.name);
            return Err(Error::config("declare queue", message));
        }
        match binding.exchange.kind {
            ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::Topic => {}
            ExchangeKind::Headers => check_headers_binding(&binding.arguments)?,
            other => {
                let (name, kind) = (&binding.exchange.name, other.as_str());
                let message = format!("exchange `{name}` is of kind `{kind}`, which the memory broker does not have");
                return Err(Error::unsupported("declare queue", message));
            }
        }
    }
    Ok(())
}

fn check_same(known: &QueueSpec, wanted: &QueueSpec) -> Result<()> {
    let option = if known.durable != wanted.durable {
        "durable"
    } else if known.auto_delete != wanted.auto_delete {
        "auto_delete"
    } else if known.max_priority != wanted.max_priority {
        "max_priority"
    } else if known.message_ttl != wanted.message_ttl {
        "message_ttl"
    } else if known.expires != wanted.expires {
        "expires"
    } else {
        return Ok(());
    };
    Err(Error::config("declare queue", format!("queue `{}` exists with another `{option}`", known.name)))
}
