//! The reply queue: declared and consumed from the first task that names it until the backend is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use celeriac_broker::Outgoing;
use celeriac_core::{Error, Result, RoutingKey, TaskId};
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::message;
use super::records::Records;
use crate::backoff::Backoff;
use crate::config::AmqpConfig;
use crate::error::{Fault, again, closed, fault};
use crate::link::{Link, Live, lost};

const RECEIVE: &str = "receive results";

/// How many replies may be on their way here, unacknowledged.
const PREFETCH: u16 = 1000;

/// How long the deletion of the queue may take when all is closed; it goes by itself in the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The queue of this handle's replies, and what has come by it.
pub(crate) struct Replies {
    link: Link,
    config: AmqpConfig,
    queue: RoutingKey,
    records: Arc<Records>,
    ended: CancellationToken,
    receiving: Mutex<Option<Receiving>>,
}

/// The task that consumes the queue, and how that goes.
struct Receiving {
    task: JoinHandle<()>,
    progress: watch::Receiver<Progress>,
    /// Gone with the task.
    sender: Weak<watch::Sender<Progress>>,
    /// Has it try at once.
    now: Arc<Notify>,
}

#[derive(Clone)]
enum Progress {
    Starting,
    /// The queue is there, and stays there while the connection is lost.
    Ready,
    /// It would fail in the same way again.
    Refused(Arc<Error>),
}

impl Replies {
    /// A queue of a name of its own; nothing is declared yet.
    ///
    /// # Errors
    /// None is known.
    pub(crate) fn new(link: &Link, config: &AmqpConfig) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            link: link.clone(),
            config: config.clone(),
            queue: RoutingKey::new(String::from(TaskId::random()))?,
            records: Arc::default(),
            ended: CancellationToken::new(),
            receiving: Mutex::default(),
        }))
    }

    pub(crate) fn queue(&self) -> &RoutingKey {
        &self.queue
    }

    pub(super) fn records(&self) -> &Arc<Records> {
        &self.records
    }

    /// Sees to it, before these messages are sent, that replies to them find their queue.
    ///
    /// # Errors
    /// As [`Replies::ready`].
    pub(crate) async fn expect(&self, operation: &'static str, batch: &[Outgoing]) -> Result<()> {
        let is_awaited = |outgoing: &Outgoing| {
            outgoing.message.properties.reply_to.as_ref() == Some(&self.queue)
                && outgoing.message.task().and_then(|task| task.ignore_result) != Some(true)
        };
        // Once the backend is closed nobody reads what comes.
        if self.ended.is_cancelled() || !batch.iter().any(is_awaited) {
            return Ok(());
        }
        self.ready(operation).await
    }

    /// Waits until the queue is there. Once it is, it stays there while connections are lost.
    ///
    /// # Errors
    /// `Unavailable` once this is closed, or if it takes longer than `publish_timeout`; else why the queue cannot be had, such as a missing
    /// permission. A later call tries anew.
    ///
    /// # Cancel safety
    /// Others are not disturbed.
    pub(super) async fn ready(&self, operation: &'static str) -> Result<()> {
        match timeout(self.config.publish_timeout, self.started(operation)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let why = "the queue of the results could not be declared within `publish_timeout`";
                Err(self.link.late(operation, why))
            }
        }
    }

    async fn started(&self, operation: &'static str) -> Result<()> {
        loop {
            let mut progress = self.receiving(operation)?;
            let reached = progress.wait_for(|progress| !matches!(progress, Progress::Starting)).await;
            match reached.map(|progress| progress.clone()) {
                Ok(Progress::Ready) => return Ok(()),
                Ok(Progress::Refused(error)) => return Err(again(&error, operation)),
                // It ended with its runtime, or this was closed.
                Ok(Progress::Starting) | Err(_) => {}
            }
        }
    }

    /// How the receiving goes, which begins with this if nobody receives.
    fn receiving(&self, operation: &'static str) -> Result<watch::Receiver<Progress>> {
        let mut receiving = self.lock();
        if self.ended.is_cancelled() {
            return Err(closed(operation));
        }
        if let Some(Receiving { task, progress, sender, now }) = &*receiving
            && !task.is_finished()
        {
            // What was refused a while ago may be allowed by now.
            if let Some(sender) = sender.upgrade().filter(|sender| matches!(*sender.borrow(), Progress::Refused(_))) {
                sender.send_replace(Progress::Starting);
                now.notify_one();
            }
            return Ok(progress.clone());
        }
        let (sender, progress) = watch::channel(Progress::Starting);
        let (sender, now) = (Arc::new(sender), Arc::new(Notify::new()));
        let weak = Arc::downgrade(&sender);
        let receiver = Receiver {
            link: self.link.clone(),
            queue: self.queue.as_str().into(),
            life: self.config.result_expires,
            max_bytes: self.config.max_message_bytes,
            records: Arc::clone(&self.records),
            ended: self.ended.clone(),
            progress: sender,
            now: Arc::clone(&now),
        };
        let task = tokio::spawn(receiver.run());
        *receiving = Some(Receiving { task, progress: progress.clone(), sender: weak, now });
        Ok(progress)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Receiving>> {
        // Nothing panics in between.
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every watch, and deletes the queue.
    pub(crate) async fn close(&self) {
        self.ended.cancel();
        self.records.close();
        let receiving = self.lock().take();
        if let Some(Receiving { task, .. }) = receiving {
            // What it does takes no longer; and should it hang, the queue goes by itself.
            let _ = timeout(FAREWELL, task).await;
        }
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.ended.cancel();
        self.records.close();
    }
}

struct Receiver {
    link: Link,
    queue: ShortString,
    /// How long the queue outlives its consumer, and a record is kept of which nothing else is said.
    life: Duration,
    max_bytes: usize,
    records: Arc<Records>,
    ended: CancellationToken,
    progress: Arc<watch::Sender<Progress>>,
    now: Arc<Notify>,
}

impl Receiver {
    /// Receives until this is closed: again and again, for connections are lost and queues deleted.
    async fn run(self) {
        let mut backoff = Backoff::default();
        let mut was_ready = false;
        loop {
            // CANCEL SAFETY: whatever has come by then comes again.
            let opened = tokio::select! {
                () = self.ended.cancelled() => return,
                () = self.link.closed() => return self.refuse(closed(RECEIVE)),
                opened = self.open() => opened,
            };
            match opened {
                Ok((live, channel, consumer)) => {
                    self.progress.send_replace(Progress::Ready);
                    was_ready = true;
                    let begun = Instant::now();
                    // CANCEL SAFETY: what is not acknowledged comes again, should this go on.
                    tokio::select! {
                        () = self.ended.cancelled() => return self.delete(&channel).await,
                        // The driver may not tell of it.
                        () = live.lost.cancelled() => {}
                        () = self.receive(&channel, consumer) => {}
                    }
                    // Who deletes the queue may do so again and again.
                    backoff.lasted(begun.elapsed());
                }
                Err(Fault::Broken(error)) => tracing::debug!(error = %error.report(), "results cannot be received"),
                Err(fault) => {
                    let error = fault.into_error();
                    if !was_ready {
                        return self.refuse(error);
                    }
                    // Somebody may wait for a result: it can only be hoped that what was allowed will be allowed again. Until then the queue may
                    // be gone, and replies with it.
                    if matches!(*self.progress.borrow(), Progress::Ready) {
                        tracing::warn!(error = %error.report(), "results cannot be received any more");
                    }
                    self.refuse(error);
                }
            }
            // CANCEL SAFETY: all only wait.
            tokio::select! {
                () = self.ended.cancelled() => return,
                () = backoff.wait() => {}
                () = self.now.notified() => {}
            }
        }
    }

    fn refuse(&self, error: Error) {
        self.progress.send_replace(Progress::Refused(Arc::new(error)));
    }

    /// Declares the queue, and begins to consume it.
    ///
    /// # Wire format
    /// `celery/backends/rpc.py::RPCBackend.binding` (celery 5.7), but for what `docs/decisions/0013` says.
    async fn open(&self) -> Result<(Live, Channel, Consumer), Fault> {
        let live = self.link.live(RECEIVE).await.map_err(Fault::Refused)?;
        let opening = async {
            let fault = |error| fault(RECEIVE, &error);
            let channel = live.channel(RECEIVE).await?;
            let declare = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(self.queue.clone(), declare, self.arguments()).await.map_err(fault)?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.map_err(fault)?;
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer = channel.basic_consume(self.queue.clone(), ShortString::default(), options, arguments);
            let consumer = consumer.await.map_err(fault)?;
            Ok((channel, consumer))
        };
        // CANCEL SAFETY: a channel half set up goes with its connection.
        let (channel, consumer) = tokio::select! {
            // The driver may leave open what it was asked then.
            () = live.lost.cancelled() => return Err(lost(RECEIVE)),
            opened = opening => opened?,
        };
        Ok((live, channel, consumer))
    }

    /// Nobody is to read what comes from now on.
    async fn delete(&self, channel: &Channel) {
        let gone = async {
            let _ = channel.queue_delete(self.queue.clone(), QueueDeleteOptions::default()).await;
            let _ = channel.close(200, "closed".into()).await;
        };
        // If it fails, the queue goes by itself.
        let _ = timeout(FAREWELL, gone).await;
    }

    fn arguments(&self) -> FieldTable {
        let expires = i64::try_from(self.life.as_millis()).unwrap_or(i64::MAX);
        let mut arguments = FieldTable::default();
        arguments.insert("x-expires".into(), AMQPValue::LongLongInt(expires));
        // Whatever kind the virtual host makes by default: nothing here is worth replicas.
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        arguments
    }

    /// Takes what comes until the connection is lost or the queue is deleted.
    async fn receive(&self, channel: &Channel, consumer: Consumer) {
        /// Acknowledged at once: so few that others are on their way meanwhile.
        const AT_ONCE: usize = PREFETCH as usize / 4;
        let mut deliveries = consumer.ready_chunks(AT_ONCE);
        while let Some(batch) = deliveries.next().await {
            let mut taken = None;
            for delivery in batch {
                match delivery {
                    Ok(delivery) => {
                        self.take(&delivery);
                        taken = Some(delivery.delivery_tag);
                    }
                    Err(error) => tracing::debug!(%error, "the consumer of results is lost"),
                }
            }
            if let Some(tag) = taken
                && channel.basic_ack(tag, BasicAckOptions { multiple: true }).await.is_err()
            {
                return;
            }
        }
    }

    fn take(&self, delivery: &Delivery) {
        match message::read(&delivery.properties, &delivery.data, self.max_bytes) {
            Ok((meta, life)) => {
                self.records.put(meta, delivery.data.len(), life.unwrap_or(self.life), Instant::now());
            }
            Err(error) => {
                let content_type = delivery.properties.content_type().as_ref().map(ShortString::as_str);
                let error = error.report();
                tracing::warn!(%error, content_type, "what came as a result is none, and is dropped");
            }
        }
    }
}
