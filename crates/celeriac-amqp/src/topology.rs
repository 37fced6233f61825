//! Queues, exchanges and bindings: declared as Celery declares them, looked at before they are used, and made again when they are gone.
//!
//! What was found is remembered for as long as the connection lasts, or until the server says that it is gone. What was declared is remembered
//! for good, to be made again in the same way.

mod declaration;
mod delayed;
mod levels;
mod refusal;
mod step;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use celeriac_broker::{Binding, Destination, ExchangeKind, QueueSpec, topic_matches};
use celeriac_core::{Error, ErrorKind, ExchangeName, QueueName, Result, RoutingKey};
use futures_util::FutureExt as _;
use futures_util::future::{join_all, maybe_done};
use futures_util::poll;
use lapin::Channel;
use lapin::types::FieldTable;

use crate::backoff::Backoff;
use crate::config::AmqpConfig;
use crate::delay::inlet;
use crate::error::{Fault, fault};
use crate::link::{Link, Live, lost};
use step::Step;

const DECLARE: &str = "declare queue";

pub(crate) struct Topology {
    config: AmqpConfig,
    sending: Link,
    receiving: Link,
    known: Mutex<Known>,
    declared: Mutex<Declared>,
}

/// What was declared here.
#[derive(Debug, Default)]
struct Declared {
    queues: HashMap<QueueName, Arc<QueueSpec>>,
    kinds: HashMap<ExchangeName, ExchangeKind>,
}

/// What is there, as far as it was seen by one connection.
#[derive(Debug, Default)]
struct Known {
    connection: Option<u64>,
    queues: HashSet<QueueName>,
    exchanges: HashSet<ExchangeName>,
    /// The levels of the delay.
    levels: bool,
    /// When it was seen last that no queue can be bound to the exchange that the delay comes out of.
    undelayed: Option<Instant>,
}

/// How long the server waits by what the queue itself says.
fn own_consumer_timeout(spec: &QueueSpec) -> Option<Duration> {
    spec.arguments.get("x-consumer-timeout")?.as_u64().map(Duration::from_millis)
}

impl Topology {
    /// Declares by way of `sending`; while RabbitMQ reads nothing from that, because it is short of memory or disk, by way of `receiving`.
    pub(crate) fn new(config: AmqpConfig, sending: Link, receiving: Link) -> Self {
        Self { config, sending, receiving, known: Mutex::default(), declared: Mutex::default() }
    }

    /// Declares a queue, its exchanges and bindings, and remembers them.
    ///
    /// A quorum queue that is bound to exchanges of kind topic or fanout is made reachable for what Python's Celery delays: it does so by
    /// itself, in the way of [`delay`](crate::delay), and leaves declaring that to the workers.
    ///
    /// # Errors
    /// As [`Broker::declare`](celeriac_broker::Broker::declare) has them.
    pub(crate) async fn declare(&self, spec: &QueueSpec) -> Result<()> {
        self.in_time(DECLARE, async {
            self.make(DECLARE, spec).await.map_err(refusal::explained)?;
            self.declared().add(spec);
            if declaration::is_quorum(&self.config, spec) {
                self.open_to_python(spec).await?;
            }
            Ok(())
        })
        .await
    }

    /// Makes a queue, its exchanges and bindings, as far as they are not there.
    async fn make(&self, operation: &'static str, spec: &QueueSpec) -> std::result::Result<(), Fault> {
        let mut steps = declaration::steps(&self.config, spec).map_err(Fault::Refused)?;
        steps.append(&mut inlets(spec));
        self.ask(operation, &steps).await?;
        {
            let mut known = self.known();
            known.queues.insert(spec.name.clone());
            known.exchanges.extend(spec.bindings.iter().map(|binding| binding.exchange.name.clone()));
        }
        self.lead_back(operation, spec).await;
        Ok(())
    }

    /// Sees to it that a queue is there: as it is, or made as it was declared, or as Celery makes a queue that nobody has declared.
    ///
    /// # Errors
    /// What waiting for the server would not cure.
    pub(crate) async fn ensure_queue(&self, operation: &'static str, queue: &QueueName) -> Result<()> {
        self.find_or_make(operation, queue).await.map_err(refusal::explained)
    }

    async fn find_or_make(&self, operation: &'static str, queue: &QueueName) -> std::result::Result<(), Fault> {
        if self.known().queues.contains(queue) {
            return Ok(());
        }
        let find = [Step::FindQueue { name: queue.as_str().into() }];
        let mut found = self.ask(operation, &find).await;
        if let Err(Fault::Closed { code: 404, .. }) = found {
            let spec = self.declared().queues.get(queue).cloned();
            let spec = spec.unwrap_or_else(|| Arc::new(QueueSpec::direct(queue.clone())));
            found = match self.make(operation, &spec).await {
                // Somebody else made it, and otherwise, meanwhile.
                Err(Fault::Closed { code: 406, .. }) => self.ask(operation, &find).await,
                made => made.map(|()| Vec::new()),
            };
        }
        found?;
        self.known().queues.insert(queue.clone());
        Ok(())
    }

    /// Where a queue sends what is rejected, as far as its declaration says so: the exchange, and the key if it is another.
    pub(crate) fn dead_letters(&self, queue: &QueueName) -> Option<(ExchangeName, Option<RoutingKey>)> {
        let spec = self.declared().queues.get(queue).cloned()?;
        let exchange = spec.arguments.get("x-dead-letter-exchange")?.as_str()?.parse().ok()?;
        let key = spec.arguments.get("x-dead-letter-routing-key").and_then(|key| key.as_str()?.parse().ok());
        Some((exchange, key))
    }

    /// How long the server waits for what it delivered from a queue to be settled, as far as that is known; `None` for as long as it takes.
    pub(crate) fn consumer_timeout(&self, queue: &QueueName) -> Option<Duration> {
        let spec = self.declared().queues.get(queue).cloned();
        spec.and_then(|spec| own_consumer_timeout(&spec)).into_iter().chain(self.config.patience()).min()
    }

    /// The shortest of those.
    pub(crate) fn shortest_consumer_timeout(&self) -> Option<Duration> {
        let declared = self.declared();
        declared.queues.values().filter_map(|spec| own_consumer_timeout(spec)).chain(self.config.patience()).min()
    }

    /// The server says that a queue is gone, or does not lead messages to it.
    pub(crate) fn forget_queue(&self, queue: &QueueName) {
        self.known().queues.remove(queue);
    }

    /// The server says that an exchange is gone.
    pub(crate) fn forget_exchange(&self, exchange: &ExchangeName) {
        self.known().exchanges.remove(exchange);
    }

    /// The server says that the delay is gone, or leads nowhere.
    pub(crate) fn forget_delay(&self) {
        self.known().levels = false;
    }

    /// How many messages wait in `queue`; 0 if there is none.
    pub(crate) async fn depth(&self, operation: &'static str, queue: &QueueName) -> Result<u64> {
        self.count(operation, Step::FindQueue { name: queue.as_str().into() }).await
    }

    /// Drops what waits in `queue`, and tells how many messages that was; 0 if there is none.
    pub(crate) async fn purge(&self, operation: &'static str, queue: &QueueName) -> Result<u64> {
        self.count(operation, Step::Purge { queue: queue.as_str().into() }).await
    }

    async fn count(&self, operation: &'static str, step: Step) -> Result<u64> {
        self.in_time(operation, async {
            match self.ask(operation, &[step]).await {
                Ok(counts) => Ok(counts.into_iter().map(u64::from).sum()),
                Err(Fault::Closed { code: 404, .. }) => Ok(0),
                Err(fault) => Err(fault.into_error()),
            }
        })
        .await
    }

    /// Sees to it that messages to `destination` arrive.
    ///
    /// # Errors
    /// `NotFound` if there is no such exchange, or the routing key cannot name a queue; else what waiting for the server would not cure.
    pub(crate) async fn ensure(&self, operation: &'static str, destination: &Destination) -> Result<()> {
        let Destination { exchange, routing_key } = destination;
        if !exchange.is_empty() {
            return self.ensure_exchange(operation, exchange).await;
        }
        let queue = QueueName::new(routing_key.as_str().to_owned()).map_err(|_| {
            let why = "the default exchange leads to the queue that the routing key names, and the key is empty";
            Error::new(ErrorKind::NotFound, operation, why)
        })?;
        match self.find_or_make(operation, &queue).await {
            // Another connection has it for itself. That leaves everybody free to publish to it.
            Err(Fault::Closed { code: 405, .. }) => {
                self.known().queues.insert(queue);
                Ok(())
            }
            found => found.map_err(refusal::explained),
        }
    }

    async fn ensure_exchange(&self, operation: &'static str, exchange: &ExchangeName) -> Result<()> {
        if self.known().exchanges.contains(exchange) {
            return Ok(());
        }
        match self.ask(operation, &[Step::FindExchange { name: exchange.as_str().into() }]).await {
            Ok(_) => {}
            Err(Fault::Closed { code: 404, error, .. }) => {
                let specs = self.specs_bound_to(exchange);
                if specs.is_empty() {
                    let why = format!("no exchange `{exchange}`");
                    return Err(Error::new(ErrorKind::NotFound, operation, why).with_source(error.report()));
                }
                for spec in specs {
                    self.make(operation, &spec).await.map_err(refusal::explained)?;
                }
            }
            Err(fault) => return Err(fault.into_error()),
        }
        self.known().exchanges.insert(exchange.clone());
        Ok(())
    }

    /// Makes again what leads messages to `destination`, as far as it was declared here: the server has seen that some of it is gone.
    ///
    /// # Errors
    /// As [`Topology::ensure`].
    pub(crate) async fn remake(&self, operation: &'static str, destination: &Destination) -> Result<()> {
        let Destination { exchange, routing_key } = destination;
        if exchange.is_empty()
            && let Ok(queue) = QueueName::new(routing_key.as_str().to_owned())
        {
            self.forget_queue(&queue);
        }
        for spec in self.specs_for(destination) {
            self.make(operation, &spec).await.map_err(refusal::explained)?;
        }
        self.ensure(operation, destination).await
    }

    /// Whether a queue that was declared here gets what is sent to `destination`.
    pub(crate) fn is_declared(&self, destination: &Destination) -> bool {
        !self.specs_for(destination).is_empty()
    }

    /// Whether a message may find no queue at the exchange and be none the worse for it.
    pub(crate) fn is_fanout(&self, exchange: &ExchangeName) -> bool {
        !exchange.is_empty() && self.kind(exchange) == Some(ExchangeKind::Fanout)
    }

    /// The kind of an exchange that was declared here. The server does not tell that of others.
    pub(crate) fn kind(&self, exchange: &ExchangeName) -> Option<ExchangeKind> {
        self.declared().kinds.get(exchange).copied()
    }

    /// Carries out `steps` in order, on a channel of their own, because whatever is refused closes its channel. Waits for as long as there is no
    /// connection, and goes on from where the last one was lost: there are many steps to the delay, and connections that do not last for so long.
    ///
    /// # Errors
    /// Never [`Fault::Broken`].
    async fn ask(&self, operation: &'static str, steps: &[Step]) -> std::result::Result<Vec<u32>, Fault> {
        let mut backoff = Backoff::default();
        let mut answers = Vec::with_capacity(steps.len());
        loop {
            let live = self.sending.live(operation).await.map_err(Fault::Refused)?;
            self.known().at(live.number);
            let resumed = !answers.is_empty();
            let left = steps.get(answers.len()..).unwrap_or_default().to_vec();
            let (mut some, asked) = if live.blocked().is_some() {
                let live = self.receiving.live(operation).await.map_err(Fault::Refused)?;
                carry_out(operation, live, left).await
            } else {
                // CANCEL SAFETY: what was asked may or may not have been done, and is asked again.
                tokio::select! {
                    asked = carry_out(operation, live.clone(), left) => asked,
                    () = live.until_blocked() => continue,
                }
            };
            answers.append(&mut some);
            match asked {
                Ok(()) => return Ok(answers),
                Err(Fault::Broken(error)) => {
                    tracing::debug!(error = %error.report(), "lost the connection while declaring, or the server ended it");
                    backoff.wait().await;
                }
                // What was there before may have gone with the connection, as with a server that starts anew.
                Err(Fault::Closed { code: 404, .. }) if resumed => answers.clear(),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Gives up in time, and says why it took so long.
    async fn in_time<T>(&self, operation: &'static str, doing: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.config.publish_timeout, doing).await {
            Ok(done) => done,
            Err(_) => Err(self.sending.late(operation, "RabbitMQ has not answered within `publish_timeout`")),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn declared(&self) -> MutexGuard<'_, Declared> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn specs_bound_to(&self, exchange: &ExchangeName) -> Vec<Arc<QueueSpec>> {
        self.declared().bound(|binding| binding.exchange.name == *exchange)
    }

    /// The queues that get what is sent to an exchange by this key; whatever its headers are, where those decide.
    fn specs_for(&self, destination: &Destination) -> Vec<Arc<QueueSpec>> {
        let Destination { exchange, routing_key } = destination;
        self.declared().bound(|binding| {
            let leads = match binding.exchange.kind {
                ExchangeKind::Direct => binding.key == *routing_key,
                ExchangeKind::Topic => topic_matches(&binding.key, routing_key),
                _ => true,
            };
            leads && binding.exchange.name == *exchange
        })
    }
}

impl Declared {
    fn add(&mut self, spec: &QueueSpec) {
        self.kinds.extend(spec.bindings.iter().map(|binding| (binding.exchange.name.clone(), binding.exchange.kind)));
        self.queues.insert(spec.name.clone(), Arc::new(spec.clone()));
    }

    /// The queues that have such a binding.
    fn bound(&self, by: impl Fn(&Binding) -> bool) -> Vec<Arc<QueueSpec>> {
        self.queues.values().filter(|spec| spec.bindings.iter().any(&by)).cloned().collect()
    }
}

impl Known {
    /// Forgets what another connection saw: the server may have been another, or started anew. Not the levels, which are many, and stay: a server
    /// that has none refuses what is published to them.
    fn at(&mut self, connection: u64) {
        if self.connection != Some(connection) {
            *self = Self { connection: Some(connection), levels: self.levels, ..Self::default() };
        }
    }
}

pub(crate) fn too_long(operation: &'static str, destination: &Destination) -> Error {
    let Destination { exchange, routing_key } = destination;
    let why = format!(
        "a message for exchange `{exchange}` and routing key `{routing_key}` cannot be delayed: the names are too long for what leads it back"
    );
    Error::new(ErrorKind::TooLarge, operation, why)
}

fn bind(queue: &str, exchange: &str, key: &str) -> Step {
    Step::Bind { queue: queue.into(), exchange: exchange.into(), key: key.into(), arguments: FieldTable::default() }
}

/// What leads messages that were delayed from topic exchanges to a queue that is bound to them.
fn inlets(spec: &QueueSpec) -> Vec<Step> {
    let topics = spec.bindings.iter().filter(|binding| binding.exchange.kind == ExchangeKind::Topic);
    let inlets = topics.filter_map(|Binding { exchange, key, .. }| {
        let inlet = inlet(&exchange.name, key);
        if inlet.is_none() {
            let (queue, exchange) = (&spec.name, &exchange.name);
            tracing::warn!(%queue, %exchange, %key, "what is delayed does not come by this key: the names are too long");
        }
        inlet.map(|key| bind(&spec.name, &exchange.name, &key))
    });
    inlets.collect()
}

/// The answers to `steps`, up to the first that is an error.
///
/// They are waited for in a task of their own, whether the caller waits or not: a channel that is dropped while the server still answers on it, or
/// opens or closes it, can cost the whole connection.
async fn carry_out(
    operation: &'static str,
    live: Live,
    steps: Vec<Step>,
) -> (Vec<u32>, std::result::Result<(), Fault>) {
    let asking = tokio::spawn(async move {
        let mut answers = Vec::with_capacity(steps.len());
        let asked = match live.channel(operation).await {
            Ok(channel) => {
                let asked = asked(operation, &live, &channel, &steps, &mut answers).await;
                if channel.status().connected() {
                    // The driver waits for the server's answer, whether anybody else does or not.
                    let _ = channel.close(200, "done".into()).now_or_never();
                }
                asked
            }
            Err(fault) => Err(fault),
        };
        (answers, asked)
    });
    asking.await.unwrap_or_else(|_| (Vec::new(), Err(lost(operation))))
}

/// Sends all steps before it waits for the first answer, and adds the answers up to the first that is an error to `answers`.
async fn asked(
    operation: &'static str,
    live: &Live,
    channel: &Channel,
    steps: &[Step],
    answers: &mut Vec<u32>,
) -> std::result::Result<(), Fault> {
    let mut sent = Vec::with_capacity(steps.len());
    for step in steps {
        let mut sending = Box::pin(maybe_done(step.carry_out(channel)));
        // Sends it, in its turn.
        let _ = poll!(&mut sending);
        sent.push(sending);
    }
    // CANCEL SAFETY: what was answered is kept.
    tokio::select! {
        _ = join_all(sent.iter_mut()) => {}
        // The driver may leave open what it was asked then.
        () = live.lost.cancelled() => {}
    }
    for step in &mut sent {
        match step.as_mut().take_output() {
            Some(Ok(count)) => answers.push(count),
            Some(Err(error)) => return Err(fault(operation, &error)),
            None => return Err(lost(operation)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
