//! Some calls, published together.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use celeriac_broker::Destination;
use celeriac_core::{Clock, Error, SystemClock};
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use tokio::time::timeout;

use super::letter::Letter;
use super::{Call, Lane, Shared};
use crate::backoff::Backoff;
use crate::error::{Fault, again, fault};
use crate::link::{Live, lost as connection_lost};

/// The most messages that are under way on a channel, not confirmed.
const WINDOW: usize = 4_096;
/// And the most bytes of their bodies, beyond which one more message goes only alone: the driver keeps a copy until it is sent.
const WINDOW_BYTES: usize = 16 << 20;
/// How often a message that found no queue, though there is one, is published once more.
const RETURNS: u8 = 3;
/// How often those who wait for a server are looked for.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Round {
    calls: Vec<Call>,
    /// One message at a time: the server closed the channel for one, and did not say which.
    alone: bool,
    /// Something that was there is not there any more; it was looked for since.
    looked: bool,
}

/// Where a message stands: which call's, and which of it.
type Place = (usize, usize);

/// A message that was sent, to wait for so many seconds.
#[derive(Debug, Clone, Copy)]
struct Sent {
    place: Place,
    seconds: u32,
}

/// What became of what was sent.
#[derive(Default)]
struct Said {
    done: Vec<Sent>,
    nacked: Vec<Place>,
    failed: Vec<(Place, Error)>,
    returned: Vec<BasicReturnMessage>,
    /// What ended it, and which messages it may be about: all that were under way.
    ended: Option<(Fault, Vec<Place>)>,
}

impl Round {
    pub(super) fn new(calls: Vec<Call>) -> Self {
        Self { calls, alone: false, looked: false }
    }

    /// Publishes until every call has its outcome, or nobody waits for one.
    pub(super) async fn run(mut self, lane: &mut Lane) {
        let mut backoff = Backoff::default();
        while self.is_wanted() {
            let shared = std::sync::Arc::clone(&lane.shared);
            let Some(live) = self.ready(&shared).await else { continue };
            let operation = self.operation();
            let channel = match self.wanted(shared.channel(operation, &live)).await {
                None => return,
                Some(Ok(channel)) => channel,
                Some(Err(Fault::Broken(_))) => {
                    backoff.wait().await;
                    continue;
                }
                Some(Err(fault)) => return self.fail_all(&fault.into_error()),
            };
            let said = {
                let mut sending = pin!(self.send(&shared, &live, &channel));
                match timeout(LOOK, &mut sending).await {
                    Ok(said) => said,
                    Err(_) => {
                        lane.step_aside();
                        sending.await
                    }
                }
            };
            let lost = matches!(said.ended, Some((Fault::Broken(_), _)));
            if said.ended.is_none() {
                shared.give_back(live.number, channel);
            }
            self.take_in(&shared, said);
            if lost {
                backoff.wait().await;
            }
        }
    }

    fn operation(&self) -> &'static str {
        self.calls.first().map_or("publish", |call| call.operation)
    }

    /// Drops the calls that have ended, and those nobody waits for, and tells whether there are others.
    fn is_wanted(&mut self) -> bool {
        self.calls.retain(|call| !call.outcome.is_closed());
        !self.calls.is_empty()
    }

    /// Waits for as long as somebody waits for this.
    async fn wanted<T>(&self, doing: impl Future<Output = T>) -> Option<T> {
        let mut doing = pin!(doing);
        loop {
            if let Ok(done) = timeout(LOOK, &mut doing).await {
                return Some(done);
            }
            if self.calls.iter().all(|call| call.outcome.is_closed()) {
                return None;
            }
        }
    }

    /// A connection that takes messages, with all there that they are for. `None` if that is to be tried again.
    async fn ready(&mut self, shared: &Shared) -> Option<Live> {
        let operation = self.operation();
        let live = match self.wanted(shared.link.live(operation)).await? {
            Ok(live) => live,
            Err(error) => {
                self.fail_all(&error);
                return None;
            }
        };
        if live.blocked().is_some() {
            self.wanted(live.until_unblocked()).await?;
            return None;
        }
        let now = SystemClock.now();
        let mut errors: Vec<(usize, Error)> = Vec::new();
        for call in &mut self.calls {
            call.letters.iter_mut().filter(|letter| !letter.done).for_each(|letter| letter.set_out(now));
        }
        // The last one, and which were led out of the delay: what comes to the same place needs no other look.
        let (mut last, mut led) = (None, HashSet::new());
        'calls: for (index, call) in self.calls.iter().enumerate() {
            for letter in call.letters.iter().filter(|letter| !letter.done && !letter.is_reply()) {
                let (to, topology) = (&letter.destination, &shared.topology);
                let next = (to, letter.is_delayed(), letter.returned > 0);
                if last == Some(next) {
                    continue;
                }
                let ensured = match next {
                    (_, true, _) => self.wanted(topology.ensure_delayed(call.operation, to, &mut led)).await?,
                    (_, _, true) => self.wanted(topology.remake(call.operation, to)).await?,
                    _ => self.wanted(topology.ensure(call.operation, to)).await?,
                };
                match ensured {
                    Ok(()) => last = Some(next),
                    Err(error) => {
                        errors.push((index, error));
                        continue 'calls;
                    }
                }
            }
        }
        for (index, error) in errors.into_iter().rev() {
            self.fail(index, error);
        }
        (!self.calls.is_empty()).then_some(live)
    }

    /// Sends what is not confirmed, in order, and waits until the server has said something to all of it, or the channel has ended.
    async fn send(&self, shared: &Shared, live: &Live, channel: &Channel) -> Said {
        let window = if self.alone { 1 } else { WINDOW };
        let longest_frame = match live.connection.configuration().frame_max() {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        let mut said = Said::default();
        let mut flight: VecDeque<(Sent, usize, Pin<Box<_>>)> = VecDeque::new();
        let mut flying = 0;
        let mut lost = pin!(live.lost.cancelled());
        'calls: for (call_at, call) in self.calls.iter().enumerate() {
            for (at, letter) in call.letters.iter().enumerate().filter(|(_, letter)| !letter.done) {
                let place = (call_at, at);
                let length = letter.length();
                while (flight.len() >= window || flying + length > WINDOW_BYTES)
                    && let Some((sent, length, sending)) = flight.pop_front()
                {
                    said.hear(sent, answer(call.operation, sending, &mut lost).await);
                    flying -= length;
                }
                if said.ended.is_some() || live.blocked().is_some() {
                    break 'calls;
                }
                if call.outcome.is_closed() {
                    continue 'calls;
                }
                let sent = Sent { place, seconds: letter.seconds() };
                let sealed = letter.sealed(call.operation, sent.seconds, &shared.topology);
                let sealed = match sealed.and_then(|sealed| sealed.checked(call.operation, longest_frame)) {
                    Ok(sealed) => sealed,
                    Err(error) => {
                        said.failed.push((place, error));
                        continue 'calls;
                    }
                };
                let mut sending = Box::pin(async move {
                    let options = BasicPublishOptions { mandatory: sealed.mandatory, ..BasicPublishOptions::default() };
                    let (exchange, key) = (sealed.exchange, sealed.routing_key);
                    let sent = channel.basic_publish(exchange, key, options, sealed.body, sealed.properties);
                    sent.await?.await
                });
                // Hands it to the driver, in its turn. Nobody is to be woken for each message that was written.
                match sending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(heard) => said.hear(sent, heard.map_err(|error| fault(call.operation, &error))),
                    Poll::Pending => {
                        flying += length;
                        flight.push_back((sent, length, sending));
                    }
                }
            }
        }
        let operation = self.operation();
        for (sent, _, sending) in flight {
            said.hear(sent, answer(operation, sending, &mut lost).await);
        }
        said
    }

    /// Notes what the server said, and tells the calls that are at their end.
    fn take_in(&mut self, shared: &Shared, said: Said) {
        let Said { done, nacked, mut failed, returned, ended } = said;
        for Sent { place, .. } in &done {
            if let Some((_, letter)) = self.letter(*place) {
                letter.done = true;
            }
        }
        for place in nacked {
            failed.extend(self.letter(place).map(|(operation, letter)| (place, letter.refused(operation))));
        }
        for place in self.places_of(shared, &done, &returned) {
            failed.extend(self.came_back(shared, place).map(|error| (place, error)));
        }
        if let Some((fault, places)) = ended {
            failed.append(&mut self.ended(shared, fault, &places));
        }
        // The first error of each call; and from the last call to the first, so that none changes its place before its turn.
        failed.sort_by_key(|(place, _)| *place);
        failed.dedup_by_key(|((call, _), _)| *call);
        for ((call, _), error) in failed.into_iter().rev() {
            self.fail(call, error);
        }
        let is_ready = |call: &Call| call.letters.iter().all(|letter| letter.done);
        let (ready, open): (Vec<Call>, Vec<Call>) = std::mem::take(&mut self.calls).into_iter().partition(is_ready);
        self.calls = open;
        for call in ready {
            // Nobody may be waiting any more.
            let _ = call.outcome.send(Ok(()));
        }
    }

    /// The messages that were returned, among those that the server has confirmed: it confirms them too, and the driver does not tell which.
    fn places_of(&self, shared: &Shared, done: &[Sent], returned: &[BasicReturnMessage]) -> Vec<Place> {
        if returned.is_empty() {
            return Vec::new();
        }
        let letters = done.iter().filter_map(|Sent { place, seconds }| {
            let call = self.calls.get(place.0)?;
            let sealed = call.letters.get(place.1)?.sealed(call.operation, *seconds, &shared.topology).ok()?;
            Some((*place, sealed))
        });
        let mut letters: Vec<_> = letters.collect();
        let places = returned.iter().filter_map(|message| {
            let same = letters.iter().position(|(_, sealed)| sealed.is(message));
            // Should it have changed on its way: any to the same place.
            let alike = || letters.iter().position(|(_, sealed)| sealed.goes_where(message));
            same.or_else(alike).map(|at| letters.swap_remove(at).0)
        });
        places.collect()
    }

    /// There was no queue for a message. If there should be one, it is looked for, and the message published once more; else this is the error.
    fn came_back(&mut self, shared: &Shared, place: Place) -> Option<Error> {
        let (operation, letter) = self.letter(place)?;
        letter.done = false;
        letter.returned += 1;
        let returns = if letter.is_delayed() {
            shared.topology.forget_delay();
            RETURNS
        } else if letter.destination.exchange.is_empty() {
            RETURNS
        } else if shared.topology.is_declared(&letter.destination) {
            // Its queue is made again, once: what headers it needs is not known here.
            2
        } else {
            1
        };
        (letter.returned >= returns).then(|| letter.unroutable(operation))
    }

    /// The channel was closed, or the connection lost. Gives back the errors of those who are to blame; what else was under way is published
    /// again.
    fn ended(&mut self, shared: &Shared, fault: Fault, places: &[Place]) -> Vec<(Place, Error)> {
        let (code, error) = match fault {
            Fault::Broken(error) => {
                tracing::debug!(error = %error.report(), messages = places.len(), "lost before they were confirmed; publishing again");
                return Vec::new();
            }
            Fault::Refused(error) => (0, error),
            Fault::Closed { code, error, .. } => (code, error),
        };
        if code == 404 && !std::mem::replace(&mut self.looked, true) {
            for place in places {
                let Some((_, letter)) = self.letter(*place) else { continue };
                if letter.is_delayed() {
                    shared.topology.forget_delay();
                }
                shared.topology.forget_exchange(&letter.destination.exchange);
            }
            return Vec::new();
        }
        let [place] = places else {
            self.alone = true;
            return Vec::new();
        };
        let Some((operation, letter)) = self.letter(*place) else { return Vec::new() };
        let Destination { exchange, routing_key } = &letter.destination;
        let why = format!("a message for exchange `{exchange}` and routing key `{routing_key}`: {}", error.message());
        vec![(*place, Error::new(error.kind(), operation, why).with_source(error.report()))]
    }

    fn letter(&mut self, (call, at): Place) -> Option<(&'static str, &mut Letter)> {
        let call = self.calls.get_mut(call)?;
        Some((call.operation, call.letters.get_mut(at)?))
    }

    fn fail(&mut self, call: usize, error: Error) {
        if call < self.calls.len() {
            // Nobody may be waiting any more.
            let _ = self.calls.remove(call).outcome.send(Err(error));
        }
    }

    fn fail_all(&mut self, error: &Error) {
        for call in self.calls.drain(..) {
            // Nobody may be waiting any more.
            let _ = call.outcome.send(Err(again(error, call.operation)));
        }
    }
}

/// What the server says to a message; or that the connection is lost, for the driver may leave it open then.
async fn answer(
    operation: &'static str,
    mut sending: Pin<Box<impl Future<Output = lapin::Result<Confirmation>>>>,
    lost: &mut (impl Future<Output = ()> + Unpin),
) -> Result<Confirmation, Fault> {
    // CANCEL SAFETY: both are polled by reference.
    let heard = tokio::select! {
        biased;
        heard = &mut sending => heard,
        () = lost => return Err(connection_lost(operation)),
    };
    heard.map_err(|error| fault(operation, &error))
}

impl Said {
    fn hear(&mut self, sent: Sent, heard: Result<Confirmation, Fault>) {
        let error = match heard {
            Ok(Confirmation::Nack(returned)) => {
                self.nacked.push(sent.place);
                return self.returned.extend(returned);
            }
            Ok(confirmed) => {
                self.done.push(sent);
                return self.returned.extend(confirmed.take_message());
            }
            Err(fault) => fault,
        };
        match &mut self.ended {
            None => self.ended = Some((error, vec![sent.place])),
            Some((ended, places)) => {
                places.push(sent.place);
                // Those behind the one that the server closed the channel for learn only that it is closed.
                if matches!((&*ended, &error), (Fault::Broken(_), Fault::Closed { .. })) {
                    *ended = error;
                }
            }
        }
    }
}
