//! What the server tells on its own: publications, and changes of keys.
//!
//! One connection serves a whole store. A task keeps it, on the runtime of the first caller; when that runtime ends, another
//! caller's takes over. Whatever is subscribed to, or given up, while the task waits for the server's confirmation goes out
//! together with the next command, so that thousands of short subscriptions a second cost few commands.
//!
//! In RESP3 the server also remembers which keys were looked at, and tells of the first change of each (`CLIENT TRACKING`): no
//! client is woken that has not asked, and nothing is polled. Where that is not to be had, see [`each`].

mod each;
mod session;
mod speaker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use celeriac_core::{Error, Result};
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{self, FromRedisValue, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::each::Watchers;
use crate::backoff::Backoff;
use crate::endpoint::Endpoint;
use crate::error::{Fault, again, answer, closed, fault};
use crate::link::Link;

/// So many runtimes are remembered as those of callers.
const MOST_HOMES: usize = 8;

/// Hears what is published. Called on the driver's path: it must not block, nor take long.
pub(crate) trait Ear: Send + Sync + 'static {
    /// `payload` was published to `channel`.
    fn heard(&self, channel: &[u8], payload: Vec<u8>);

    /// The connection was made anew: what came meanwhile was missed. What is published from now on is heard.
    fn resumed(&self);
}

/// One connection for what the server tells on its own, shared by a whole store.
pub(crate) struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Arc<Endpoint>,
    closed: CancellationToken,
    /// Rings for the task, when something is ordered.
    work: Notify,
    status: watch::Sender<Status>,
    state: Mutex<State>,
    /// For looking at keys where the server does not tell of changes, and the tasks that then wait for them.
    link: Link,
    watchers: Watchers,
}

#[derive(Default)]
struct Status {
    session: Option<Session>,
    /// How often no connection could be made for a reason that time does not mend, and the last one.
    refusals: u64,
    refusal: Option<Arc<Error>>,
}

/// A connection that looks at keys.
#[derive(Clone)]
struct Session {
    connection: MultiplexedConnection,
    /// Whether the server tells of changes.
    tracking: bool,
    lost: CancellationToken,
}

#[derive(Default)]
struct State {
    /// Whether there is a task.
    running: bool,
    /// Runtimes of callers, any of which may run the task.
    homes: Vec<Handle>,
    last: u64,
    /// The last of the ears that were there when the connection was lost.
    deaf: u64,
    channels: Topics,
    patterns: Topics,
    orders: Vec<Order>,
    bells: HashMap<Vec<u8>, Vec<Weak<Notify>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Channel,
    Pattern,
}

#[derive(Default)]
struct Topics {
    entries: HashMap<Vec<u8>, Entry>,
    /// Those that the server may have to be told about.
    changed: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Entry {
    ears: Vec<(u64, Arc<dyn Ear>)>,
    /// Whether the server has confirmed it, on the present connection.
    known: bool,
}

/// Somebody who waits for a confirmation.
struct Order {
    kind: Kind,
    names: Arc<[Vec<u8>]>,
    done: oneshot::Sender<Result<()>>,
}

/// As long as it lives, an ear hears. Dropping it unsubscribes, a little later.
pub(crate) struct Subscription {
    shared: Weak<Shared>,
    id: u64,
    kind: Kind,
    names: Arc<[Vec<u8>]>,
}

impl Hub {
    /// Connects on first use, on the runtime of the caller.
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Arc<Self> {
        let shared = Shared {
            link: Link::new(Arc::clone(&endpoint)),
            endpoint,
            closed: CancellationToken::new(),
            work: Notify::new(),
            status: watch::Sender::default(),
            state: Mutex::default(),
            watchers: Watchers::default(),
        };
        Arc::new(Self { shared: Arc::new(shared) })
    }

    /// From when this returns on, `ear` hears what is published to any of `channels`: the server has confirmed it. A channel
    /// may have many ears.
    ///
    /// # Cancel safety
    /// Without effect when dropped, but for what `ear` may have heard.
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        operation: &'static str,
        channels: Vec<Vec<u8>>,
        ear: Arc<dyn Ear>,
    ) -> Result<Subscription> {
        self.shared.subscribe(operation, Kind::Channel, channels, ear).await
    }

    /// As [`Hub::subscribe`], for all channels whose names match one of `patterns`, as Redis matches them.
    pub(crate) async fn psubscribe(
        self: &Arc<Self>,
        operation: &'static str,
        patterns: Vec<Vec<u8>>,
        ear: Arc<dyn Ear>,
    ) -> Result<Subscription> {
        self.shared.subscribe(operation, Kind::Pattern, patterns, ear).await
    }

    /// How many of `keys` exist, and rings `bell` when one of them changes after this look, or when that may have been missed.
    ///
    /// A bell rings at least once after a change; it may ring without one. After it rang, look again. It is held weakly. Where
    /// the server does not tell of changes, `keys` have to be lists, and the bell rings when one of them has something.
    ///
    /// # Cancel safety
    /// When dropped, the bell may ring.
    pub(crate) async fn look(
        self: &Arc<Self>,
        operation: &'static str,
        keys: &[Vec<u8>],
        bell: &Arc<Notify>,
    ) -> Result<u64> {
        self.shared.look(operation, keys, bell).await
    }

    /// Has the caller's runtime take over when the one that keeps the connection ends. For those who only wait to hear; without effect
    /// outside of a runtime.
    pub(crate) fn keep_here(&self) {
        if Handle::try_current().is_ok() {
            self.shared.keep_running();
        }
    }

    /// Every later call fails, and every one that waits; no ear hears anything any more, and every bell rings.
    pub(crate) fn close(&self) {
        self.shared.close();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        // Dropped when the lock is free again: an ear may own anything.
        let mut ears = Vec::new();
        let mut state = shared.lock();
        let topics = state.topics(self.kind);
        for name in self.names.iter() {
            let Some(entry) = topics.entries.get_mut(name) else { continue };
            if let Some(at) = entry.ears.iter().position(|(id, _)| *id == self.id) {
                ears.push(entry.ears.swap_remove(at));
            }
            // Told to the server with whatever comes next, or by the clock.
            if entry.ears.is_empty() {
                topics.changed.push(name.clone());
            }
        }
        drop(state);
    }
}

impl Status {
    fn live(&self) -> Option<Session> {
        self.session.as_ref().filter(|session| !session.lost.is_cancelled()).cloned()
    }
}

impl State {
    fn topics(&mut self, kind: Kind) -> &mut Topics {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }

    fn register(&mut self, key: &[u8], bell: &Arc<Notify>) {
        let other = |known: &Weak<Notify>| !std::ptr::eq(known.as_ptr(), Arc::as_ptr(bell));
        match self.bells.get_mut(key) {
            Some(bells) if bells.iter().all(other) => {
                bells.retain(|known| known.strong_count() > 0);
                bells.push(Arc::downgrade(bell));
            }
            Some(_) => {}
            None => {
                self.bells.insert(key.to_vec(), vec![Arc::downgrade(bell)]);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.closed.is_cancelled() { Err(closed(operation)) } else { Ok(()) }
    }

    fn close(&self) {
        self.closed.cancel();
        self.link.close();
        let (channels, patterns, orders) = {
            let mut state = self.lock();
            (
                std::mem::take(&mut state.channels),
                std::mem::take(&mut state.patterns),
                std::mem::take(&mut state.orders),
            )
        };
        drop((channels, patterns, orders));
        self.status.send_modify(|status| status.session = None);
        self.ring_all();
    }

    async fn subscribe(
        self: &Arc<Self>,
        operation: &'static str,
        kind: Kind,
        names: Vec<Vec<u8>>,
        ear: Arc<dyn Ear>,
    ) -> Result<Subscription> {
        self.check_open(operation)?;
        let names: Arc<[Vec<u8>]> = names.into();
        let subscription = {
            let mut state = self.lock();
            state.last += 1;
            let id = state.last;
            let topics = state.topics(kind);
            for name in names.iter() {
                topics.entries.entry(name.clone()).or_default().ears.push((id, Arc::clone(&ear)));
            }
            Subscription { shared: Arc::downgrade(self), id, kind, names: Arc::clone(&names) }
        };
        loop {
            self.keep_running();
            let confirmed = {
                let mut state = self.lock();
                let topics = state.topics(kind);
                let known = |name: &Vec<u8>| topics.entries.get(name).is_some_and(|entry| entry.known);
                if names.iter().all(known) {
                    self.check_open(operation)?;
                    return Ok(subscription);
                }
                topics.changed.extend(names.iter().cloned());
                let (done, confirmed) = oneshot::channel();
                state.orders.push(Order { kind, names: Arc::clone(&names), done });
                confirmed
            };
            self.work.notify_one();
            // CANCEL SAFETY: both only wait.
            let confirmed = tokio::select! {
                () = self.closed.cancelled() => return Err(closed(operation)),
                confirmed = confirmed => confirmed,
            };
            match confirmed {
                Ok(Ok(())) => return Ok(subscription),
                Ok(Err(error)) => return Err(again(&error, operation)),
                // The task has ended with its runtime.
                Err(_) => {}
            }
        }
    }

    async fn look(self: &Arc<Self>, operation: &'static str, keys: &[Vec<u8>], bell: &Arc<Notify>) -> Result<u64> {
        if !self.endpoint.speaks_resp3() {
            self.check_open(operation)?;
            return self.look_at_each(operation, keys, bell).await;
        }
        let mut exists = redis::cmd("EXISTS");
        exists.arg(keys);
        let mut backoff = Backoff::default();
        loop {
            let mut session = self.session(operation).await?;
            if !session.tracking {
                return self.look_at_each(operation, keys, bell).await;
            }
            {
                let mut state = self.lock();
                keys.iter().for_each(|key| state.register(key, bell));
            }
            // CANCEL SAFETY: the driver drops the answer to a request that nobody waits for.
            let answered = tokio::select! {
                biased;
                () = self.closed.cancelled() => return Err(closed(operation)),
                answered = session.connection.send_packed_command(&exists) => answered,
            };
            let failed = match answered {
                Ok(Value::ServerError(error)) => {
                    answer(operation, error.code(), error.details().unwrap_or_default(), Some(&exists))
                }
                // Given up by another caller meanwhile, nothing rings on it any more.
                Ok(_) if session.lost.is_cancelled() => continue,
                Ok(count) => {
                    let wrong = |_| Error::unexpected(operation, "the answer to `EXISTS` is no number");
                    return u64::from_redis_value(count).map_err(wrong);
                }
                Err(error) => fault(operation, &error, Some(&exists)),
            };
            match failed {
                Fault::Refused(error) => return Err(error),
                Fault::Broken(_) | Fault::NotSent(_) => session.lost.cancel(),
                Fault::Busy(_) => {}
            }
            // CANCEL SAFETY: both only wait.
            tokio::select! {
                () = self.closed.cancelled() => return Err(closed(operation)),
                () = backoff.wait() => {}
            }
        }
    }

    /// The present connection, or the next.
    async fn session(self: &Arc<Self>, operation: &'static str) -> Result<Session> {
        self.check_open(operation)?;
        if let Some(session) = self.status.borrow().live() {
            return Ok(session);
        }
        let mut status = self.status.subscribe();
        let seen = status.borrow().refusals;
        self.keep_running();
        // CANCEL SAFETY: both only wait.
        let status = tokio::select! {
            () = self.closed.cancelled() => return Err(closed(operation)),
            status = status.wait_for(|status| status.refusals > seen || status.live().is_some()) => status,
        };
        let Ok(status) = status else { return Err(closed(operation)) };
        match (&status.session, &status.refusal) {
            (Some(session), _) => Ok(session.clone()),
            (None, Some(refusal)) => Err(again(refusal, operation)),
            (None, None) => Err(closed(operation)),
        }
    }

    /// What is published goes to the ears of its channel, or of the pattern that its channel matches.
    fn heard(&self, kind: Kind, name: &[u8], channel: &[u8], payload: Vec<u8>) {
        let mut ears: Vec<Arc<dyn Ear>> = match self.lock().topics(kind).entries.get(name) {
            Some(entry) => entry.ears.iter().map(|(_, ear)| Arc::clone(ear)).collect(),
            None => return,
        };
        // Almost always there is one, which needs no copy.
        let last = ears.pop();
        for ear in ears {
            ear.heard(channel, payload.clone());
        }
        if let Some(ear) = last {
            ear.heard(channel, payload);
        }
    }

    fn ring(&self, key: &[u8]) {
        let bells = self.lock().bells.remove(key);
        bells.iter().flatten().filter_map(Weak::upgrade).for_each(|bell| bell.notify_one());
    }

    fn ring_all(&self) {
        let bells = std::mem::take(&mut self.lock().bells);
        bells.values().flatten().filter_map(Weak::upgrade).for_each(|bell| bell.notify_one());
    }

    /// Whether anybody still waits for a change of `key`.
    fn awaited(&self, key: &[u8]) -> bool {
        let mut state = self.lock();
        let awaited = state.bells.get_mut(key).is_some_and(|bells| {
            bells.retain(|bell| bell.strong_count() > 0);
            !bells.is_empty()
        });
        if !awaited {
            state.bells.remove(key);
        }
        awaited
    }
}

#[cfg(all(test, unix))]
mod tests;
