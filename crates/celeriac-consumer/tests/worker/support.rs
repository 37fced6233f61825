//! Tasks in a line, workers that stop by themselves, and signals between a task and its test.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backend::ResultBackend;
use celeriac_broker::{Broker, ConsumeOptions, Delivery};
use celeriac_consumer::{Extensions, ShutdownHandle, TaskContext, Tasks, Worker, WorkerConfig};
use celeriac_core::{Clock, QueueName, SystemClock, TaskId, TaskMeta, TaskState, Value};
use celeriac_memory::MemoryStore;
use celeriac_producer::{Producer, ProducerConfig, ResultError};
use celeriac_serializer::{Json, Serializer as _};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};

/// Nothing that is waited for takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Defines a task: `task!(async Name(cx, x: i64) -> i64 { Ok(x) })`, or `sync` for one that blocks. Its name is `Name`.
macro_rules! task {
    (@blocking sync) => { true };
    (@blocking async) => { false };
    ($(#[$option:ident = $value:expr])* $kind:ident $name:ident($cx:ident $(, $arg:ident: $ty:ty)*) -> $out:ty $body:block) => {
        struct $name;

        impl celeriac_consumer::Define for $name {
            const NAME: &'static str = stringify!($name);
            const PARAMETERS: &'static [&'static str] = &[$(stringify!($arg)),*];
            type Output = $out;
            fn options() -> celeriac_consumer::TaskOptions {
                #[allow(unused_mut, reason = "not every task has options")]
                let mut options = celeriac_consumer::TaskOptions::default();
                $(options.$option = Some($value);)*
                options
            }
        }

        impl celeriac_consumer::Task for $name {
            const BLOCKING: bool = task!(@blocking $kind);
            #[allow(unused_mut, reason = "not every task has arguments")]
            async fn run<'a>(
                $cx: &'a celeriac_consumer::TaskContext,
                mut args: celeriac_consumer::Arguments<'a>,
            ) -> celeriac_consumer::TaskResult<$out> {
                let _ = $cx;
                $(let $arg: $ty = args.required(stringify!($arg))?;)*
                args.finish()?;
                $body
            }
        }
    };
}

/// What a task and its test tell each other.
pub(crate) struct Probe {
    told: mpsc::UnboundedSender<String>,
    gate: Semaphore,
    runtime: tokio::runtime::Handle,
}

impl Probe {
    /// From the task to the test.
    pub(crate) fn tell(&self, what: impl Into<String>) {
        drop(self.told.send(what.into()));
    }

    /// Waits in the task until the test lets one pass.
    pub(crate) async fn pass(&self) {
        self.gate.acquire().await.expect("the gate is never closed").forget();
    }

    /// As `pass`, on a thread that may block.
    pub(crate) fn pass_blocking(&self) {
        self.runtime.block_on(self.pass());
    }
}

/// The probe, in a task.
pub(crate) fn probe(cx: &TaskContext) -> Arc<Probe> {
    cx.state::<Arc<Probe>>().expect("every worker here has a probe").0.as_ref().clone()
}

/// A broker, a result backend and a producer over them.
pub(crate) struct Bench {
    pub(crate) store: MemoryStore,
    pub(crate) producer: Producer,
    pub(crate) probe: Arc<Probe>,
    pub(crate) clock: Arc<dyn Clock>,
    told: mpsc::UnboundedReceiver<String>,
}

impl Bench {
    /// The memory store as both.
    pub(crate) fn new() -> Self {
        let store = MemoryStore::new();
        Self::over(store.clone(), Arc::new(store.clone()), Arc::new(store), ProducerConfig::default())
    }

    pub(crate) fn configured(config: ProducerConfig) -> Self {
        let store = MemoryStore::new();
        Self::over(store.clone(), Arc::new(store.clone()), Arc::new(store), config)
    }

    /// `store` behind another broker or backend.
    pub(crate) fn over(
        store: MemoryStore,
        broker: Arc<dyn Broker>,
        backend: Arc<dyn ResultBackend>,
        config: ProducerConfig,
    ) -> Self {
        Self::timed(store, broker, backend, config, Arc::new(SystemClock))
    }

    pub(crate) fn timed(
        store: MemoryStore,
        broker: Arc<dyn Broker>,
        backend: Arc<dyn ResultBackend>,
        config: ProducerConfig,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let producer =
            Producer::builder(broker).backend(backend).config(config).clock(Arc::clone(&clock)).build().unwrap();
        let (sender, told) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Handle::current();
        let probe = Arc::new(Probe { told: sender, gate: Semaphore::new(0), runtime });
        Self { store, producer, probe, clock, told }
    }

    /// Starts a worker with two slots that fetches nothing ahead.
    pub(crate) fn start(&self, tasks: Tasks) -> Running {
        self.start_with(tasks, |_| {})
    }

    /// As `start`, with a configuration of its own.
    pub(crate) fn start_with(&self, tasks: Tasks, configure: impl FnOnce(&mut WorkerConfig)) -> Running {
        let mut config = WorkerConfig::default();
        config.name = "worker@test".to_owned();
        config.concurrency = slots(2);
        config.prefetch = celeriac_consumer::Prefetch::Fixed(0);
        configure(&mut config);
        let mut extensions = Extensions::default();
        extensions.insert(Arc::clone(&self.probe));
        let worker = Worker::builder(self.producer.clone(), tasks)
            .config(config)
            .clock(Arc::clone(&self.clock))
            .extensions(extensions)
            .build()
            .unwrap();
        Running { stop: worker.handle(), run: tokio::spawn(worker.run()) }
    }

    /// What a task told, in order.
    pub(crate) async fn told(&mut self) -> String {
        soon(self.told.recv()).await.expect("the bench keeps the sender")
    }

    /// What tasks told that was not asked for yet.
    pub(crate) fn told_so_far(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }

    /// Lets `count` tasks pass.
    pub(crate) fn open(&self, count: usize) {
        self.probe.gate.add_permits(count);
    }

    pub(crate) async fn meta(&self, id: &TaskId) -> Option<TaskMeta> {
        self.store.fetch(std::slice::from_ref(id)).await.unwrap().pop().flatten()
    }

    /// The final record of a task.
    pub(crate) async fn ended(&self, id: &TaskId) -> TaskMeta {
        let mut watch = self.store.watch(id).await.unwrap();
        soon(async {
            loop {
                let meta = watch.next().await.unwrap();
                if meta.state.is_ready() {
                    return meta;
                }
            }
        })
        .await
    }

    pub(crate) async fn depth(&self) -> u64 {
        self.store.depth(&QueueName::DEFAULT).await.unwrap()
    }

    /// Waits until `count` messages wait in the default queue.
    pub(crate) async fn depth_becomes(&self, count: u64) {
        celeriac_testkit::eventually(DEADLINE, async || self.depth().await == count).await;
    }

    /// Takes one message out of the default queue, as another worker would.
    pub(crate) async fn take(&self) -> Delivery {
        let other = self.store.connect();
        let mut consumer = other.consume(ConsumeOptions::new([QueueName::DEFAULT])).await.unwrap();
        soon(consumer.recv(NonZeroUsize::MIN)).await.unwrap().remove(0)
    }
}

/// A running worker; it is dropped with its test.
pub(crate) struct Running {
    pub(crate) stop: ShutdownHandle,
    run: tokio::task::JoinHandle<celeriac_core::Result<()>>,
}

impl Running {
    /// Stops it warm, and waits until it has.
    pub(crate) async fn shut_down(mut self) {
        self.stop.shutdown();
        soon(&mut self.run).await.unwrap().unwrap();
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(mut self) {
        soon(&mut self.run).await.unwrap().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.run.abort();
    }
}

pub(crate) fn slots(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).expect("a worker has slots")
}

/// Waits for what must come.
pub(crate) async fn soon<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it comes before the deadline")
}

/// The result of a task that succeeds.
pub(crate) async fn output<R: DeserializeOwned>(result: &celeriac_producer::AsyncResult<R>) -> R {
    soon(result.get()).await.unwrap_or_else(|error| panic!("{error}"))
}

/// How a task failed: its class and its text.
pub(crate) async fn failed<R: DeserializeOwned>(result: &celeriac_producer::AsyncResult<R>) -> (String, String) {
    match soon(result.get()).await {
        Err(ResultError::Failure(failure)) => {
            (format!("{}.{}", failure.exc_module.clone().unwrap_or_default(), failure.exc_type), failure.message())
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the task succeeded"),
    }
}

/// The value in a record.
pub(crate) fn stored(meta: &TaskMeta) -> Value {
    meta.result.as_ref().map(|payload| Json.decode_value(&payload.data).unwrap()).unwrap_or_default()
}

pub(crate) fn is_success(meta: &TaskMeta) -> bool {
    meta.state == TaskState::Success
}
