//! Connections: to which server, and how.
//!
//! The socket, TLS and the login's deadline are ours; the driver is handed a stream that is ready. So one limit holds for all of it, TLS has
//! the cryptography of the whole program, and what the server sends is looked at before the driver reads it.

mod guard;
mod kit;
mod stream;
mod tls;

use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use celeriac_core::{Error, Result};
use lapin::auth::AuthProvider;
use lapin::types::{LongString, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use tokio::net::TcpStream;

use self::kit::Kit;
use self::stream::Stream;
use self::tls::Tls;
use crate::config::{AmqpConfig, Auth, FailoverStrategy, Server};
use crate::error::{unconnected, unreachable};

/// RabbitMQ's own user and password.
const GUEST: &str = "guest";

/// The servers, and how to connect to them.
pub(crate) struct Endpoint {
    config: AmqpConfig,
    tls: Tls,
    /// The place in the list of servers that was good last time.
    last: AtomicUsize,
    /// Whether no server could be reached the last time.
    away: AtomicBool,
}

impl Endpoint {
    /// Reads the certificates, and checks what can be checked without a server.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](celeriac_core::ErrorKind::Config).
    pub(crate) fn new(config: AmqpConfig) -> Result<Self> {
        config.check()?;
        let tls = Tls::new(&config)?;
        let first = match config.failover {
            FailoverStrategy::RoundRobin => 0,
            FailoverStrategy::Shuffle => fastrand::usize(..config.servers.len()),
        };
        Ok(Self { config, tls, last: AtomicUsize::new(first), away: AtomicBool::new(false) })
    }

    pub(crate) fn config(&self) -> &AmqpConfig {
        &self.config
    }

    /// One attempt at each server in turn, beginning with the one that was good last time. The server's tools show `purpose` behind the
    /// connection's name. It is driven by the runtime that this is called on, and by a thread of its own.
    ///
    /// # Errors
    /// Retryable, if a server may be reached later; else what is wrong with the configuration.
    ///
    /// # Cancel safety
    /// Cancel safe: what is half made is given up.
    pub(crate) async fn connect(&self, operation: &'static str, purpose: &str) -> Result<Connection> {
        let mut failures = Vec::new();
        for place in self.turns() {
            let server = &self.config.servers[place];
            match self.open(operation, server, purpose).await {
                Ok(connection) => {
                    // ORDERING: only a hint where to begin.
                    self.last.store(place, Ordering::Relaxed);
                    if self.away.swap(false, Ordering::Relaxed) {
                        tracing::info!(%server, "RabbitMQ is there again");
                    }
                    return Ok(connection);
                }
                Err(error) => failures.push(error),
            }
        }
        let error = sum(operation, failures);
        // ORDERING: whoever comes first says it, for both connections of the store.
        if error.is_retryable() && !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = %error.report(), "RabbitMQ cannot be reached; trying again for as long as somebody waits for it");
        }
        Err(error)
    }

    /// The places of the servers, in the order in which they are tried.
    fn turns(&self) -> Vec<usize> {
        let count = self.config.servers.len();
        // ORDERING: as above.
        let first = self.last.load(Ordering::Relaxed);
        let mut turns: Vec<_> = (0..count).map(|turn| (first + turn) % count).collect();
        if self.config.failover == FailoverStrategy::Shuffle {
            fastrand::shuffle(&mut turns[1..]);
        }
        turns
    }

    async fn open(&self, operation: &'static str, server: &Server, purpose: &str) -> Result<Connection> {
        let opening = Box::pin(async {
            let failed = |error: io::Error| unreachable(operation, server, self.config.auth, &error);
            let socket = TcpStream::connect((server.host.as_str(), server.port)).await.map_err(failed)?;
            socket.set_nodelay(true).map_err(failed)?;
            let socket =
                if server.tls { self.tls.wrap(&server.host, socket).await.map_err(failed)? } else { Box::new(socket) };
            let (stream, abort) = Stream::new(socket);
            let connection = self.log_in(server, purpose, stream).await;
            let connection = connection.map_err(|error| unconnected(operation, server, &self.config, &error))?;
            abort.disarm();
            Ok(connection)
        });
        match tokio::time::timeout(self.config.connect_timeout, opening).await {
            Ok(opened) => opened,
            Err(_) => {
                // To a server without TLS the beginning of TLS is an unfinished frame, and the other way round.
                let hint = if server.tls { "amqp://" } else { "amqps://" };
                let why =
                    format!("RabbitMQ at `{server}` does not answer within `connect_timeout`; it may be for `{hint}`");
                Err(Error::unavailable(operation, why))
            }
        }
    }

    async fn log_in(&self, server: &Server, purpose: &str, stream: Stream) -> lapin::Result<Connection> {
        let name = format!("{} {purpose}", self.config.connection_name);
        let properties = ConnectionProperties::default()
            .with_client_property("product".into(), "celeriac".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into())
            .with_client_property("information".into(), "https://docs.rs/celeriac".into())
            .with_connection_name(name.into());
        let properties = match self.config.auth {
            Auth::Plain => properties,
            Auth::External => properties.with_auth_provider(ByCertificate),
        };
        let uri = AMQPUri {
            scheme: if server.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: server.username.as_deref().unwrap_or(GUEST).to_owned(),
                    password: server.password.as_deref().unwrap_or(GUEST).to_owned(),
                },
                host: server.host.clone(),
                port: server.port,
            },
            vhost: self.config.vhost.clone(),
            query: AMQPQueryString {
                frame_max: Some(self.config.frame_max),
                heartbeat: u16::try_from(self.config.heartbeat.as_secs()).ok(),
                ..AMQPQueryString::default()
            },
        };
        // The driver asks once: it is told not to try again.
        let stream = Mutex::new(Some(stream));
        let hand_over = async move |_, _| {
            let stream = stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            stream.map(AsyncTcpStream::Plain).ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted).into())
        };
        Connection::connector(uri, Kit::runtime(), hand_over, properties).await
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("config", &self.config).finish_non_exhaustive()
    }
}

/// SASL's `EXTERNAL`: the server knows the client by its certificate.
struct ByCertificate;

impl AuthProvider for ByCertificate {
    fn mechanism(&self) -> ShortString {
        "EXTERNAL".into()
    }

    fn auth_starter(&self) -> std::result::Result<LongString, String> {
        Ok(LongString::default())
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

#[cfg(test)]
mod tests;
