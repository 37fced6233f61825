//! Connections: to which server, and how.
//!
//! The driver's pool is the factory of connections only. A connection that is shared needs no place in a pool, and asking a pool
//! for one costs a round trip.

mod greeting;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use celeriac_core::{Error, Result};
use deadpool_redis::redis::aio::{MultiplexedConnection, PubSub, SendError};
use deadpool_redis::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, Value,
};
use deadpool_redis::{Connection, Manager, Pool, PoolError};

use self::greeting::Expected;
use self::tls::Tls;
use crate::config::{Address, Protocol, RedisConfig, Sentinel, Server};
use crate::error::{at, fault, sentinels_answer, unconnected};

/// Commands that wait in line for the socket, before their callers wait in line for the line. The driver's default is 50.
const LINE: usize = 1024;

/// So much is gathered before it is written. The driver's default is 8 KiB.
const WRITE_BUFFER: usize = 64 * 1024;

/// A connection over which nothing was said for so long is tested by the operating system, so that a peer that is gone without a
/// word is noticed in about a minute.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Takes what the server sends on its own. Called on the driver's path: it must not block.
pub(crate) type Pushes = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// What a connection is for.
#[derive(Clone, Default)]
pub(crate) struct Purpose {
    /// Who hears what the server sends on its own, and that the connection was lost. Without effect in RESP2.
    pub(crate) pushes: Option<Pushes>,
    /// For blocking commands: an answer may take as long as it takes.
    pub(crate) patient: bool,
}

/// The server to use, and how to connect to it.
pub(crate) struct Endpoint {
    config: RedisConfig,
    tls: Tls,
    /// The place in the list of servers, or sentinels, that was good last time.
    last: AtomicUsize,
    /// Whether no server could be reached the last time.
    away: AtomicBool,
}

impl Endpoint {
    /// Reads the certificates, and checks what can be checked without a server.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config).
    pub(crate) fn new(config: RedisConfig) -> Result<Self> {
        config.check()?;
        let tls = Tls::new(&config)?;
        Ok(Self { config, tls, last: AtomicUsize::new(0), away: AtomicBool::new(false) })
    }

    pub(crate) fn config(&self) -> &RedisConfig {
        &self.config
    }

    pub(crate) fn speaks_resp3(&self) -> bool {
        self.config.protocol == Protocol::Resp3
    }

    /// One attempt at each server, beginning with the one that was good last time; or at the server that each sentinel names.
    /// The connection is driven by the runtime that this is called on.
    ///
    /// # Errors
    /// Retryable, if a server may be reached later; else what is wrong with the configuration.
    pub(crate) async fn connect(&self, operation: &'static str, purpose: &Purpose) -> Result<MultiplexedConnection> {
        self.primary(operation, purpose).await.map(|(_, connection)| connection)
    }

    /// A connection for publications in RESP2, to the server that [`Endpoint::connect`] would find.
    ///
    /// # Errors
    /// As [`Endpoint::connect`].
    pub(crate) async fn listen(&self, operation: &'static str) -> Result<PubSub> {
        // The driver hides why a server refuses this kind of connection; the other kind tells.
        let (server, _) = self.primary(operation, &Purpose::default()).await?;
        let place = server.address.to_string();
        let failed = |error| unconnected(operation, &place, &error);
        let login = RedisConnectionInfo::default().set_skip_set_lib_name();
        let login = match (&server.username, &server.password) {
            (Some(username), Some(password)) => login.set_username(username).set_password(password),
            (None, Some(password)) => login.set_password(password),
            _ => login,
        };
        let client = Client::open(self.info(&server, login).map_err(failed)?).map_err(failed)?;
        self.in_time(operation, &server, Box::pin(async { client.get_async_pubsub().await.map_err(failed) })).await
    }

    async fn primary(&self, operation: &'static str, purpose: &Purpose) -> Result<(Server, MultiplexedConnection)> {
        let servers = &self.config.servers;
        // ORDERING: only a hint where to begin.
        let first = self.last.load(Ordering::Relaxed);
        let (mut failures, mut tried) = (Vec::new(), Vec::new());
        for turn in 0..servers.len() {
            let place = (first + turn) % servers.len();
            let found = match &self.config.sentinel {
                None => Ok(servers[place].clone()),
                Some(sentinel) => self.ask(operation, sentinel, &servers[place]).await,
            };
            let opened = match found {
                // Another sentinel has named it before.
                Ok(server) if tried.contains(&server.address) => continue,
                Ok(server) => {
                    tried.push(server.address.clone());
                    let connection = self.open(operation, &server, Expected::Primary, purpose).await;
                    connection.map(|connection| (server, connection))
                }
                Err(error) => Err(error),
            };
            match opened {
                Ok(opened) => {
                    self.last.store(place, Ordering::Relaxed);
                    if self.away.swap(false, Ordering::Relaxed) {
                        tracing::info!(server = %opened.0.address, "Redis is there again");
                    }
                    return Ok(opened);
                }
                Err(error) => failures.push(error),
            }
        }
        let error = sum(operation, failures);
        // ORDERING: whoever comes first says it, for all connections of the store.
        if error.is_retryable() && !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = %error.report(), "Redis cannot be reached; trying again for as long as somebody waits for it");
        }
        Err(error)
    }

    /// Asks one sentinel for the server.
    ///
    /// By hand, as the protocol of sentinels has it: the driver's own client asks with timeouts of its own, and does not say
    /// which sentinel answered what.
    async fn ask(&self, operation: &'static str, sentinel: &Sentinel, server: &Server) -> Result<Server> {
        let guard =
            Server { username: sentinel.username.clone(), password: sentinel.password.clone(), ..server.clone() };
        let place = guard.address.to_string();
        let mut connection = self.open(operation, &guard, Expected::Sentinel, &Purpose::default()).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(&sentinel.master_name);
        let asked = Box::pin(async { Ok(connection.send_packed_command(&command).await) });
        let value = match self.in_time(operation, &guard, asked).await? {
            Ok(Value::ServerError(error)) => {
                let (code, detail) = (error.code(), error.details().unwrap_or_default());
                return Err(sentinels_answer(operation, &place, code, detail, Some(&command)));
            }
            Ok(value) => value,
            Err(error) => return Err(at(&place, &fault(operation, &error, Some(&command)).into_error())),
        };
        let name = &sentinel.master_name;
        match <Option<(String, u16)>>::from_redis_value(value) {
            Ok(Some((host, port))) => {
                let address = Address::Tcp { host, port };
                Ok(Server { address, ..server.clone() })
            }
            Ok(None) => Err(Error::config(
                operation,
                format!("the sentinel at `{place}` knows no master `{name}`: see `master_name`"),
            )),
            Err(_) => {
                Err(Error::unavailable(operation, format!("the sentinel at `{place}` does not say where `{name}` is")))
            }
        }
    }

    async fn open(
        &self,
        operation: &'static str,
        server: &Server,
        expected: Expected,
        purpose: &Purpose,
    ) -> Result<MultiplexedConnection> {
        let place = server.address.to_string();
        let failed = |error: &RedisError| unconnected(operation, &place, error);
        let protocol = match expected {
            Expected::Primary => self.config.protocol,
            // All of them know it.
            Expected::Sentinel => Protocol::Resp2,
        };
        let mut settings = AsyncConnectionConfig::new()
            // One limit holds for all that an attempt takes: see below.
            .set_connection_timeout(None)
            .set_response_timeout((!purpose.patient).then_some(self.config.response_timeout))
            .set_pipeline_buffer_size(LINE)
            .set_write_backpressure_boundary(WRITE_BUFFER);
        if let Some(pushes) = purpose.pushes.clone().filter(|_| protocol == Protocol::Resp3) {
            settings = settings.set_push_sender(move |push: PushInfo| {
                pushes(push);
                Ok::<_, SendError>(())
            });
        }
        // On the heap: what the driver does to connect takes tens of kilobytes.
        let opening = Box::pin(async {
            let info = self.info(server, greeting::login(server, protocol)).map_err(|error| failed(&error))?;
            let manager = Manager::new_with_config(info, settings).map_err(|error| failed(&error))?;
            let unexpected = |error: &dyn fmt::Display| {
                Error::unexpected(operation, "a connection cannot be prepared").with_source(error.to_string())
            };
            let pool = Pool::builder(manager).max_size(1).build().map_err(|error| unexpected(&error))?;
            let connection = pool.get().await.map_err(|error| match error {
                PoolError::Backend(error) => failed(&error),
                error => unexpected(&error),
            })?;
            let mut connection = Connection::take(connection);
            greeting::greet(operation, &place, server, (protocol, self.config.db), expected, &mut connection).await?;
            Ok(connection)
        });
        self.in_time(operation, server, opening).await
    }

    async fn in_time<T>(
        &self,
        operation: &'static str,
        server: &Server,
        opening: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        // To a server without TLS the beginning of TLS is an unfinished command.
        let hint = if server.tls { ": it may be for `redis://`" } else { "" };
        let late = |_| {
            Error::unavailable(
                operation,
                format!("Redis at `{}` does not answer within `connect_timeout`{hint}", server.address),
            )
        };
        tokio::time::timeout(self.config.connect_timeout, opening).await.map_err(late)?
    }

    fn info(&self, server: &Server, login: RedisConnectionInfo) -> redis::RedisResult<ConnectionInfo> {
        let address = match &server.address {
            Address::Tcp { host, port } if server.tls => self.tls.address(host.clone(), *port),
            Address::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
            Address::Unix(path) => ConnectionAddr::Unix(path.clone()),
        };
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        Ok(address.into_connection_info()?.set_tcp_settings(tcp).set_redis_settings(login))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why no server would do: what is wrong with the configuration if that is so with each of them.
fn sum(operation: &'static str, mut failures: Vec<Error>) -> Error {
    if failures.len() == 1 || failures.iter().all(|error| !error.is_retryable()) {
        failures.truncate(1);
        return failures.pop().unwrap_or_else(|| Error::config(operation, "no server is named"));
    }
    let told: Vec<_> = failures
        .iter()
        .map(|error| match std::error::Error::source(error) {
            Some(source) => format!("{}: {source}", error.message()),
            None => error.message().to_owned(),
        })
        .collect();
    Error::unavailable(operation, "no server of the list can be used").with_source(told.join("; "))
}

/// How the driver names the version of the protocol.
fn version(protocol: Protocol) -> ProtocolVersion {
    match protocol {
        Protocol::Resp2 => ProtocolVersion::RESP2,
        Protocol::Resp3 => ProtocolVersion::RESP3,
    }
}

#[cfg(all(test, unix))]
mod tests;
