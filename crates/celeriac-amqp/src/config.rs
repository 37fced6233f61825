//! `AmqpConfig`: which server, and how to use it.

mod url;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use celeriac_core::{Error, Result};

/// RabbitMQ takes no larger ones, whatever it is told.
const MOST_MESSAGE_BYTES: usize = 512 * 1024 * 1024;

/// The most milliseconds that RabbitMQ lets anything live: some 49 days.
const LONGEST: Duration = Duration::from_millis(0xffff_ffff);

/// Where RabbitMQ is, how to reach it, and which kinds of queues celeriac makes there.
///
/// Secrets show in no `Debug` output and in no error.
///
/// # Examples
/// ```
/// use celeriac_amqp::{AmqpConfig, QueueType};
///
/// let config = AmqpConfig::from_url("amqp://user:secret@localhost/shop?heartbeat=10")?.queue_type(QueueType::Quorum);
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Clone)]
pub struct AmqpConfig {
    /// The servers in the order in which they are named; at least one.
    pub(crate) servers: Vec<Server>,
    pub(crate) failover: FailoverStrategy,
    pub(crate) vhost: String,
    pub(crate) auth: Auth,
    pub(crate) certificates: Certificates,
    pub(crate) connection_name: String,
    pub(crate) heartbeat: Duration,
    pub(crate) frame_max: u32,
    pub(crate) queue_type: QueueType,
    pub(crate) delay_queue_type: QueueType,
    pub(crate) max_priority: Option<u8>,
    pub(crate) connect_timeout: Duration,
    pub(crate) startup_timeout: Duration,
    pub(crate) publish_timeout: Duration,
    /// Zero where the server has none.
    pub(crate) consumer_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    pub(crate) result_expires: Duration,
}

/// The kind of queue that is made where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum QueueType {
    /// One replica, as Celery makes them unless it is told otherwise.
    #[default]
    Classic,
    /// Replicated, and deliveries are counted.
    Quorum,
}

impl QueueType {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Classic => Self::Quorum,
            Self::Quorum => Self::Classic,
        }
    }
}

/// Which of several servers is tried next, when the present one is gone: Celery's `broker_failover_strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FailoverStrategy {
    /// In the order in which they are named, beginning with the one that was good last time.
    #[default]
    RoundRobin,
    /// The one that was good last time, then the others in any order. So clients spread over the servers of a cluster.
    Shuffle,
}

/// How a client says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Auth {
    /// By user and password.
    #[default]
    Plain,
    /// By the certificate that it shows: SASL's `EXTERNAL`, which RabbitMQ has from its plugin `rabbitmq_auth_mechanism_ssl`.
    External,
}

/// One server, and the credentials for it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// `None`, here or below, is RabbitMQ's `guest`.
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

/// What TLS trusts and shows. Files are read when a store is opened; the key may stand in the certificate's file.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    pub(crate) authority: Option<Pem>,
    pub(crate) certificate: Option<Pem>,
    pub(crate) key: Option<Pem>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Pem {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl AmqpConfig {
    /// The schemes of the URLs that [`from_url`](Self::from_url) reads, in lower case; it reads them in any.
    pub const SCHEMES: &[&str] = &url::NAMES;

    /// Reads a URL, as kombu reads it.
    ///
    /// - `amqp://[[user]:password@]host[:port][/vhost]`, with TLS `amqps://`; `pyamqp://`, Celery's alias, is the same as `amqp://`.
    /// - User and password are `guest` where they are left out, the port is 5672, or 5671 with TLS.
    /// - The virtual host is what follows the first `/` behind the host, and `/` itself where nothing does: `amqp://host`, `amqp://host/` and
    ///   `amqp://host//` all name `/`, `amqp://host/shop` names `shop`.
    /// - Several servers, joined by `;`, are tried in their order, or as [`failover_strategy`](Self::failover_strategy) says. What a later
    ///   one leaves out (scheme, user and password, virtual host) is as in the first one.
    ///
    /// User, password, virtual host and options are percent-decoded. Options follow the last server after `?`, joined by `&`:
    ///
    /// | option | value |
    /// |---|---|
    /// | `auth`, or RabbitMQ's and kombu's own words for it, `auth_mechanism` and `login_method` | `plain` or `external`: see [`auth`](Self::auth) |
    /// | `connection_name` | see [`connection_name`](Self::connection_name) |
    /// | `consumer_timeout`, `connect_timeout`, `heartbeat`, `publish_timeout`, `result_expires`, `startup_timeout` | seconds |
    /// | `failover_strategy` | `round-robin` or `shuffle` |
    /// | `frame_max`, `max_message_bytes` | bytes |
    /// | `max_priority` | a number of 1 to 255 |
    /// | `queue_type`, `delay_queue_type` | `classic` or `quorum` |
    /// | `ssl_ca_certs` | a file of PEM: the authorities to trust instead of the system's |
    /// | `ssl_certfile`, `ssl_keyfile` | files of PEM: the certificate to show to the server, and its key; may be one file |
    /// | `ssl_cert_reqs` | `required`, which is how it is anyway |
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming the part that is wrong, never its text where that could be
    /// a secret.
    pub fn from_url(url: &str) -> Result<Self> {
        url::parse(url)
    }

    /// Everything at its default.
    fn at(servers: Vec<Server>) -> Self {
        Self {
            servers,
            failover: FailoverStrategy::RoundRobin,
            vhost: "/".to_owned(),
            auth: Auth::Plain,
            certificates: Certificates::default(),
            connection_name: "celeriac".to_owned(),
            heartbeat: Duration::from_secs(60),
            frame_max: 128 * 1024,
            queue_type: QueueType::Classic,
            delay_queue_type: QueueType::Quorum,
            max_priority: None,
            connect_timeout: Duration::from_secs(4),
            startup_timeout: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(30),
            consumer_timeout: Duration::from_secs(1800),
            max_message_bytes: 64 * 1024 * 1024,
            result_expires: Duration::from_secs(86_400),
        }
    }

    /// Which of several servers is tried next. Default [`FailoverStrategy::RoundRobin`].
    #[must_use]
    pub fn failover_strategy(mut self, strategy: FailoverStrategy) -> Self {
        self.failover = strategy;
        self
    }

    /// The virtual host: its queues and exchanges are apart from those of all others. Default the one of the URL, else `/`.
    #[must_use]
    pub fn vhost(mut self, vhost: impl Into<String>) -> Self {
        self.vhost = vhost.into();
        self
    }

    /// The user, at every server. Default the one of the URL, else `guest`, whom RabbitMQ lets in from its own machine only.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        let username = username.into();
        self.servers.iter_mut().for_each(|server| server.username = Some(username.clone()));
        self
    }

    /// The password, at every server. Default the one of the URL, else `guest`.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        let password = password.into();
        self.servers.iter_mut().for_each(|server| server.password = Some(password.clone()));
        self
    }

    /// How the client says who it is. Default [`Auth::Plain`]. [`Auth::External`] takes TLS and a client certificate.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// The certificates, as PEM, of the authorities that TLS trusts. Default those of the system.
    #[must_use]
    pub fn ca_certificate_pem(mut self, authority: impl Into<Vec<u8>>) -> Self {
        self.certificates.authority = Some(Pem::Bytes(authority.into()));
        self
    }

    /// What TLS shows to the server: the certificate, with those between it and the authority, and its key, both as PEM.
    /// Default nothing.
    #[must_use]
    pub fn client_certificate_pem(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.certificates.certificate = Some(Pem::Bytes(certificate.into()));
        self.certificates.key = Some(Pem::Bytes(key.into()));
        self
    }

    /// What RabbitMQ's own tools call the connections: one that sends, one that receives, each with that word behind the name. Default
    /// `celeriac`.
    #[must_use]
    pub fn connection_name(mut self, name: impl Into<String>) -> Self {
        self.connection_name = name.into();
        self
    }

    /// After how long a silence of the other side a connection is given up, in whole seconds; both sides say something twice as often.
    /// The server may ask for less. Default 60 seconds; zero leaves it to the server.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// The most bytes of one frame, 4096 to 1 MiB; the server may ask for less. Default 128 KiB, RabbitMQ's own. The headers and properties
    /// of a message must fit into one. Each of the two connections takes 64 times as much memory.
    #[must_use]
    pub fn frame_max(mut self, bytes: u32) -> Self {
        self.frame_max = bytes;
        self
    }

    /// The type of the queues that are made, where [`QueueSpec::arguments`](celeriac_broker::QueueSpec) do not say: Celery's
    /// `task_default_queue_type`. Default [`QueueType::Classic`]. Every process that declares the queues must agree.
    #[must_use]
    pub fn queue_type(mut self, kind: QueueType) -> Self {
        self.queue_type = kind;
        self
    }

    /// The type of the queues that keep what is to be delivered later: Celery's `broker_native_delayed_delivery_queue_type`. Default
    /// [`QueueType::Quorum`], as Celery has it. If they are there already, they are used as they are.
    #[must_use]
    pub fn delay_queue_type(mut self, kind: QueueType) -> Self {
        self.delay_queue_type = kind;
        self
    }

    /// Makes queues that heed priorities from 0 to `max_priority`, 1 to 255: Celery's `task_queue_max_priority`. Default: they heed none.
    /// RabbitMQ keeps a structure for each level, so few are better, 10 at most. Only for [`QueueType::Classic`]. Every process that
    /// declares the queues must agree.
    #[must_use]
    pub fn max_priority(mut self, max_priority: u8) -> Self {
        self.max_priority = Some(max_priority);
        self
    }

    /// How long one attempt to connect to one server may take, until RabbitMQ has let the client in. Default 4 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long opening a store goes on trying to reach a server. Default 10 seconds. Once open, a store waits for its server
    /// as long as its callers do.
    #[must_use]
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.startup_timeout = timeout;
        self
    }

    /// How long publishing may take until RabbitMQ has confirmed, also where the connection is lost meanwhile or RabbitMQ takes nothing
    /// because it is short of memory or disk. Default 30 seconds. An app has a shorter limit of its own for what it sends.
    #[must_use]
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }

    /// How long RabbitMQ waits for an acknowledgement before it closes the channel: the server's own `consumer_timeout`. Default 30 minutes,
    /// as RabbitMQ has it; zero if the server has none. What runs for longer is kept alive, which takes this to be no longer than what
    /// the server is told.
    #[must_use]
    pub fn consumer_timeout(mut self, timeout: Duration) -> Self {
        self.consumer_timeout = timeout;
        self
    }

    /// The most bytes of one message or one result. Default 64 MiB, at most 512 MiB. RabbitMQ has a limit of its own, `max_message_size`: 16
    /// MiB since version 4, 128 MiB before.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// How long results are kept that came and were not asked for, and how long the queue that they come to outlives its connection:
    /// Celery's `result_expires`. Default a day, at most 49 days.
    #[must_use]
    pub fn result_expires(mut self, expires: Duration) -> Self {
        self.result_expires = expires;
        self
    }

    /// The servers and the virtual host, without credentials: for logs.
    pub(crate) fn shown(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        format!("{}, virtual host `{}`", servers.join(";"), self.vhost)
    }

    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config) naming the option.
    /// How long the server waits for what it delivered to be settled; `None` for as long as it takes.
    pub(crate) fn patience(&self) -> Option<Duration> {
        Some(self.consumer_timeout).filter(|timeout| !timeout.is_zero())
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::config("open", why));
        for server in &self.servers {
            if let (Some(username), None) = (&server.username, &server.password) {
                return refuse(format!(
                    "a password for user `{username}` is missing; an empty one is written as `user:@host`"
                ));
            }
            if server.tls && cfg!(not(feature = "tls")) {
                return refuse(
                    "TLS (`amqps://`) takes the feature `amqp-tls` of celeriac, or `tls` of celeriac-amqp".to_owned(),
                );
            }
        }
        let Certificates { authority, certificate, key } = &self.certificates;
        let some = authority.is_some() || certificate.is_some() || key.is_some();
        if some && !self.servers.iter().any(|server| server.tls) {
            return refuse(
                "certificates are given, but no server is reached by TLS: `amqps://` instead of `amqp://`".to_owned(),
            );
        }
        if key.is_some() && certificate.is_none() {
            return refuse("`ssl_keyfile` is given without `ssl_certfile`".to_owned());
        }
        let all_tls = self.servers.iter().all(|server| server.tls);
        if self.auth == Auth::External && (certificate.is_none() || !all_tls) {
            return refuse(
                "`auth=external` takes a certificate to show, `ssl_certfile`, and TLS to every server, `amqps://`"
                    .to_owned(),
            );
        }
        if self.vhost.is_empty() || self.vhost.len() > 255 {
            return refuse("the virtual host must have 1 to 255 bytes".to_owned());
        }
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("publish_timeout", self.publish_timeout),
            ("result_expires", self.result_expires),
        ] {
            if value < Duration::from_millis(1) {
                return refuse(format!("`{name}` must be at least 1 millisecond"));
            }
        }
        for (name, value) in [("consumer_timeout", self.consumer_timeout), ("result_expires", self.result_expires)] {
            if value > LONGEST {
                return refuse(format!("`{name}` must be no more than 4294967 seconds, some 49 days"));
            }
        }
        if !self.consumer_timeout.is_zero() && self.consumer_timeout < Duration::from_secs(1) {
            return refuse("`consumer_timeout` must be at least 1 second, or zero for none".to_owned());
        }
        if self.heartbeat.subsec_nanos() != 0 || self.heartbeat.as_secs() > u64::from(u16::MAX) {
            return refuse(
                "`heartbeat` must be a whole number of seconds, at most 65535; 0 leaves it to the server".to_owned(),
            );
        }
        if !(4096..=1024 * 1024).contains(&self.frame_max) {
            return refuse("`frame_max` must be 4096 to 1048576".to_owned());
        }
        if self.max_priority == Some(0) {
            return refuse("`max_priority` must be 1 to 255".to_owned());
        }
        if self.max_priority.is_some() && self.queue_type == QueueType::Quorum {
            return refuse("`max_priority` is for classic queues, and `queue_type` is quorum".to_owned());
        }
        if self.max_message_bytes == 0 || self.max_message_bytes > MOST_MESSAGE_BYTES {
            return refuse(format!("`max_message_bytes` must be 1 to {MOST_MESSAGE_BYTES}"));
        }
        Ok(())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Debug for AmqpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpConfig")
            .field("servers", &self.servers)
            .field("failover_strategy", &self.failover)
            .field("vhost", &self.vhost)
            .field("auth", &self.auth)
            .field("connection_name", &self.connection_name)
            .field("heartbeat", &self.heartbeat)
            .field("frame_max", &self.frame_max)
            .field("queue_type", &self.queue_type)
            .field("delay_queue_type", &self.delay_queue_type)
            .field("max_priority", &self.max_priority)
            .field("connect_timeout", &self.connect_timeout)
            .field("startup_timeout", &self.startup_timeout)
            .field("publish_timeout", &self.publish_timeout)
            .field("consumer_timeout", &self.consumer_timeout)
            .field("max_message_bytes", &self.max_message_bytes)
            .field("result_expires", &self.result_expires)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}{}", if self.tls { " by TLS" } else { "" })
    }
}

#[cfg(test)]
mod tests;
