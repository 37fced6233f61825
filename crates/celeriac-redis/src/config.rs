//! `RedisConfig`: which server, and how to use it.

mod url;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use celeriac_core::{Error, Result};

/// Redis keeps strings of up to 512 MiB; the envelope around a message needs some of it.
const MOST_MESSAGE_BYTES: usize = 500_000_000;

/// Where Redis is, how to reach it, and which of Celery's conventions its keys follow.
///
/// Secrets show in no `Debug` output and in no error.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use celeriac_redis::RedisConfig;
///
/// let config = RedisConfig::from_url("redis://:secret@localhost:6379/1?global_keyprefix=shop_")?.lease(Duration::from_secs(5));
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    /// The servers in the order in which they are tried, or the sentinels to ask for one; at least one.
    pub(crate) servers: Vec<Server>,
    /// Set when `servers` are sentinels.
    pub(crate) sentinel: Option<Sentinel>,
    pub(crate) db: u32,
    pub(crate) protocol: Protocol,
    pub(crate) certificates: Certificates,
    pub(crate) global_keyprefix: String,
    /// As it was given; [`RedisConfig::result_prefix`] is what stands before keys.
    pub(crate) result_keyprefix: String,
    pub(crate) visibility_timeout: Duration,
    pub(crate) lease: Duration,
    /// Ascending, beginning with 0.
    pub(crate) priority_steps: Vec<u8>,
    pub(crate) priority_order: PriorityOrder,
    /// What stands before the names of fanout channels, with `{db}` for the database; empty where there is no prefix.
    pub(crate) fanout_prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) startup_timeout: Duration,
    pub(crate) max_message_bytes: usize,
}

/// Which messages of one queue come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PriorityOrder {
    /// Those with the lowest number, as Python's Celery does it on Redis. Every process that shares the queues must agree.
    #[default]
    Celery,
    /// Those with the highest number, as RabbitMQ does it. For queues that no Python worker shares.
    Highest,
}

/// The version of Redis' protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// The one that proxies and old servers speak. Waiting for messages then takes a connection for each list.
    Resp2,
    /// The one in which the server tells on its own what has changed.
    #[default]
    Resp3,
}

/// One server, or one sentinel, and the credentials for Redis itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) address: Address,
    pub(crate) tls: bool,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Sentinel {
    pub(crate) master_name: String,
    /// The credentials for the sentinels themselves.
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

impl RedisConfig {
    /// The schemes of the URLs that [`from_url`](Self::from_url) reads, in lower case; it reads them in any.
    pub const SCHEMES: &[&str] = &url::NAMES;

    /// Reads a URL: those of kombu, redis-py and redis-rs.
    ///
    /// - `redis://[[user]:password@]host[:port][/db]`, with TLS `rediss://`; `valkey://` and `valkeys://` are the same.
    /// - `redis+socket:///path?virtual_host=db`, `unix:///path?db=1`, `redis+unix:///path` or `valkey+unix:///path` for a Unix socket.
    /// - `sentinel://[user:password@]a:26379;sentinel://b:26379/0?master_name=main` asks sentinels for the server; user and
    ///   password are those for the server. `sentinels://` takes TLS to the sentinels and to the server.
    /// - Several servers, joined by `;`, are tried in their order; the first that is a primary is used. What a later one leaves
    ///   out (scheme, user and password) is as in the first one.
    ///
    /// User, password, paths and options are percent-decoded. Options follow the last server after `?`, joined by `&`:
    ///
    /// | option | value |
    /// |---|---|
    /// | `db`, `virtual_host` | see [`db`](Self::db) |
    /// | `username`, `password` | as in the place before the host; for Unix sockets |
    /// | `protocol` | `resp3` or `resp2`: see [`protocol`](Self::protocol) |
    /// | `global_keyprefix`, `result_keyprefix`, `fanout_prefix` | see the methods of these names; `fanout_prefix=false` for none |
    /// | `priority_steps`, `priority_order` | `0,3,6,9`; `celery` or `highest` |
    /// | `visibility_timeout`, `lease`, `connect_timeout`, `response_timeout`, `startup_timeout` | seconds |
    /// | `max_message_bytes` | a number |
    /// | `master_name`, `sentinel_username`, `sentinel_password` | which server to ask the sentinels for, and credentials for the sentinels |
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
            sentinel: None,
            db: 0,
            protocol: Protocol::Resp3,
            certificates: Certificates::default(),
            global_keyprefix: String::new(),
            result_keyprefix: String::new(),
            visibility_timeout: Duration::from_secs(3600),
            lease: Duration::from_secs(10),
            priority_steps: vec![0, 3, 6, 9],
            priority_order: PriorityOrder::Celery,
            fanout_prefix: "/{db}.".to_owned(),
            connect_timeout: Duration::from_secs(4),
            response_timeout: Duration::from_secs(30),
            startup_timeout: Duration::from_secs(10),
            max_message_bytes: 64 * 1024 * 1024,
        }
    }

    /// The number of the database. Default 0; a server has 16 of them unless it is told otherwise. Channels are shared by all of
    /// them, therefore fanout channels carry the number in their names.
    #[must_use]
    pub fn db(mut self, db: u32) -> Self {
        self.db = db;
        self
    }

    /// The user of Redis' access control, at every server. Default the one of the URL; without one, Redis' `default`.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        let username = username.into();
        self.servers.iter_mut().for_each(|server| server.username = Some(username.clone()));
        self
    }

    /// The password, at every server. Default the one of the URL.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        let password = password.into();
        self.servers.iter_mut().for_each(|server| server.password = Some(password.clone()));
        self
    }

    /// The version of the protocol. Default [`Protocol::Resp3`].
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
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

    /// What stands before every key and every channel, as it is: `global_keyprefix` of Celery's `broker_transport_options`.
    /// Default nothing. Every process that shares the queues must agree. The keys of results have [a prefix of their
    /// own](RedisConfig::result_keyprefix).
    #[must_use]
    pub fn global_keyprefix(mut self, prefix: impl Into<String>) -> Self {
        self.global_keyprefix = prefix.into();
        self
    }

    /// What stands before the keys and channels of results: `global_keyprefix` of Celery's `result_backend_transport_options`.
    /// Default nothing. As Celery has it, a `_` follows unless the prefix ends in one of `:_-.`.
    #[must_use]
    pub fn result_keyprefix(mut self, prefix: impl Into<String>) -> Self {
        self.result_keyprefix = prefix.into();
        self
    }

    /// How long Python's workers on the same queues let a message go unacknowledged before they deliver it again; at
    /// least 1 second, default 1 hour. It must not be longer than what they are told, or they deliver what still runs here.
    #[must_use]
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.visibility_timeout = timeout;
        self
    }

    /// How long a process that has died, or is stopped, keeps what it holds; at least 1 second, default 10 seconds. A process
    /// that lives renews it.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Which priorities are kept apart, each in a list of its own: ascending from 0, none above 9. Default 0, 3, 6 and 9, as
    /// Celery has it. Every process that shares the queues must agree.
    #[must_use]
    pub fn priority_steps(mut self, steps: impl Into<Vec<u8>>) -> Self {
        self.priority_steps = steps.into();
        self
    }

    /// Which messages of one queue come first. Default [`PriorityOrder::Celery`].
    #[must_use]
    pub fn priority_order(mut self, order: PriorityOrder) -> Self {
        self.priority_order = order;
        self
    }

    /// What stands before the names of fanout channels, after the global prefix; `{db}` stands for the database. Default
    /// `/{db}.`, as Celery has it; empty for nothing. Python's workers read only prefixes that begin with `/` and have their
    /// only `.` at the end.
    #[must_use]
    pub fn fanout_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.fanout_prefix = prefix.into();
        self
    }

    /// How long one attempt to connect to one server may take. Default 4 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an answer may take before the connection is given up. Default 30 seconds.
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// How long opening a store goes on trying to reach a server. Default 10 seconds. Once open, a store waits for its server
    /// as long as its callers do.
    #[must_use]
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.startup_timeout = timeout;
        self
    }

    /// The most bytes of one message or one result. Default 64 MiB, at most 500 million.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// What stands before the keys of results: Celery puts a `_` after a prefix that does not end in one of `:_-.`.
    pub(crate) fn result_prefix(&self) -> String {
        match self.result_keyprefix.chars().next_back() {
            None | Some(':' | '_' | '-' | '.') => self.result_keyprefix.clone(),
            Some(_) => format!("{}_", self.result_keyprefix),
        }
    }

    /// What stands before the names of fanout channels, after the global prefix: `/0.`, or nothing.
    pub(crate) fn channel_prefix(&self) -> String {
        self.fanout_prefix.replace("{db}", &self.db.to_string())
    }

    /// The identity of the store: the same for all who share its keys. Without credentials.
    pub(crate) fn store_name(&self) -> String {
        let mut servers: Vec<_> = self.servers.iter().map(|server| server.address.to_string()).collect();
        servers.sort_unstable();
        let master = self.sentinel.as_ref().map(|sentinel| format!("{}@", sentinel.master_name)).unwrap_or_default();
        let (servers, db) = (servers.join(","), self.db);
        format!("redis:{master}{servers}/{db}#{},{}", self.global_keyprefix, self.result_prefix())
    }

    /// What cannot be right, whatever the server is.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::config("open", why));
        for server in &self.servers {
            // The driver would leave the user out, and be somebody else.
            if let (Some(username), None) = (&server.username, &server.password) {
                return refuse(format!(
                    "a password for user `{username}` is missing; an empty one is written as `user:@host`"
                ));
            }
            if server.tls && cfg!(not(feature = "tls")) {
                return refuse(
                    "TLS (`rediss://`) takes the feature `redis-tls` of celeriac, or `tls` of celeriac-redis"
                        .to_owned(),
                );
            }
        }
        if self.sentinel.as_ref().is_some_and(|sentinel| sentinel.username.is_some() && sentinel.password.is_none()) {
            return refuse("`sentinel_username` is given without `sentinel_password`".to_owned());
        }
        let encrypted = self.servers.iter().any(|server| server.tls);
        let Certificates { authority, certificate, key } = &self.certificates;
        if !encrypted && (authority.is_some() || certificate.is_some() || key.is_some()) {
            return refuse(
                "certificates are given, but no server is reached by TLS: `rediss://` instead of `redis://`".to_owned(),
            );
        }
        if key.is_some() && certificate.is_none() {
            return refuse("`ssl_keyfile` is given without `ssl_certfile`".to_owned());
        }
        for (name, value, least) in [
            ("connect_timeout", self.connect_timeout, Duration::from_millis(1)),
            ("lease", self.lease, Duration::from_secs(1)),
            ("response_timeout", self.response_timeout, Duration::from_millis(1)),
            ("visibility_timeout", self.visibility_timeout, Duration::from_secs(1)),
        ] {
            if value < least {
                let least = if least < Duration::from_secs(1) { "1 millisecond" } else { "1 second" };
                return refuse(format!("`{name}` must be at least {least}"));
            }
        }
        let steps = &self.priority_steps;
        if steps.first() != Some(&0) || !steps.is_sorted_by(|one, next| one < next) || steps.last() > Some(&9) {
            return refuse("`priority_steps` must begin with 0 and ascend to 9 at most, as in `0,3,6,9`".to_owned());
        }
        let prefix = &self.fanout_prefix;
        let readable = prefix.starts_with('/') && prefix.find('.') == Some(prefix.len() - 1);
        if !readable && !prefix.is_empty() {
            let why =
                "`fanout_prefix` must begin with `/` and have its only `.` at the end, as in `/{db}.`, or be empty";
            return refuse(why.to_owned());
        }
        if self.max_message_bytes == 0 || self.max_message_bytes > MOST_MESSAGE_BYTES {
            return refuse(format!("`max_message_bytes` must be 1 to {MOST_MESSAGE_BYTES}"));
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RedisConfig");
        shown.field("servers", &self.servers);
        if let Some(sentinel) = &self.sentinel {
            shown.field("master_name", &sentinel.master_name);
        }
        shown
            .field("db", &self.db)
            .field("protocol", &self.protocol)
            .field("global_keyprefix", &self.global_keyprefix)
            .field("result_keyprefix", &self.result_keyprefix)
            .field("fanout_prefix", &self.fanout_prefix)
            .field("priority_steps", &self.priority_steps)
            .field("priority_order", &self.priority_order)
            .field("visibility_timeout", &self.visibility_timeout)
            .field("lease", &self.lease)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("startup_timeout", &self.startup_timeout)
            .field("max_message_bytes", &self.max_message_bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.address, if self.tls { " by TLS" } else { "" })
    }
}

#[cfg(test)]
mod tests;
