//! The deliveries in hand, by the channel on which they came.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use celeriac_broker::DeliveryTag;
use celeriac_core::{Error, QueueName, Result};
use futures_util::FutureExt as _;
use futures_util::future::{join, join_all};
use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::time::{Instant, timeout};

use crate::consumer::keeper::go_back;
use crate::consumer::reading::Taken;
use crate::consumer::session::{End, Session};

/// How long the server may take to answer that a channel is closed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The part of a tag that names the channel. The rest is the server's tag.
const SESSION_BITS: u32 = 24;
const TAG_BITS: u32 = u64::BITS - SESSION_BITS;
/// The greatest tag of the server's that there is room for.
pub(crate) const LAST_TAG: u64 = (1 << TAG_BITS) - 1;

/// The deliveries in hand. Whatever came on a channel that is not known here, or on one that is lost, is not held any more.
#[derive(Default)]
pub(crate) struct Held {
    sessions: Mutex<HashMap<u32, Arc<Session>>>,
    last: AtomicU32,
    /// Those that are held as a copy. Locked before any session.
    sheltered: Mutex<HashMap<DeliveryTag, Sheltered>>,
}

/// A delivery that is held as a copy.
struct Sheltered {
    channel: Channel,
    tag: u64,
    taken: Taken,
    queue: QueueName,
    since: Instant,
    /// Where it counts as one that is on the way.
    origin: (Weak<Session>, usize),
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sheltered(&self) -> MutexGuard<'_, HashMap<DeliveryTag, Sheltered>> {
        self.sheltered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for one more channel.
    pub(crate) fn number(&self) -> u32 {
        // ORDERING: only that no number comes twice matters. After some millions of channels they do.
        self.last.fetch_add(1, Ordering::Relaxed) & ((1 << SESSION_BITS) - 1)
    }

    pub(crate) fn insert(&self, session: &Arc<Session>) {
        self.lock().insert(session.number, Arc::clone(session));
    }

    /// What came by `session` is not held any more.
    pub(crate) fn remove(&self, session: &Session) {
        session.end();
        self.lock().remove(&session.number);
    }

    /// The channel of a delivery, and the server's tag.
    fn find(&self, tag: DeliveryTag) -> Option<(Arc<Session>, u64)> {
        let number = u32::try_from(tag.0 >> TAG_BITS).ok()?;
        Some((self.lock().get(&number).cloned()?, tag.0 & LAST_TAG))
    }

    pub(crate) fn holds(&self, tag: DeliveryTag) -> bool {
        // In this order, for it may be on its way from the one to the other.
        self.find(tag).is_some_and(|(session, tag)| session.holds(tag))
            || self.sheltered().get(&tag).is_some_and(|held| held.channel.status().connected())
    }

    /// What came with this tag, if it is held, and the queue that it came from.
    pub(crate) fn look_up(&self, tag: DeliveryTag) -> Option<(Taken, QueueName)> {
        // In this order, for it may be on its way from the one to the other.
        let held = self.find(tag).and_then(|(session, tag)| session.look_up(tag));
        held.or_else(|| self.look_up_copy(tag))
    }

    /// The same, if it is held as a copy.
    pub(crate) fn look_up_copy(&self, tag: DeliveryTag) -> Option<(Taken, QueueName)> {
        let sheltered = self.sheltered();
        let held = sheltered.get(&tag).filter(|held| held.channel.status().connected())?;
        Some((held.taken.clone(), held.queue.clone()))
    }

    /// Ends deliveries, in order; whether each was held.
    pub(crate) fn settle(&self, ends: &[(DeliveryTag, End)]) -> Vec<bool> {
        let mut held = Vec::with_capacity(ends.len());
        let session = |tag: DeliveryTag| tag.0 >> TAG_BITS;
        for run in ends.chunk_by(|(one, _), (next, _)| session(*one) == session(*next)) {
            match run.first().and_then(|(tag, _)| self.find(*tag)) {
                Some((session, _)) => {
                    let ends: Vec<_> = run.iter().map(|(tag, end)| (tag.0 & LAST_TAG, *end)).collect();
                    held.extend(session.settle(&ends));
                    self.let_go(&session);
                }
                None => held.resize(held.len() + run.len(), false),
            }
        }
        for ((tag, end), held) in ends.iter().zip(&mut held).filter(|(_, held)| !**held) {
            *held = self.settle_copy(*tag, *end);
        }
        held
    }

    fn settle_copy(&self, tag: DeliveryTag, end: End) -> bool {
        if end == End::Drop {
            // Its shelter would lead it back; the settler sends it where its queue would, and acknowledges it.
            return false;
        }
        let mut sheltered = self.sheltered();
        let Some(Sheltered { channel, tag, origin: (session, line), .. }) = sheltered.remove(&tag) else {
            return false;
        };
        if let Some(session) = session.upgrade() {
            session.let_go_elsewhere(line);
        }
        if !channel.status().connected() {
            return false;
        }
        match end {
            End::Ack => drop(channel.basic_ack(tag, BasicAckOptions::default()).now_or_never()),
            End::Drop | End::Requeue | End::Return => go_back(&channel, tag),
        }
        true
    }

    /// What has been held for longer than `age` says of its queue, or as a copy for longer than `age_of_copies`, with the queue that it came
    /// from. `None` is for as long as it takes.
    pub(crate) fn older_than(
        &self,
        age: impl Fn(&QueueName) -> Option<Duration>,
        age_of_copies: Option<Duration>,
    ) -> Vec<(DeliveryTag, Taken, QueueName)> {
        let sessions: Vec<_> = self.lock().values().cloned().collect();
        let of = |session: &Arc<Session>| {
            let number = session.number;
            session
                .older_than(&age)
                .into_iter()
                .map(move |(tag, taken, queue)| (delivery_tag(number, tag), taken, queue))
        };
        let mut old: Vec<_> = sessions.iter().flat_map(of).collect();
        let sheltered = self.sheltered();
        let copies = sheltered.iter().filter(|(_, held)| age_of_copies.is_some_and(|age| held.since.elapsed() >= age));
        old.extend(copies.map(|(tag, held)| (*tag, held.taken.clone(), held.queue.clone())));
        old
    }

    /// Has a delivery be held on as a copy, which came by `channel` as `copy`. Whether it was held until now.
    pub(crate) fn replace(&self, tag: DeliveryTag, channel: &Channel, copy: u64) -> bool {
        let mut sheltered = self.sheltered();
        let since = Instant::now();
        if let Some(held) = sheltered.get_mut(&tag) {
            let connected = held.channel.status().connected();
            if connected {
                drop(held.channel.basic_ack(held.tag, BasicAckOptions::default()).now_or_never());
                (held.channel, held.tag, held.since) = (channel.clone(), copy, since);
            }
            return connected;
        }
        let Some((session, at)) = self.find(tag) else { return false };
        let Some((taken, queue, line)) = session.hand_over(at) else { return false };
        let origin = (Arc::downgrade(&session), line);
        sheltered.insert(tag, Sheltered { channel: channel.clone(), tag: copy, taken, queue, since, origin });
        drop(sheltered);
        self.let_go(&session);
        true
    }

    /// Whether nothing is held as a copy.
    pub(crate) fn shelters_none(&self) -> bool {
        self.sheltered().is_empty()
    }

    /// What came by `channel` as copies is not held any more.
    pub(crate) fn lose(&self, channel: &Channel) {
        let mut origins = Vec::new();
        self.sheltered().retain(|_, held| {
            let stays = held.channel.id() != channel.id();
            if !stays {
                origins.push(held.origin.clone());
            }
            stays
        });
        for (session, line) in origins {
            if let Some(session) = session.upgrade() {
                session.let_go_elsewhere(line);
            }
        }
    }

    /// Closes the channel if its consumer is gone and nothing that came on it is held any more.
    pub(crate) fn let_go(&self, session: &Session) {
        if session.is_done() {
            self.remove(session);
        }
    }

    /// Gives up everything that is held: it goes back to its queues.
    ///
    /// # Errors
    /// If the server could not be told; then it finds out by itself.
    pub(crate) async fn close(&self) -> Result<()> {
        let sessions: Vec<_> = self.lock().drain().map(|(_, session)| session).collect();
        let copies: Vec<_> = self.sheltered().drain().map(|(_, held)| held).collect();
        let mut shelters: Vec<&Channel> = Vec::new();
        for Sheltered { channel, tag, .. } in &copies {
            go_back(channel, *tag);
            if !shelters.iter().any(|one| one.id() == channel.id()) {
                shelters.push(channel);
            }
        }
        let sessions = join_all(sessions.iter().map(|session| session.close()));
        let shelters = join_all(shelters.into_iter().map(|channel| channel.close(200, "closed".into())));
        match timeout(PATIENCE, join(sessions, shelters)).await {
            // A channel that is lost is closed.
            Ok(_) => Ok(()),
            Err(_) => {
                let why = "RabbitMQ does not answer; what was held it hands back when it notices";
                Err(Error::unavailable("close", why))
            }
        }
    }
}

/// The tag of what came on the channel `session` by the server's tag.
pub(crate) fn delivery_tag(session: u32, tag: u64) -> DeliveryTag {
    DeliveryTag(u64::from(session) << TAG_BITS | tag & LAST_TAG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_of_different_channels_have_different_tags() {
        assert_ne!(delivery_tag(1, 7), delivery_tag(2, 7));
        assert_ne!(delivery_tag(1, 7), delivery_tag(1, 8));
        assert_eq!(delivery_tag((1 << SESSION_BITS) - 1, 7).0 >> TAG_BITS, (1 << SESSION_BITS) - 1);
    }

    #[test]
    fn what_is_not_known_is_not_held() {
        let held = Held::default();
        assert_eq!(held.settle(&[(delivery_tag(1, 1), End::Ack), (delivery_tag(2, 1), End::Ack)]), [false, false]);
    }
}
