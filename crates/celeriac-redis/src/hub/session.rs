//! The task that keeps the hub's connection.

use std::sync::Arc;
use std::time::Duration;

use celeriac_core::Error;
use deadpool_redis::redis::aio::PubSubStream;
use deadpool_redis::redis::{FromRedisValue, Msg, Value};
use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

use super::speaker::{Connected, Speaker};
use super::{Ear, Kind, MOST_HOMES, Order, Shared, State, Topics};
use crate::backoff::Backoff;
use crate::error::{Fault, again};

/// How often what nobody hears any more is told to the server, if nothing else is.
const SWEEP: Duration = Duration::from_secs(1);

/// The most sweeps between two questions whether the server is still there.
const MOST_SWEEPS: u64 = 10;

/// So many names go into one command.
const MOST_NAMES: usize = 1000;

/// Why a round with the server did not come to its end.
enum Halt {
    Lost,
    Busy,
}

/// A round of subscribing: what the server is told, and who waits for it.
#[derive(Default)]
struct Round {
    kinds: Vec<(Kind, Plan)>,
    orders: Vec<Order>,
}

#[derive(Default)]
struct Plan {
    subscribe: Vec<Vec<u8>>,
    unsubscribe: Vec<Vec<u8>>,
}

/// A name that the server does not let this user hear.
struct Refusal {
    kind: Kind,
    name: Vec<u8>,
    error: Error,
}

impl Shared {
    /// Sees to it that there is a task, and remembers the caller's runtime as one that can have it.
    ///
    /// Called when it is to be seen already that the task is needed, so that it does not end for want of work.
    pub(super) fn keep_running(self: &Arc<Self>) {
        let here = Handle::current();
        {
            let mut state = self.lock();
            if state.homes.iter().all(|home| home.id() != here.id()) {
                if state.homes.len() == MOST_HOMES {
                    state.homes.remove(0);
                }
                state.homes.push(here.clone());
            }
            if state.running || self.closed.is_cancelled() {
                return;
            }
            state.running = true;
        }
        // A runtime that is going down drops it at once, and that takes the lock.
        here.spawn(Keeper { shared: Arc::clone(self), idle: false }.run());
    }

    /// Nothing is known to the server any more.
    fn lost(&self) {
        self.status.send_modify(|status| status.session = None);
        {
            let mut state = self.lock();
            state.deaf = state.last;
            for kind in [Kind::Channel, Kind::Pattern] {
                let Topics { entries, changed } = state.topics(kind);
                entries.values_mut().for_each(|entry| entry.known = false);
                changed.clear();
                changed.extend(entries.keys().cloned());
            }
        }
        // Whoever has looked looks again, and that waits for the next connection.
        self.ring_all();
    }

    /// Tells all who wait that it is no use, for now.
    fn refuse(&self, error: Error) {
        let orders = std::mem::take(&mut self.lock().orders);
        for order in orders {
            let _ = order.done.send(Err(again(&error, error.operation())));
        }
        self.status.send_modify(|status| {
            status.refusals += 1;
            status.refusal = Some(Arc::new(error));
        });
    }

    /// Whether nobody hears and nobody waits.
    fn is_idle(&self, state: &State) -> bool {
        let mut entries = state.channels.entries.values().chain(state.patterns.entries.values());
        state.orders.is_empty() && self.status.receiver_count() == 0 && entries.all(|entry| entry.ears.is_empty())
    }

    fn prepare(&self) -> Round {
        let mut state = self.lock();
        let mut round = Round { kinds: Vec::new(), orders: std::mem::take(&mut state.orders) };
        for kind in [Kind::Channel, Kind::Pattern] {
            let Topics { entries, changed } = state.topics(kind);
            changed.sort_unstable();
            changed.dedup();
            let mut plan = Plan::default();
            for name in changed.drain(..) {
                match entries.get(&name) {
                    Some(entry) if entry.ears.is_empty() => {
                        let known = entry.known;
                        entries.remove(&name);
                        if known {
                            plan.unsubscribe.push(name);
                        }
                    }
                    Some(entry) if !entry.known => plan.subscribe.push(name),
                    _ => {}
                }
            }
            if !plan.subscribe.is_empty() || !plan.unsubscribe.is_empty() {
                round.kinds.push((kind, plan));
            }
        }
        round
    }

    /// Tells the server what has changed, and those who wait for it that it is so.
    async fn tell(&self, speaker: &Speaker) -> Result<(), Halt> {
        let Round { kinds, orders } = self.prepare();
        let told = self.tell_all(speaker, &kinds).await;
        let refusals = match told {
            Ok(refusals) => refusals,
            Err(halt) => {
                let mut state = self.lock();
                for (kind, plan) in kinds {
                    state.topics(kind).changed.extend(plan.subscribe);
                }
                state.orders.extend(orders);
                return Err(halt);
            }
        };
        for Order { kind, names, done } in orders {
            let refused = refusals.iter().find(|refusal| refusal.kind == kind && names.contains(&refusal.name));
            // Who does not wait any more has given up the subscription as well.
            let _ = done.send(refused.map_or(Ok(()), |refusal| Err(again(&refusal.error, refusal.error.operation()))));
        }
        Ok(())
    }

    async fn tell_all(&self, speaker: &Speaker, kinds: &[(Kind, Plan)]) -> Result<Vec<Refusal>, Halt> {
        let mut refusals = Vec::new();
        for (kind, plan) in kinds {
            for names in plan.unsubscribe.chunks(MOST_NAMES) {
                // Whatever else is wrong shows itself again; what still comes has no ear.
                if let Err(Fault::Broken(_) | Fault::NotSent(_)) = speaker.clone().unsubscribe(*kind, names).await {
                    return Err(Halt::Lost);
                }
            }
            for names in plan.subscribe.chunks(MOST_NAMES) {
                refusals.extend(self.subscribe_all(speaker, *kind, names).await?);
            }
        }
        Ok(refusals)
    }

    /// Subscribes to `names`, save those that the server refuses.
    async fn subscribe_all(&self, speaker: &Speaker, kind: Kind, names: &[Vec<u8>]) -> Result<Vec<Refusal>, Halt> {
        let mut speaker = speaker.clone();
        let mut refused = Vec::new();
        match speaker.subscribe(kind, names).await {
            Ok(()) => self.confirm(kind, names),
            Err(Fault::Broken(_) | Fault::NotSent(_)) => return Err(Halt::Lost),
            Err(Fault::Busy(_)) => return Err(Halt::Busy),
            Err(Fault::Refused(error)) if names.len() == 1 => {
                tracing::debug!(error = %error.report(), "Redis refuses a subscription");
                refused.push(Refusal { kind, name: names[0].clone(), error });
            }
            // Access control refuses all for the sake of one.
            Err(Fault::Refused(_)) => {
                for name in names.chunks(1) {
                    refused.extend(Box::pin(self.subscribe_all(&speaker, kind, name)).await?);
                }
            }
        }
        Ok(refused)
    }

    fn confirm(&self, kind: Kind, names: &[Vec<u8>]) {
        let mut state = self.lock();
        let entries = &mut state.topics(kind).entries;
        for name in names {
            if let Some(entry) = entries.get_mut(name) {
                entry.known = true;
            }
        }
    }

    /// Tells the ears that were there when the last connection was lost.
    fn resume(&self) {
        let mut ears: Vec<(u64, Arc<dyn Ear>)> = {
            let mut state = self.lock();
            let deaf = std::mem::take(&mut state.deaf);
            let entries = state.channels.entries.values().chain(state.patterns.entries.values());
            let all = entries.flat_map(|entry| &entry.ears).filter(|(id, _)| *id <= deaf);
            all.map(|(id, ear)| (*id, Arc::clone(ear))).collect()
        };
        ears.sort_unstable_by_key(|(id, _)| *id);
        ears.dedup_by_key(|(id, _)| *id);
        ears.iter().for_each(|(_, ear)| ear.resumed());
    }

    /// Forgets bells that nobody can hear.
    fn prune(&self) {
        self.lock().bells.retain(|_, bells| {
            bells.retain(|bell| bell.strong_count() > 0);
            !bells.is_empty()
        });
    }

    /// What is published, in RESP2.
    fn message(&self, message: &Msg) {
        let bytes = |value| Vec::<u8>::from_redis_value(value).unwrap_or_default();
        let channel = message.get_channel::<Value>().map(bytes).unwrap_or_default();
        let payload = message.get_payload::<Value>().map(bytes).unwrap_or_default();
        match message.from_pattern() {
            true => {
                let pattern = message.get_pattern::<Value>().map(bytes).unwrap_or_default();
                self.heard(Kind::Pattern, &pattern, &channel, payload);
            }
            false => self.heard(Kind::Channel, &channel, &channel, payload),
        }
    }
}

struct Keeper {
    shared: Arc<Shared>,
    /// Nobody needs it, and it has said so.
    idle: bool,
}

impl Keeper {
    async fn run(mut self) {
        let shared = &self.shared;
        let mut backoff = Backoff::default();
        while !shared.closed.is_cancelled() {
            // CANCEL SAFETY: a connection half made is dropped whole.
            let connected = tokio::select! {
                () = shared.closed.cancelled() => return,
                connected = Connected::new(shared) => connected,
            };
            match connected {
                Ok(connected) => {
                    backoff = Backoff::default();
                    // CANCEL SAFETY: the hub is closed, and everything is given up.
                    tokio::select! {
                        () = shared.closed.cancelled() => return,
                        () = shared.serve(connected) => {}
                    }
                    tracing::debug!("the connection for publications was lost");
                    shared.lost();
                }
                Err(error) => {
                    tracing::debug!(error = %error.report(), "no connection for publications can be made");
                    if !error.is_retryable() {
                        shared.refuse(error);
                    }
                    let mut state = shared.lock();
                    if shared.is_idle(&state) {
                        state.running = false;
                        self.idle = true;
                        return;
                    }
                }
            }
            // CANCEL SAFETY: both only wait.
            tokio::select! {
                () = shared.closed.cancelled() => return,
                () = backoff.wait() => {}
            }
        }
    }
}

impl Drop for Keeper {
    /// When the runtime ends, another caller's goes on.
    fn drop(&mut self) {
        let shared = &self.shared;
        if self.idle {
            return;
        }
        if shared.closed.is_cancelled() {
            // It may have been made just when the hub was closed.
            shared.status.send_modify(|status| status.session = None);
            return;
        }
        shared.lost();
        let mut state = shared.lock();
        state.running = false;
        if let Ok(here) = Handle::try_current() {
            state.homes.retain(|home| home.id() != here.id());
        }
        if shared.is_idle(&state) {
            return;
        }
        // On one that has ended too, the task is dropped at once, and this comes to the next.
        if let Some(home) = state.homes.pop() {
            state.running = true;
            drop(state);
            home.spawn(Self { shared: Arc::clone(shared), idle: false }.run());
        }
    }
}

impl Shared {
    /// Until the connection is lost.
    async fn serve(&self, connected: Connected) {
        let Connected { speaker, lost, session, mut messages } = connected;
        let mut began = Some(session);
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Rarer than answers may be late.
        let sweeps_per_ping = (self.endpoint.config().response_timeout.as_secs() / 3).clamp(1, MOST_SWEEPS);
        let mut sweeps = 0;
        let mut backoff = Backoff::default();
        loop {
            // CANCEL SAFETY: a round that is dropped halfway leaves the connection lost, and all of it comes again.
            let told = tokio::select! {
                biased;
                () = lost.cancelled() => return,
                told = self.tell(&speaker) => told,
            };
            match told {
                Ok(()) => backoff = Backoff::default(),
                Err(Halt::Lost) => return,
                Err(Halt::Busy) => {
                    backoff.wait().await;
                    continue;
                }
            }
            if let Some(session) = began.take() {
                self.status.send_modify(|status| status.session = session);
                self.resume();
            }
            // CANCEL SAFETY: a message is taken whole or stays; the others only wait.
            loop {
                tokio::select! {
                    () = lost.cancelled() => return,
                    () = self.work.notified() => break,
                    message = next(&mut messages) => match message {
                        Some(message) => self.message(&message),
                        None => return,
                    },
                    _ = sweep.tick() => {
                        sweeps += 1;
                        if sweeps % sweeps_per_ping == 0 {
                            self.prune();
                            let mut speaker = speaker.clone();
                            if let Err(Fault::Broken(_) | Fault::NotSent(_)) = speaker.ping().await {
                                return;
                            }
                        }
                        break;
                    }
                }
            }
        }
    }
}

/// The next of the messages in RESP2; in RESP3 they take another way.
async fn next(messages: &mut Option<PubSubStream>) -> Option<Msg> {
    match messages {
        Some(messages) => messages.next().await,
        None => std::future::pending().await,
    }
}
