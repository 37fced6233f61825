//! Puts an app together.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use celeriac_backend::ResultBackend;
use celeriac_broker::{Broker, QueueSpec};
#[cfg(feature = "worker")]
use celeriac_consumer::{Extensions, Tasks, WorkerConfig};
use celeriac_core::{Error, QueueName, Result};
use celeriac_producer::{Producer, ProducerConfig, Route, Router};
use celeriac_serializer::{Serializer, Serializers};

use crate::app::{App, Inner};
use crate::config::{Config, Secret};
use crate::system::{self, System, Systems};

/// Puts an [`App`] together. Whatever is wrong is told by [`AppBuilder::build`].
#[derive(Debug)]
#[must_use]
pub struct AppBuilder {
    name: String,
    config: Config,
    env: bool,
    systems: Systems,
    broker: Option<Arc<dyn Broker>>,
    backend: Option<Arc<dyn ResultBackend>>,
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
            broker: None,
            backend: None,
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
        self.broker = Some(broker);
        self
    }

    /// Uses this result backend, whatever the URL says.
    pub fn backend(mut self, backend: Arc<dyn ResultBackend>) -> Self {
        self.backend = Some(backend);
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

    /// Opens broker and result backend, declares the queues, and makes the app.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming what is wrong: a URL, a scheme, a path, an option, a variable, a task
    /// registered twice; what the system says when it is opened.
    pub async fn build(self) -> Result<App> {
        if let Some(error) = self.error {
            return Err(error);
        }
        #[cfg(feature = "worker")]
        self.tasks.check()?;
        let config = if self.env { self.config.or(Config::from_env()?) } else { self.config };

        let (broker, backend) = open(&self.name, &config, &self.systems, self.broker, self.backend).await?;
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

        let mut builder = Producer::builder(broker).config(producer);
        if let Some(backend) = backend {
            builder = builder.backend(backend);
        }
        let inner = Inner {
            name: self.name,
            producer: builder.build()?,
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

type Opened = (Arc<dyn Broker>, Option<Arc<dyn ResultBackend>>);

async fn open(
    name: &str,
    config: &Config,
    systems: &Systems,
    broker: Option<Arc<dyn Broker>>,
    backend: Option<Arc<dyn ResultBackend>>,
) -> Result<Opened> {
    let backend_url = config.result_backend.as_ref().map(|url| url.0.clone());
    let mut own = None;
    let mut broker_url = None;
    let broker = match broker {
        Some(broker) => broker,
        None => {
            let system = match &config.broker_url {
                Some(url) => systems.open(&url.0).await?,
                None => system::embedded(name).await?,
            };
            broker_url = config.broker_url.as_ref().map(|url| &url.0);
            own = system.backend;
            system.broker.ok_or_else(|| Error::config("open", "the broker's URL names a system that is no broker"))?
        }
    };
    let backend = match (backend, backend_url) {
        (Some(backend), _) => Some(backend),
        (None, None) => own,
        (None, Some(url)) if systems.is_rpc(&url) => Some(by_messages(&url, broker_url, own)?),
        // One and the same system is opened once, so that a result and an acknowledgement can be written as one.
        (None, Some(url)) if broker_url == Some(&url) && own.is_some() => own,
        (None, Some(url)) => {
            let system = systems.open(&url).await?;
            let backend = system.backend;
            Some(backend.ok_or_else(|| {
                Error::config("open", "the result backend's URL names a system that stores no results")
            })?)
        }
    };
    Ok((broker, backend))
}

/// The backend of `rpc://`: that of the broker itself, where it has one that answers by messages.
fn by_messages(
    url: &str,
    broker_url: Option<&String>,
    own: Option<Arc<dyn ResultBackend>>,
) -> Result<Arc<dyn ResultBackend>> {
    if !matches!(url.to_ascii_lowercase().as_str(), "rpc" | "rpc:" | "rpc://") {
        let message =
            "the result backend `rpc://` stands alone: it goes through the broker, and has no host and no options";
        return Err(Error::config("open", message));
    }
    let of_rabbitmq = |url: &&String| {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        ["amqp", "amqps", "pyamqp"].iter().any(|name| name.eq_ignore_ascii_case(scheme))
    };
    broker_url.filter(of_rabbitmq).and(own).ok_or_else(|| {
        let message =
            "the result backend `rpc://` takes RabbitMQ as broker, by a URL that begins with `amqp://` or `amqps://`";
        Error::config("open", message)
    })
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
