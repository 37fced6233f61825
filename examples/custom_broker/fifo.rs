//! `Fifo`: a broker in one file. First in, first out, in the memory of one process; no delays, no priorities, no fanout, no topics.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use celeriac::broker::{
    Broker, Capabilities, ConsumeOptions, Consumer, Delivery, DeliveryTag, Destination, ExchangeKind, Outgoing,
    QueueSpec, Receipt, Requeue, Settle, Settlement, Verb, async_trait,
};
use celeriac::core::{Clock, Error, ErrorKind, ExchangeName, QueueName, Result, SystemClock};
use tokio::sync::Notify;

/// A broker. What it holds goes when it goes.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    store: Arc<Store>,
}

#[derive(Debug, Default)]
struct Store {
    state: Mutex<State>,
    /// Tells all who wait that there are messages, or that the broker is closed.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    queues: HashMap<QueueName, Queue>,
    /// What declared queues are bound to, besides the default exchange.
    bindings: HashMap<Destination, BTreeSet<QueueName>>,
    /// What consumers have in their hands.
    held: HashMap<DeliveryTag, (QueueName, u64, Entry)>,
    /// The last number given to a message or to a delivery.
    last: u64,
}

#[derive(Debug)]
struct Queue {
    durable: bool,
    /// By the number of their publishing: whatever comes back takes its old place, which is before all that was never delivered.
    waiting: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    outgoing: Outgoing,
    redelivered: bool,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves no half-done change behind that could harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless the broker is closed.
    fn open(&self, operation: &'static str) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.closed { Err(Error::unavailable(operation, "the broker is closed")) } else { Ok(state) }
    }
}

impl State {
    fn queue(&mut self, name: &QueueName, durable: bool) -> &mut Queue {
        self.queues.entry(name.clone()).or_insert_with(|| Queue { durable, waiting: BTreeMap::new() })
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Where a message goes. Nothing is changed, so that a batch can be refused as a whole.
    fn route(&self, outgoing: &Outgoing) -> Result<Vec<QueueName>> {
        if outgoing.deliver_at.is_some_and(|due| due > SystemClock.now()) {
            return Err(Error::unsupported("publish", "this broker has no `delay`"));
        }
        let destination = &outgoing.destination;
        if destination.exchange == ExchangeName::DEFAULT {
            return Ok(vec![QueueName::new(destination.routing_key.to_string())?]);
        }
        let bound = self.bindings.get(destination).ok_or_else(|| {
            let Destination { exchange, routing_key } = destination;
            let message = format!("no queue is bound to exchange `{exchange}` by key `{routing_key}`");
            Error::new(ErrorKind::NotFound, "publish", message)
        })?;
        Ok(bound.iter().cloned().collect())
    }

    /// All of the batch, or none of it.
    fn publish(&mut self, batch: Vec<Outgoing>) -> Result<()> {
        let routes = batch.iter().map(|outgoing| self.route(outgoing)).collect::<Result<Vec<_>>>()?;
        for (outgoing, queues) in batch.into_iter().zip(routes) {
            for name in queues {
                let number = self.number();
                let entry = Entry { outgoing: outgoing.clone(), redelivered: false };
                self.queue(&name, true).waiting.insert(number, entry);
            }
        }
        Ok(())
    }

    /// Puts a message back to its old place; not if it is not held any more.
    fn hand_back(&mut self, tag: DeliveryTag) {
        if let Some((name, number, mut entry)) = self.held.remove(&tag) {
            entry.redelivered = true;
            self.queue(&name, true).waiting.insert(number, entry);
        }
    }
}

#[async_trait]
impl Broker for Fifo {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::none();
        capabilities.keeps_place = true;
        capabilities
    }

    async fn declare(&self, queue: &QueueSpec) -> Result<()> {
        let mut state = self.store.open("declare")?;
        if let Some((argument, _)) = queue.arguments.iter().next() {
            return Err(Error::config("declare", format!("argument `{argument}` is not known")));
        }
        let refused = [
            ("auto_delete", queue.auto_delete),
            ("expires", queue.expires.is_some()),
            ("message_ttl", queue.message_ttl.is_some()),
            ("max_priority", queue.max_priority.is_some()),
        ];
        let kinds = queue.bindings.iter().map(|binding| binding.exchange.kind);
        let refused = refused.into_iter().chain(kinds.map(|kind| (kind.as_str(), kind != ExchangeKind::Direct)));
        if let Some((what, _)) = refused.into_iter().find(|(_, wanted)| *wanted) {
            return Err(Error::unsupported("declare", format!("this broker cannot do `{what}`")));
        }
        if state.queue(&queue.name, queue.durable).durable != queue.durable {
            return Err(Error::config("declare", format!("queue `{}` exists with another `durable`", queue.name)));
        }
        for binding in &queue.bindings {
            let at = Destination { exchange: binding.exchange.name.clone(), routing_key: binding.key.clone() };
            state.bindings.entry(at).or_default().insert(queue.name.clone());
        }
        Ok(())
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
        self.store.open("publish")?.publish(batch)?;
        self.store.news.notify_waiters();
        Ok(())
    }

    async fn consume(&self, options: ConsumeOptions) -> Result<Box<dyn Consumer>> {
        if options.queues.is_empty() {
            return Err(Error::config("consume", "no queue is named"));
        }
        let mut state = self.store.open("consume")?;
        for name in &options.queues {
            state.queue(name, true);
        }
        Ok(Box::new(FifoConsumer { store: Arc::clone(&self.store), queues: options.queues }))
    }

    async fn depth(&self, queue: &QueueName) -> Result<u64> {
        let state = self.store.open("depth")?;
        Ok(state.queues.get(queue).map_or(0, |queue| queue.waiting.len() as u64))
    }

    async fn purge(&self, queue: &QueueName) -> Result<u64> {
        let mut state = self.store.open("purge")?;
        Ok(state.queues.get_mut(queue).map_or(0, |queue| std::mem::take(&mut queue.waiting).len() as u64))
    }

    async fn close(&self) -> Result<()> {
        *self.store.lock() = State { closed: true, ..State::default() };
        self.store.news.notify_waiters();
        Ok(())
    }
}

#[derive(Debug)]
struct FifoConsumer {
    store: Arc<Store>,
    /// The one to be served first comes first.
    queues: Vec<QueueName>,
}

impl FifoConsumer {
    fn take(&mut self, limit: usize) -> Result<Vec<Delivery>> {
        let mut state = self.store.open("recv")?;
        let mut taken = Vec::new();
        for name in &self.queues {
            while taken.len() < limit
                && let Some((number, entry)) = state.queue(name, true).waiting.pop_first()
            {
                let tag = DeliveryTag(state.number());
                let receipt = Receipt::new(tag, Arc::clone(&self.store) as Arc<dyn Settle>);
                let Outgoing { message, destination, .. } = entry.outgoing.clone();
                let delivery = Delivery::new(message, name.clone(), receipt)
                    .published_to(destination.exchange, destination.routing_key)
                    .redelivered(entry.redelivered);
                taken.push(delivery);
                state.held.insert(tag, (name.clone(), number, entry));
            }
        }
        // Another queue is first next time, so that none starves.
        self.queues.rotate_left(1);
        Ok(taken)
    }
}

#[async_trait]
impl Consumer for FifoConsumer {
    async fn recv(&mut self, limit: NonZeroUsize) -> Result<Vec<Delivery>> {
        let store = Arc::clone(&self.store);
        loop {
            // Listens before it looks: what comes in between is not missed.
            let news = store.news.notified();
            let taken = self.take(limit.get())?;
            if !taken.is_empty() {
                return Ok(taken);
            }
            // CANCEL SAFETY: nothing is in hand while this waits, and news goes to all who wait.
            news.await;
        }
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        self.store.open("cancel").map(drop)
    }
}

#[async_trait]
impl Settle for Store {
    async fn settle(&self, batch: &mut Vec<Settlement>) -> Result<()> {
        let mut state = self.lock();
        let mut todo = std::mem::take(batch).into_iter();
        let mut outcome = Ok(());
        while let Some(settlement) = todo.next() {
            if !state.held.contains_key(&settlement.tag) {
                // Passed over: what is left in `batch` at the end tells the caller.
                batch.push(settlement);
            } else if let Err(error) = state.settle(settlement.tag, &settlement.verb) {
                // What failed and all after it stay, in their order.
                *batch = std::iter::once(settlement).chain(todo).collect();
                outcome = Err(error);
                break;
            }
        }
        drop(state);
        self.news.notify_waiters();
        outcome
    }

    fn abandon(&self, tag: DeliveryTag) {
        self.lock().hand_back(tag);
        self.news.notify_waiters();
    }
}

impl State {
    fn settle(&mut self, tag: DeliveryTag, verb: &Verb) -> Result<()> {
        match verb {
            Verb::Reject(Requeue::Yes) => {
                self.hand_back(tag);
                return Ok(());
            }
            Verb::Ack | Verb::Reject(Requeue::No) => {}
            Verb::Complete(done) if done.result.is_some() => {
                return Err(Error::unsupported("settle", "this broker stores no results"));
            }
            // What follows is published first: all of it, or the message stays held.
            Verb::Complete(done) => self.publish(done.next.clone())?,
            _ => return Err(Error::unsupported("settle", format!("this broker does not know {verb:?}"))),
        }
        self.held.remove(&tag);
        Ok(())
    }
}
