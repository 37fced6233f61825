//! The task that receives for a consumer: subscribes, reads, and begins again whenever its channel is lost.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use celeriac_core::{Error, ErrorKind, QueueName, Result, Timestamp};
use futures_util::future::{BoxFuture, join, join_all};
use futures_util::stream::{self, BoxStream, FuturesUnordered, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicGetOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::line::Line;
use super::reading::Taken;
use super::session::{Fetch, Session, Wish};
use super::window::By;
use super::{Shared, Stage};
use crate::backoff::Backoff;
use crate::config::QueueType;
use crate::error::{Fault, fault};
use crate::held::LAST_TAG;
use crate::link::{Live, lost};
use crate::store::Inner;

const RECEIVE: &str = "receive";

/// The most deliveries that are read before others have their turn.
const AT_ONCE: usize = 512;
/// A message that comes so much too early is parked again; one that is nearer is held.
const NEAR: Duration = Duration::from_secs(2);

pub(crate) struct Pump {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    name: String,
    stage: watch::Sender<Stage>,
    /// Queues that were found missing.
    missing: BTreeSet<QueueName>,
}

/// What a subscription brings.
#[allow(clippy::large_enum_variant, reason = "nearly all of them are deliveries")]
enum Event {
    Delivery(usize, u64, Delivery),
    Lost(lapin::Error),
    Ended(usize, u64),
}

/// How it goes on.
enum Next {
    /// The consumer, or the store, is gone.
    Stop,
    Again(Fault),
}

impl From<Fault> for Next {
    fn from(fault: Fault) -> Self {
        Self::Again(fault)
    }
}

impl Pump {
    pub(crate) fn new(inner: &Arc<Inner>, shared: Arc<Shared>, name: String, stage: watch::Sender<Stage>) -> Self {
        Self { inner: Arc::clone(inner), shared, name, stage, missing: BTreeSet::new() }
    }

    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let begun = Instant::now();
            let Err(next) = self.attempt().await else { return };
            self.shared.desk().session = None;
            let Next::Again(fault) = next else { return };
            let error = match fault {
                Fault::Broken(error) => error,
                Fault::Closed { code, text, error } => match self.closed(code, &text, error) {
                    Ok(error) => error,
                    Err(error) => return self.fail(error),
                },
                Fault::Refused(error) => return self.fail(error),
            };
            tracing::debug!(error = %error.report(), queues = ?self.shared.queues, "a channel is lost; consuming again");
            backoff.lasted(begun.elapsed());
            // CANCEL SAFETY: all only wait.
            tokio::select! {
                () = backoff.wait() => {}
                () = self.shared.stop.cancelled() => return,
                () = self.inner.closing.cancelled() => return,
            }
        }
    }

    /// No more will come: says why.
    fn fail(&self, error: Error) {
        self.shared.desk().failed = Some(Arc::new(error));
        self.shared.news.notify_one();
    }

    /// Whether to go on after the server closed the channel.
    ///
    /// # Errors
    /// If it would do so again.
    fn closed(&mut self, code: u16, text: &str, error: Error) -> Result<Error> {
        let names = |queue: &&QueueName| text.contains(&format!("'{queue}'"));
        let named: Vec<QueueName> = self.shared.queues.iter().filter(names).cloned().collect();
        let of = named.first().map_or_else(String::new, |queue| format!(" queue `{queue}`"));
        match code {
            404 => {
                self.missing.extend(if named.is_empty() { self.shared.queues.clone() } else { named });
                Ok(error)
            }
            403 => Err(Error::config(RECEIVE, format!("RabbitMQ does not let this user read{of}")).with_source(error)),
            405 => {
                let why = format!("another connection has{of} for itself alone");
                Err(Error::new(ErrorKind::Config, RECEIVE, why).with_source(error))
            }
            _ => Ok(error),
        }
    }

    /// Consumes on one channel, for as long as there is one.
    async fn attempt(&mut self) -> Result<(), Next> {
        let (stop, closing) = (self.shared.stop.clone(), self.inner.closing.clone());
        // CANCEL SAFETY: nobody else is disturbed.
        let live = tokio::select! {
            () = stop.cancelled() => return Err(Next::Stop),
            () = closing.cancelled() => return Err(Next::Stop),
            live = self.prepared() => live?,
        };
        let channel = live.channel(RECEIVE).await?;
        let lines = {
            let kept = self.inner.kept();
            self.shared.queues.iter().map(|queue| Line::new(queue.clone(), kept.contains(queue))).collect()
        };
        let session = Arc::new(Session::new(self.inner.held.number(), channel, &self.name, lines));
        self.inner.held.insert(&session);
        if closing.is_cancelled() {
            // Whoever closes what there is may not have seen it.
            self.inner.held.remove(&session);
            return Err(Next::Stop);
        }
        let mut reader = Reader { pump: self, session: &session, streams: SelectAll::new() };
        // CANCEL SAFETY: what the reader knows is of no use without its channel.
        let outcome = tokio::select! {
            biased;
            () = closing.cancelled() => Err(Next::Stop),
            // The driver may leave open what it was asked then.
            () = live.lost.cancelled() => Err(lost(RECEIVE).into()),
            outcome = reader.run() => outcome,
        };
        match &outcome {
            Err(Next::Again(_)) => self.inner.held.remove(&session),
            // What was handed out is settled on it still.
            _ => self.inner.held.let_go(&session),
        }
        outcome
    }

    /// A connection, and queues to consume.
    async fn prepared(&mut self) -> Result<Live, Fault> {
        let live = self.inner.receiving.live(RECEIVE).await.map_err(Fault::Refused)?;
        while let Some(queue) = self.missing.first().cloned() {
            restore(&self.inner, &queue).await.map_err(|error| match error.is_retryable() {
                true => Fault::Broken(error),
                false => Fault::Refused(error),
            })?;
            self.missing.remove(&queue);
        }
        Ok(live)
    }
}

impl Drop for Pump {
    /// Also when it panics, or the runtime goes down: whoever waits is told, and what nobody has taken goes back.
    fn drop(&mut self) {
        if self.shared.stop.is_cancelled() || self.inner.closing.is_cancelled() {
            return;
        }
        let session = {
            let mut desk = self.shared.desk();
            let why = || Arc::new(Error::unavailable(RECEIVE, "what received for this consumer has ended"));
            desk.failed.get_or_insert_with(why);
            desk.session.take()
        };
        if let Some(session) = session {
            session.retire();
            self.inner.held.let_go(&session);
        }
        self.shared.news.notify_one();
    }
}

/// Makes a queue again that is gone.
async fn restore(inner: &Inner, queue: &QueueName) -> Result<()> {
    inner.topology.forget_queue(queue);
    inner.topology.ensure_queue(RECEIVE, queue).await
}

/// Reads on one channel.
struct Reader<'a> {
    pump: &'a Pump,
    session: &'a Arc<Session>,
    streams: SelectAll<BoxStream<'static, Event>>,
}

impl Reader<'_> {
    async fn run(&mut self) -> Result<(), Next> {
        let shared = &self.pump.shared;
        // What must be subscribed to for as long as there is a consumer is, when that is said to have started.
        self.subscribe().await?;
        shared.desk().session = Some(Arc::clone(self.session));
        self.pump.stage.send_replace(Stage::Consuming);
        let mut timer = Timer::default();
        let mut restoring: FuturesUnordered<BoxFuture<'static, (usize, Result<()>)>> = FuturesUnordered::new();
        loop {
            self.fetch().await?;
            self.subscribe().await?;
            // Of whatever came, by whichever way.
            self.promote(&mut timer);
            timer.set_before(self.session.hoarded_at());
            timer.set_before(self.session.acks_due());
            // CANCEL SAFETY: streams keep what is not taken out; the others only wait, or are kept.
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => return self.retire().await,
                events = next(&mut self.streams) => {
                    for line in self.read(events)? {
                        restoring.extend(self.restored(line));
                    }
                }
                () = self.session.demand.notified() => {}
                () = timer.wait() => self.look_around(),
                Some((line, outcome)) = restoring.next() => match outcome {
                    Ok(()) => self.session.restored(line),
                    Err(error) => return Err(Fault::Refused(error).into()),
                },
            }
        }
    }

    /// What to do for the queue of a line that is gone.
    fn restored(&self, line: usize) -> Option<BoxFuture<'static, (usize, Result<()>)>> {
        let inner = Arc::clone(&self.pump.inner);
        let queue = self.pump.shared.queues.get(line)?.clone();
        tracing::warn!(%queue, "the queue is gone; it is made again");
        Some(
            async move {
                // Not at once: who deleted it may do so again.
                tokio::time::sleep(Duration::from_millis(50)).await;
                let (mut backoff, mut told) = (Backoff::default(), false);
                loop {
                    match restore(&inner, &queue).await {
                        Err(error) if error.is_retryable() => {
                            if !std::mem::replace(&mut told, true) {
                                tracing::warn!(%queue, error = %error.report(), "it cannot be made yet; trying on");
                            }
                        }
                        outcome => return (line, outcome),
                    }
                    backoff.wait().await;
                }
            }
            .boxed(),
        )
    }

    /// Subscribes as is asked for.
    async fn subscribe(&mut self) -> Result<(), Fault> {
        let (shared, channel) = (&self.pump.shared, &self.session.channel);
        let wishes = {
            // Whoever takes what waits asks for less by so much: both at once, or neither.
            let desk = shared.desk();
            self.session.wishes(desk.asked, shared.most)
        };
        // The driver sends what is begun, in that order, and the server answers in it: a prefetch goes before its subscription.
        let subscribe = |wish: Wish| async move {
            let qos = channel.basic_qos(wish.prefetch, BasicQosOptions { global: false });
            let queue = shared.queues.get(wish.line).map_or("", |queue| queue.as_str());
            let consume = channel.basic_consume(
                queue.into(),
                wish.tag.clone(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            let (qos, consumer) = join(qos, consume).await;
            Ok((wish, qos.and(consumer)?))
        };
        for outcome in join_all(wishes.into_iter().map(subscribe)).await {
            let (Wish { line, number, .. }, consumer) = match outcome {
                Ok((wish, consumer)) => {
                    self.session.subscribed(&wish);
                    (wish, consumer)
                }
                Err(error) => return Err(fault(RECEIVE, &error)),
            };
            let deliveries = consumer.map(move |delivery| match delivery {
                Ok(delivery) => Event::Delivery(line, number, delivery),
                Err(error) => Event::Lost(error),
            });
            self.streams.push(deliveries.chain(stream::iter([Event::Ended(line, number)])).boxed());
        }
        Ok(())
    }

    /// Fetches what is asked for one by one, if that is how it is done now.
    async fn fetch(&mut self) -> Result<(), Fault> {
        let (mut missing, mut queues) = {
            let desk = self.pump.shared.desk();
            self.session.fetches(desk.asked, self.pump.shared.most)
        };
        while missing > 0 && !queues.is_empty() {
            let mut left = Vec::new();
            for Fetch { line, queue, room } in queues {
                if missing == 0 {
                    break;
                }
                let got =
                    self.session.channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: false }).await;
                if let Some(message) = got.map_err(|error| fault(RECEIVE, &error))? {
                    missing -= 1;
                    self.put([(line, None, message.delivery)]);
                    if room > 1 {
                        left.push(Fetch { line, queue, room: room - 1 });
                    }
                }
            }
            queues = left;
        }
        Ok(())
    }

    /// Reads what has come. The lines whose queues are gone.
    fn read(&self, events: Vec<Event>) -> Result<Vec<usize>, Fault> {
        let (mut deliveries, mut gone) = (Vec::with_capacity(events.len()), Vec::new());
        let mut failed = None;
        for event in events {
            match event {
                Event::Delivery(line, number, delivery) => deliveries.push((line, Some(number), delivery)),
                Event::Lost(error) => failed = Some(error),
                Event::Ended(line, number) => {
                    if self.session.ended(line, number) {
                        gone.push(line);
                    }
                }
            }
        }
        if let Some(error) = failed {
            return Err(fault(RECEIVE, &error));
        }
        if deliveries.iter().any(|(_, _, delivery)| delivery.delivery_tag > LAST_TAG) {
            return Err(Fault::Broken(Error::unavailable(RECEIVE, "the channel has run out of tags")));
        }
        self.put(deliveries);
        Ok(gone)
    }

    fn put(&self, deliveries: impl IntoIterator<Item = (usize, By, Delivery)>) {
        let counts = self.pump.inner.config.queue_type == QueueType::Quorum;
        let now = Timestamp::now();
        let mut park = Vec::new();
        let read = deliveries.into_iter().map(|(line, by, delivery)| {
            let tag = delivery.delivery_tag;
            let mut taken = Taken::read(delivery, counts);
            match taken.due {
                Some(due) if due <= now => taken.due = None,
                Some(due) if due.since(now) > NEAR => park.push(tag),
                _ => {}
            }
            (line, by, tag, taken)
        });
        // All of them before the session is locked, for which those who take and settle would wait.
        let read: Vec<_> = read.collect();
        let waits = self.session.put(read);
        if waits {
            self.pump.shared.news.notify_one();
        }
        if !park.is_empty() {
            self.park(&park);
        }
    }

    /// Parks messages that came much too early. What cannot be parked is held.
    fn park(&self, early: &[u64]) {
        let (inner, session) = (Arc::clone(&self.pump.inner), Arc::clone(self.session));
        let early = session.park(early);
        tokio::spawn(async move {
            let park = |(tag, taken, queue): (u64, Taken, QueueName)| {
                let (inner, session) = (&inner, &session);
                async move {
                    let due = taken.due.unwrap_or_else(Timestamp::now);
                    let published = inner.publisher.publish(RECEIVE, vec![taken.parked(&queue, due)]).await;
                    session.parked(tag, published.is_ok());
                    published
                }
            };
            if let Some(error) = join_all(early.into_iter().map(park)).await.into_iter().find_map(Result::err) {
                tracing::warn!(error = %error.report(), "messages that came early are held until they are due");
            }
            inner.held.let_go(&session);
        });
    }

    fn promote(&self, timer: &mut Timer) {
        let now = Timestamp::now();
        let (next, any) = self.session.promote(now);
        if any {
            self.pump.shared.news.notify_one();
        }
        timer.set_before(next.map(|due| Instant::now() + due.since(now)));
    }

    /// What time has brought about.
    fn look_around(&self) {
        self.session.acknowledge();
        let mut desk = self.pump.shared.desk();
        if self.session.hand_back() {
            // Until somebody asks again.
            desk.asked = 0;
        }
    }

    /// Lets nothing come any more, and hands back what has.
    async fn retire(&mut self) -> Result<(), Next> {
        self.session.retire();
        while !self.streams.is_empty() {
            let events = next(&mut self.streams).await;
            self.read(events)?;
        }
        // When the consumer is said to be cancelled, others get what it had.
        self.session.flush().await.map_err(|error| fault(RECEIVE, &error).into())
    }
}

/// Waits for what comes, and takes what there is.
pub(super) async fn next<T>(streams: &mut SelectAll<BoxStream<'static, T>>) -> Vec<T> {
    let mut events = Vec::new();
    poll_fn(|cx| {
        while events.len() < AT_ONCE {
            match streams.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => events.push(event),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if events.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    events
}

/// Waits until the earliest of the instants that it was set to.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn set_before(&mut self, instant: Option<Instant>) {
        if let Some(instant) = instant {
            match &mut self.0 {
                Some(sleep) if sleep.deadline() > instant => sleep.as_mut().reset(instant),
                Some(_) => {}
                None => self.0 = Some(Box::pin(sleep_until(instant))),
            }
        }
    }

    async fn wait(&mut self) {
        match &mut self.0 {
            Some(sleep) => sleep.await,
            None => std::future::pending().await,
        }
        self.0 = None;
    }
}
