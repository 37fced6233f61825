//! One queue: what waits in it, in which order, and who waits for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use celeriac_broker::{Destination, QueueSpec};
use celeriac_core::{Message, Timestamp};
use tokio::sync::Notify;

use crate::state::After;

/// A message as it was published. Shared by the copies of a fanout and by whoever holds a delivery of it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) message: Message,
    pub(crate) destination: Destination,
}

/// One message's place in one queue.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) stored: Arc<Stored>,
    /// When it came in, among the messages of its queue.
    seq: u64,
    priority: u8,
    pub(crate) deliveries: u32,
    expires: Option<Timestamp>,
}

impl Entry {
    fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The messages of one priority.
///
/// INVARIANT: whatever is in `returned` came in before whatever is in `fresh`, because messages of one priority leave in order.
#[derive(Debug, Default)]
struct Level {
    returned: BTreeMap<u64, Entry>,
    fresh: VecDeque<Entry>,
}

impl Level {
    fn pop(&mut self) -> Option<Entry> {
        self.returned.pop_first().map(|(_, entry)| entry).or_else(|| self.fresh.pop_front())
    }

    fn front(&self) -> Option<&Entry> {
        self.returned.first_key_value().map(|(_, entry)| entry).or_else(|| self.fresh.front())
    }
}

/// A message that is not due yet.
#[derive(Debug)]
struct Delayed {
    entry: Entry,
    /// Whether it was delivered before and parked: then it comes back, otherwise it comes in.
    parked: bool,
}

/// A pending `recv`.
#[derive(Debug)]
struct Waiter {
    limit: usize,
    notify: Arc<Notify>,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) spec: QueueSpec,
    levels: BTreeMap<Reverse<u8>, Level>,
    /// How many are in `levels`.
    ready: usize,
    /// How many of them may expire.
    mortal: usize,
    delayed: BTreeMap<(Timestamp, u64), Delayed>,
    waiters: BTreeMap<u64, Waiter>,
    next_seq: u64,
    pub(crate) consumers: usize,
    /// Since when there has been no consumer.
    pub(crate) idle_since: Timestamp,
}

impl Queue {
    pub(crate) fn new(spec: QueueSpec, now: Timestamp) -> Self {
        Self {
            spec,
            levels: BTreeMap::new(),
            ready: 0,
            mortal: 0,
            delayed: BTreeMap::new(),
            waiters: BTreeMap::new(),
            next_seq: 0,
            consumers: 0,
            idle_since: now,
        }
    }

    /// Takes a new message in. Whether it has to wait, and is the first that will be due.
    pub(crate) fn push(&mut self, stored: Arc<Stored>, due: Option<Timestamp>, now: Timestamp) -> bool {
        let priority = stored.message.priority().0;
        let due = due.filter(|due| *due > now);
        let own = stored.message.properties.expiration.map(|own| now + own);
        let queues = self.spec.message_ttl.map(|ttl| due.unwrap_or(now) + ttl);
        let entry = Entry {
            stored,
            seq: self.take_seq(),
            priority: self.spec.max_priority.map_or(priority, |max| priority.min(max)),
            deliveries: 0,
            expires: own.into_iter().chain(queues).min(),
        };
        match due {
            Some(due) => self.delay(due, entry, false),
            None => {
                self.add_fresh(entry);
                false
            }
        }
    }

    /// Takes a message back, before the others of its priority.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.ready += 1;
        self.mortal += usize::from(entry.expires.is_some());
        self.levels.entry(Reverse(entry.priority)).or_default().returned.insert(entry.seq, entry);
    }

    /// Takes a message back that is due at `until`. Whether it is the first that will be due.
    pub(crate) fn park(&mut self, entry: Entry, until: Timestamp, now: Timestamp) -> bool {
        if until > now {
            return self.delay(until, entry, true);
        }
        self.put_back(entry);
        false
    }

    fn take_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    fn add_fresh(&mut self, entry: Entry) {
        self.ready += 1;
        self.mortal += usize::from(entry.expires.is_some());
        self.levels.entry(Reverse(entry.priority)).or_default().fresh.push_back(entry);
    }

    fn delay(&mut self, due: Timestamp, entry: Entry, parked: bool) -> bool {
        let first = self.next_due().is_none_or(|first| due < first);
        self.delayed.insert((due, entry.seq), Delayed { entry, parked });
        first
    }

    /// When the next message that waits for its time is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// Lets in what is due, and tells how many that were.
    pub(crate) fn promote(&mut self, now: Timestamp) -> usize {
        let mut promoted = 0;
        while self.next_due().is_some_and(|due| due <= now) {
            let Some((_, Delayed { mut entry, parked })) = self.delayed.pop_first() else { break };
            if parked {
                self.put_back(entry);
            } else {
                entry.seq = self.take_seq();
                self.add_fresh(entry);
            }
            promoted += 1;
        }
        promoted
    }

    /// Takes up to `limit` messages out, in order, dropping what has expired.
    pub(crate) fn take(
        &mut self,
        limit: usize,
        now: Timestamp,
        after: &mut After,
        mut each: impl FnMut(Entry),
    ) -> usize {
        let mut taken = 0;
        for level in self.levels.values_mut() {
            while taken < limit && self.ready > 0 {
                let Some(entry) = level.pop() else { break };
                self.ready -= 1;
                self.mortal -= usize::from(entry.expires.is_some());
                if entry.is_expired(now) {
                    after.drop_later(entry);
                } else {
                    taken += 1;
                    each(entry);
                }
            }
        }
        taken
    }

    /// How many messages have come in and wait for a consumer.
    pub(crate) fn ready(&self) -> usize {
        self.ready
    }

    /// How many messages wait, due or not.
    pub(crate) fn len(&self) -> usize {
        self.ready + self.delayed.len()
    }

    /// Drops the expired messages at the head, so that a queue without consumers does not grow for ever.
    pub(crate) fn drop_expired_heads(&mut self, now: Timestamp, after: &mut After) {
        if self.mortal == 0 {
            return;
        }
        for level in self.levels.values_mut() {
            while level.front().is_some_and(|entry| entry.is_expired(now)) {
                let Some(entry) = level.pop() else { break };
                self.ready -= 1;
                self.mortal -= 1;
                after.drop_later(entry);
            }
        }
    }

    /// Drops every expired message.
    pub(crate) fn drop_expired(&mut self, now: Timestamp) {
        if self.mortal == 0 {
            return;
        }
        for level in self.levels.values_mut() {
            level.returned.retain(|_, entry| !entry.is_expired(now));
            level.fresh.retain(|entry| !entry.is_expired(now));
        }
        let left = || self.levels.values().flat_map(|level| level.returned.values().chain(&level.fresh));
        self.ready = left().count();
        self.mortal = left().filter(|entry| entry.expires.is_some()).count();
    }

    /// Drops every message, due or not, and tells how many those were.
    pub(crate) fn clear(&mut self, after: &mut After) -> usize {
        let count = self.len();
        for level in std::mem::take(&mut self.levels).into_values() {
            level.returned.into_values().chain(level.fresh).for_each(|entry| after.drop_later(entry));
        }
        std::mem::take(&mut self.delayed).into_values().for_each(|delayed| after.drop_later(delayed.entry));
        (self.ready, self.mortal) = (0, 0);
        count
    }

    /// Notes that someone waits for a message.
    pub(crate) fn add_waiter(&mut self, ticket: u64, limit: usize, notify: &Arc<Notify>) {
        self.waiters.insert(ticket, Waiter { limit, notify: Arc::clone(notify) });
    }

    pub(crate) fn remove_waiter(&mut self, ticket: u64) {
        self.waiters.remove(&ticket);
    }

    /// Wakes as many of those who wait as are needed for `messages` more; the longest waiting first.
    ///
    /// INVARIANT: while messages and waiters are both left, someone who was woken has yet to run; whoever is woken takes what is there and
    /// calls this for the rest, and calls it too when it is dropped instead. So no message is left lying.
    pub(crate) fn wake(&mut self, messages: usize, after: &mut After) {
        let mut left = messages;
        while left > 0 {
            let Some((_, waiter)) = self.waiters.pop_first() else { return };
            left = left.saturating_sub(waiter.limit);
            after.wake(waiter.notify);
        }
    }
}
