//! Puts an app together.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backend::ResultBackend;
use celeriac_broker::{Broker, QueueSpec};
#[cfg(feature = "worker")]
use celeriac_consumer::{Extensions, Tasks, WorkerConfig};
use celeriac_core::{Clock, Error, QueueName, Result, SystemClock};
#[cfg(feature = "beat")]
use celeriac_producer::IntoCall;
use celeriac_producer::{Producer, ProducerConfig, Route, Router};
#[cfg(feature = "beat")]
use celeriac_schedule::ScheduleStore;
#[cfg(feature = "beat")]
use celeriac_scheduler::{Entry, ScheduleBuilder};
use celeriac_serializer::{Serializer, Serializers};

use crate::app::{App, Inner};
use crate::config::{Config, Secret};
#[cfg(feature = "beat")]
use crate::declare;
use crate::open::{Given, Opened, open};
use crate::system::{System, Systems};

/// Puts an [`App`] together. Whatever is wrong is told by [`AppBuilder::build`].
#[derive(Debug)]
#[must_use]
pub struct AppBuilder {
    name: String,
    config: Config,
    env: bool,
    systems: Systems,
    given: Given,
    clock: Arc<dyn Clock>,
    #[cfg(feature = "beat")]
    entries: Vec<Entry>,
    queues: Vec<QueueSpec>,
    router: Router,
    formats: Vec<Arc<dyn Serializer>>,
    #[cfg(feature = "worker")]
    tasks: Tasks,
    #[cfg(feature = "worker")]
    extensions: Extensions,
    error: Option<Error>,
}

impl AppBuilder {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            config: Config::default(),
            env: true,
            systems: Systems::default(),
            given: Given::default(),
            clock: Arc::new(SystemClock),
            #[cfg(feature = "beat")]
            entries: Vec::new(),
            queues: Vec::new(),
            router: Router::new(),
            formats: Vec::new(),
            #[cfg(feature = "worker")]
            tasks: Tasks::new(),
            #[cfg(feature = "worker")]
            extensions: Extensions::default(),
            error: None,
        }
    }

    /// Sets where tasks are sent to: `memory://`, `memory://name`, `sqlite:///path/to/file.db`, `redis://host/0`, `amqp://host/vhost`, or a
    /// scheme of your own. Default:
    /// `CELERIAC_BROKER_URL`, else `CELERY_BROKER_URL`, else the embedded file `celeriac/<app>.db` in `$XDG_DATA_HOME`, which is
    /// `~/.local/share` if not set.
    pub fn broker_url(mut self, url: impl Into<String>) -> Self {
        self.config.broker_url = Some(Secret(url.into()));
        self
    }

    /// Sets where results are stored; `rpc://` sends them as messages through RabbitMQ, where that is the broker. Default:
    /// `CELERIAC_RESULT_BACKEND`, else `CELERY_RESULT_BACKEND`, else the broker's own system.
    pub fn result_backend(mut self, url: impl Into<String>) -> Self {
        self.config.result_backend = Some(Secret(url.into()));
        self
    }

    /// Uses this broker, whatever the URL says.
    pub fn broker(mut self, broker: Arc<dyn Broker>) -> Self {
        self.given.broker = Some(broker);
        self
    }

    /// Uses this result backend, whatever the URL says.
    pub fn backend(mut self, backend: Arc<dyn ResultBackend>) -> Self {
        self.given.backend = Some(backend);
        self
    }

    /// Sets where the schedule is kept, for `app.beat()`: a URL as for [`AppBuilder::broker_url`], of a system that all who run the schedule
    /// share. Default: `CELERIAC_SCHEDULE_URL`, else the broker's own system, else that of the results. RabbitMQ keeps none.
    ///
    /// All beats on one store share one leader, which sends all entries there to its own app's broker, by that app's routes and default queue. So apps
    /// with different brokers or routes need different stores: another database, key prefix (`global_keyprefix` for Redis) or file each.
    #[cfg(feature = "beat")]
    pub fn schedule_url(mut self, url: impl Into<String>) -> Self {
        self.config.schedule_url = Some(Secret(url.into()));
        self
    }

    /// Uses this store of schedules, whatever the URL says.
    #[cfg(feature = "beat")]
    pub fn schedule_store(mut self, store: Arc<dyn ScheduleStore>) -> Self {
        self.given.schedule = Some(store);
        self
    }

    /// Declares an entry of the schedule: `.schedule("cleanup", every(30.minutes()), cleanup::s())`, or `crontab("*/15 9-17 * * mon-fri")`, or the text
    /// of a [`Schedule`](crate::scheduler::Schedule).
    ///
    /// What is sent is kept as data, with the options that the task is defined with. Nothing is written when the app is built: a [beat](App::beat)
    /// brings the declared entries into the store when it starts, and removes those that it finds there of an app of this name and
    /// that are declared no more. So programs that share a name and run a beat declare the same entries.
    ///
    /// # Examples
    /// ```
    /// use celeriac::prelude::*;
    ///
    /// #[celeriac::task]
    /// async fn cleanup(days: u32) {
    ///     println!("what is older than {days} days goes");
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> celeriac::Result<()> {
    /// let app = App::builder("shop")
    ///     .broker_url("memory://")
    ///     .tasks(tasks![cleanup])
    ///     .schedule("cleanup", crontab("30 2 * * *").tz("Europe/Berlin"), cleanup::s(30))
    ///     .schedule("reports", "every 1d", Signature::named("reports.daily").option("queue", "python"))
    ///     .build()
    ///     .await?;
    ///
    /// let worker = app.worker().with_beat().build()?;
    /// let stop = worker.handle();
    /// # stop.shutdown();
    /// worker.run().await
    /// # }
    /// ```
    #[cfg(feature = "beat")]
    pub fn schedule<C: IntoCall>(
        self,
        name: impl Into<Cow<'static, str>>,
        schedule: impl Into<ScheduleBuilder>,
        call: C,
    ) -> Self {
        self.schedule_with(name, schedule, call, |entry| entry)
    }

    /// As [`AppBuilder::schedule`], with more to say of the entry: `|entry| entry.catch_up(CatchUp::Skip).jitter(10.seconds())`.
    #[cfg(feature = "beat")]
    pub fn schedule_with<C: IntoCall>(
        mut self,
        name: impl Into<Cow<'static, str>>,
        schedule: impl Into<ScheduleBuilder>,
        call: C,
        change: impl FnOnce(Entry) -> Entry,
    ) -> Self {
        match declare::entry(name.into(), schedule.into(), call) {
            Ok(entry) => self.entries.push(change(entry)),
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
        self
    }

    /// Takes the time from `clock`, for tests: what is sent, worked on and scheduled goes by it. Systems opened by URL go by the machine's clock in any
    /// case. Default the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Adds a URL scheme of your own.
    pub fn scheme<F, O>(mut self, scheme: impl Into<String>, open: O) -> Self
    where
        F: Future<Output = Result<System>> + Send + 'static,
        O: Fn(String) -> F + Send + Sync + 'static,
    {
        self.systems.insert(scheme.into(), Arc::new(move |url| Box::pin(open(url))));
        self
    }

    /// Sets many things at once; what is set one by one before or after wins.
    pub fn config(mut self, config: Config) -> Self {
        self.config = self.config.or(config);
        self
    }

    /// Whether the environment is read. Default: yes.
    pub fn read_env(mut self, read: bool) -> Self {
        self.env = read;
        self
    }

    /// Registers tasks: `.tasks(tasks![add, send_mail])`. May be called again for more.
    #[cfg(feature = "worker")]
    pub fn tasks(mut self, tasks: Tasks) -> Self {
        self.tasks = self.tasks.and(tasks);
        self
    }

    /// Adds shared state, which tasks get by a parameter of type `State<T>`.
    #[cfg(feature = "worker")]
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.extensions.insert(state);
        self
    }

    /// Declares a queue with wishes of its own. Plain queues need no declaration.
    pub fn queue(mut self, queue: QueueSpec) -> Self {
        self.queues.push(queue);
        self
    }

    /// Sends the tasks that match `pattern` (`mail.*`, `job[0-9]`, see [`Router`](crate::producer::Router)) to `queue`, unless task or call name
    /// another. A task's own name decides wherever it stands, else the first pattern that matches.
    pub fn route(mut self, pattern: impl Into<String>, queue: impl Into<Cow<'static, str>>) -> Self {
        let routed = QueueName::new(queue).and_then(|queue| self.router.clone().route(pattern, Route::to(queue)));
        match routed {
            Ok(router) => self.router = router,
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
        self
    }

    /// Sets the queue for tasks that nothing else is said of. Default: `celery`.
    pub fn default_queue(mut self, queue: impl Into<Cow<'static, str>>) -> Self {
        match QueueName::new(queue) {
            Ok(queue) => self.config.default_queue = Some(queue),
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
        self
    }

    /// Sets the format of bodies, by name. Default: `json`, which Python reads.
    pub fn serializer(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.config.serializer = Some(name.into());
        self
    }

    /// Sets the format of results, by name. Default: `json`.
    pub fn result_serializer(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.config.result_serializer = Some(name.into());
        self
    }

    /// Adds a format of your own, and accepts it.
    pub fn register_serializer(mut self, format: Arc<dyn Serializer>) -> Self {
        self.formats.push(format);
        self
    }

    /// Accepts these formats, by name, beside JSON and those that the app itself writes.
    pub fn accept<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.config.accept = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Compresses bodies, by Celery's name, such as `zlib` or `zstd`. Default: not.
    pub fn compression(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.config.compression = Some(name.into());
        self
    }

    /// Sets how long sending may take before it fails. Default: 10 s. A broker with a limit of its own, as RabbitMQ with `publish_timeout` in its
    /// URL, ends it sooner where that one is shorter.
    pub fn publish_timeout(mut self, limit: Duration) -> Self {
        self.config.publish_timeout = Some(limit);
        self
    }

    /// Sets how long results are kept. Default: a day.
    pub fn result_expires(mut self, after: Duration) -> Self {
        self.config.result_expires = Some(after);
        self
    }

    /// Sets the largest body that is sent or read, in bytes, compressed or not. Default: 64 MiB.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.config.max_body_bytes = Some(bytes);
        self
    }

    /// Sets the largest result that is stored, in bytes. Default: 64 MiB.
    pub fn max_result_bytes(mut self, bytes: usize) -> Self {
        self.config.max_result_bytes = Some(bytes);
        self
    }

    /// Opens broker, result backend and store of schedules, declares the queues, and makes the app.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming what is wrong: a URL, a scheme, a path, an option, a variable, a task
    /// registered twice, an entry of the schedule and its field; what the system says when it is opened.
    pub async fn build(self) -> Result<App> {
        if let Some(error) = self.error {
            return Err(error);
        }
        #[cfg(feature = "worker")]
        self.tasks.check()?;
        let config = if self.env { self.config.or(Config::from_env()?) } else { self.config };

        let opened = open(&self.name, &config, &self.systems, self.given).await?;
        let Opened { broker, backend, .. } = &opened;
        for queue in &self.queues {
            broker.declare(queue).await?;
        }

        let mut producer = ProducerConfig::default();
        producer.router = self.router;
        producer.compression = config.compression;
        if let Some(queue) = config.default_queue {
            producer.default_queue = queue;
        }
        if let Some(limit) = config.max_body_bytes {
            producer.max_body_bytes = limit;
        }
        if let Some(limit) = config.publish_timeout {
            producer.publish_timeout = limit;
        }
        if let Some(name) = config.serializer {
            producer.serializer = name;
        }
        let result_serializer = config.result_serializer.unwrap_or(Cow::Borrowed("json"));
        let mut accept = vec![producer.serializer.to_string(), result_serializer.to_string()];
        accept.extend(config.accept.into_iter().flatten());
        #[cfg(feature = "worker")]
        accept.extend(self.tasks.serializers());
        producer.serializers = serializers(self.formats, accept)?;

        #[cfg(feature = "worker")]
        let worker = {
            let mut worker = WorkerConfig::default();
            worker.serializers = producer.serializers.clone();
            worker.result_serializer = result_serializer;
            worker.max_body_bytes = producer.max_body_bytes;
            worker.queues = config.queues.unwrap_or_else(|| vec![producer.default_queue.clone()]);
            if let Some(concurrency) = config.concurrency {
                worker.concurrency = concurrency;
            }
            if let Some(limit) = config.max_result_bytes {
                worker.max_result_bytes = limit;
            }
            if let Some(after) = config.result_expires {
                worker.result_expires = Some(after);
            }
            worker
        };

        let mut builder = Producer::builder(Arc::clone(broker)).config(producer).clock(Arc::clone(&self.clock));
        if let Some(backend) = backend {
            builder = builder.backend(Arc::clone(backend));
        }
        let producer = builder.build()?;
        #[cfg(feature = "beat")]
        declare::check(
            &self.entries,
            &producer,
            #[cfg(feature = "worker")]
            &declare::Own { tasks: &self.tasks, queues: &worker.queues },
        )?;
        let inner = Inner {
            name: self.name,
            clock: self.clock,
            producer,
            #[cfg(feature = "beat")]
            schedule: opened.schedule,
            #[cfg(feature = "beat")]
            entries: self.entries,
            #[cfg(feature = "worker")]
            extensions: self.extensions,
            #[cfg(feature = "worker")]
            tasks: self.tasks,
            #[cfg(feature = "worker")]
            worker,
        };
        Ok(App { inner: Arc::new(inner) })
    }
}

fn serializers(formats: Vec<Arc<dyn Serializer>>, mut accept: Vec<String>) -> Result<Serializers> {
    let mut serializers = Serializers::new();
    for format in formats {
        accept.push(format.name().to_owned());
        serializers = serializers.register(format);
    }
    // JSON goes without saying, where it is compiled in.
    if serializers.by_name("json").is_ok() {
        accept.push("json".to_owned());
    }
    serializers.accept(accept)
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use super::*;

    fn app(backend: &str) -> AppBuilder {
        App::builder("shop").broker_url("memory://").result_backend(backend)
    }

    #[tokio::test]
    async fn results_by_messages_take_rabbitmq_as_broker() {
        for backend in ["rpc://", "RPC://", "rpc"] {
            let error = app(backend).build().await.unwrap_err();
            assert!(error.to_string().contains("takes RabbitMQ as broker"), "{backend}: {error}");
        }
        for backend in ["rpc://localhost", "rpc://?expires=1"] {
            let error = app(backend).build().await.unwrap_err();
            assert!(error.to_string().contains("stands alone"), "{backend}: {error}");
        }
    }

    #[tokio::test]
    async fn a_scheme_of_ones_own_may_have_that_name() {
        let error = app("rpc://mine").scheme("rpc", |_| async { Ok(System::new()) }).build().await.unwrap_err();
        assert!(error.to_string().contains("stores no results"), "{error}");
    }
}
