//! The producer: calls go in, messages come out, and a result is handed back for each.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backend::ResultBackend;
use celeriac_broker::{Broker, Outgoing};
use celeriac_core::{Clock, Error, ErrorKind, QueueName, Result, RoutingKey, SystemClock, TaskId};
use celeriac_serializer::{Compression, Serializers};

use crate::call::IntoCall;
use crate::message::{Prepared, Sender, prepare};
use crate::result::AsyncResult;
use crate::router::Router;

/// How a producer sends. Everything has a default.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProducerConfig {
    /// Compression of bodies, by Celery's name. Default: none.
    pub compression: Option<Cow<'static, str>>,
    /// The queue for tasks that nothing else is said of. Default: `celery`.
    pub default_queue: QueueName,
    /// The largest body that is sent, in bytes, compressed or not. Default: 64 MiB.
    pub max_body_bytes: usize,
    /// How long publishing may take before it fails. Default: 10 s.
    pub publish_timeout: Duration,
    /// The routing table. Default: empty.
    pub router: Router,
    /// The format of bodies, by name. Default: `json`.
    pub serializer: Cow<'static, str>,
    /// The formats that there are, and those that are accepted in results.
    pub serializers: Serializers,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            compression: None,
            default_queue: QueueName::DEFAULT,
            max_body_bytes: 64 * 1024 * 1024,
            publish_timeout: Duration::from_secs(10),
            router: Router::new(),
            serializer: Cow::Borrowed("json"),
            serializers: Serializers::new(),
        }
    }
}

/// The task that a task is sent from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The first task of the workflow.
    pub root_id: TaskId,
    /// The task that sends.
    pub parent_id: TaskId,
}

/// Sends tasks. Cheap to clone; clones share one broker.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Arc<dyn Broker>,
    backend: Option<Arc<dyn ResultBackend>>,
    clock: Arc<dyn Clock>,
    config: ProducerConfig,
    reply_to: RoutingKey,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("broker", &self.inner.broker)
            .field("backend", &self.inner.backend)
            .finish_non_exhaustive()
    }
}

/// Makes a [`Producer`].
#[derive(Debug)]
#[must_use]
pub struct ProducerBuilder {
    broker: Arc<dyn Broker>,
    backend: Option<Arc<dyn ResultBackend>>,
    clock: Arc<dyn Clock>,
    config: ProducerConfig,
}

impl ProducerBuilder {
    /// Sets where results are read from. Default: nowhere; [`AsyncResult::get`] then is an error.
    pub fn backend(mut self, backend: Arc<dyn ResultBackend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Sets where the time comes from. Default: the wall clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets how it sends.
    pub fn config(mut self, config: ProducerConfig) -> Self {
        self.config = config;
        self
    }

    /// Makes the producer.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the configured serializer or compression does not exist.
    pub fn build(self) -> Result<Producer> {
        self.config.serializers.by_name(&self.config.serializer)?;
        if let Some(compression) = &self.config.compression {
            Compression::from_name(compression)
                .map_err(|error| Error::config("build producer", error.message().to_owned()))?;
        }
        let reply_to = self.backend.as_ref().and_then(|backend| backend.reply_to());
        let reply_to = match reply_to {
            Some(reply_to) => reply_to,
            // Python workers want one even when no result comes back by it.
            None => RoutingKey::new(String::from(TaskId::random()))?,
        };
        let Self { broker, backend, clock, config } = self;
        Ok(Producer { inner: Arc::new(Inner { broker, backend, clock, config, reply_to }) })
    }
}

impl Producer {
    /// A producer over `broker`, with defaults.
    pub fn builder(broker: Arc<dyn Broker>) -> ProducerBuilder {
        ProducerBuilder { broker, backend: None, clock: Arc::new(SystemClock), config: ProducerConfig::default() }
    }

    /// Sends one task. `Ok` means that the broker answers for it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an option that cannot be; [`ErrorKind::TooLarge`] for a body over the limit;
    /// [`ErrorKind::Timeout`] when the deadline passes (the task may have been sent); what [`Broker::publish`] returns.
    ///
    /// # Cancel safety
    /// Not cancel safe: the task may or may not have been sent.
    pub async fn send<C: IntoCall>(&self, call: C) -> Result<AsyncResult<C::Output>> {
        self.send_from(None, call).await
    }

    /// Sends one task on behalf of another: see [`Producer::send`].
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send_from<C: IntoCall>(&self, from: Option<&Lineage>, call: C) -> Result<AsyncResult<C::Output>> {
        let prepared = prepare(call.into_call(), &self.sender(from))?;
        let Prepared { id, ignore_result, outgoing } = prepared;
        self.publish(vec![outgoing]).await?;
        Ok(self.expect(id, ignore_result))
    }

    /// Sends many tasks of one output type at once, in order. Much cheaper than one by one.
    ///
    /// # Errors
    /// As [`Producer::send`]. If a call is at fault none is sent, and the error names it by its index, from 0: `call 3 of the batch: ...`.
    pub async fn send_batch<C: IntoCall>(
        &self,
        calls: impl IntoIterator<Item = C>,
    ) -> Result<Vec<AsyncResult<C::Output>>> {
        let (mut batch, mut results) = (Vec::new(), Vec::new());
        {
            let sender = self.sender(None);
            for (index, call) in calls.into_iter().enumerate() {
                let prepared = prepare(call.into_call(), &sender).map_err(|error| of_batch(index, &error))?;
                let Prepared { id, ignore_result, outgoing } = prepared;
                batch.push(outgoing);
                results.push(self.expect(id, ignore_result));
            }
        }
        if !batch.is_empty() {
            self.publish(batch).await?;
        }
        Ok(results)
    }

    /// The message that [`Producer::send`] would publish for `call`, for whoever publishes it by other means, or many of them by
    /// [`Producer::publish`]. With an id of the caller's, [`TypedSignature::task_id`](crate::TypedSignature::task_id), it is the same task however
    /// often it is made.
    ///
    /// # Errors
    /// As [`Producer::send`], save those of publishing.
    pub fn prepare<C: IntoCall>(&self, call: C) -> Result<Outgoing> {
        Ok(prepare(call.into_call(), &self.sender(None))?.outgoing)
    }

    /// The result of a task that was sent before, perhaps by another process.
    #[must_use]
    pub fn result<R>(&self, id: TaskId) -> AsyncResult<R> {
        self.expect(id, false)
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.inner.broker
    }

    /// The result backend, if there is one.
    #[must_use]
    pub fn backend(&self) -> Option<&Arc<dyn ResultBackend>> {
        self.inner.backend.as_ref()
    }

    /// How it sends.
    #[must_use]
    pub fn config(&self) -> &ProducerConfig {
        &self.inner.config
    }

    fn sender<'a>(&'a self, lineage: Option<&'a Lineage>) -> Sender<'a> {
        Sender {
            config: &self.inner.config,
            now: self.inner.clock.now(),
            reply_to: &self.inner.reply_to,
            lineage,
            delay: self.inner.broker.capabilities().delay,
        }
    }

    fn expect<R>(&self, id: TaskId, ignored: bool) -> AsyncResult<R> {
        AsyncResult::new(id, self.clone(), ignored)
    }

    /// Publishes messages that were [prepared](Producer::prepare), in order, within [`ProducerConfig::publish_timeout`].
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when the deadline passes (they may have been sent); what [`Broker::publish`] returns.
    ///
    /// # Cancel safety
    /// Not cancel safe: the messages may or may not have been published.
    pub async fn publish(&self, batch: Vec<Outgoing>) -> Result<()> {
        let deadline = self.inner.config.publish_timeout;
        let count = batch.len();
        match tokio::time::timeout(deadline, self.inner.broker.publish(batch)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let why =
                    format!("the broker did not confirm {count} task(s) within {deadline:?}; they may have been sent");
                let error = Error::new(ErrorKind::Timeout, "send", why);
                Err(match self.inner.broker.trouble() {
                    Some(trouble) => error.with_source(trouble),
                    None => error,
                })
            }
        }
    }
}

/// The error of one call among many, with its sources as text.
fn of_batch(index: usize, error: &Error) -> Error {
    let report = error.report();
    let reason = report.strip_prefix(&format!("{}: {}: ", error.operation(), error.kind())).unwrap_or(&report);
    Error::new(error.kind(), error.operation(), format!("call {index} of the batch: {reason}"))
}

#[cfg(test)]
mod tests {
    use celeriac_core::Signature;
    use celeriac_memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_call_at_fault_is_named_by_its_index_and_nothing_is_sent() {
        let store = MemoryStore::new();
        let config = ProducerConfig { max_body_bytes: 500, ..ProducerConfig::default() };
        let producer = Producer::builder(Arc::new(store.clone())).config(config).build().unwrap();
        let calls = [1, 1, 1, 1000].map(|size| Signature::named("add").arg("x".repeat(size)));
        let alone = producer.send(calls[3].clone()).await.unwrap_err();
        let error = producer.send_batch(calls).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(error.message(), format!("call 3 of the batch: {}", alone.message()));
        assert_eq!(store.depth(&QueueName::DEFAULT).await.unwrap(), 0);
    }
}
