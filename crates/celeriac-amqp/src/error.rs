//! What RabbitMQ and the driver answer, in celeriac's terms.

use std::borrow::Cow;
use std::fmt;
use std::io;

use celeriac_core::{Error, ErrorKind};
use lapin::ErrorKind as DriverKind;
use lapin::protocol::{AMQPError, AMQPErrorKind};

use crate::config::{AmqpConfig, Auth, Server};

/// Why one attempt failed, in the terms a caller decides by: may it be tried again?
///
/// Each carries the error to report when it is not.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection or the channel was lost: what was asked for may or may not have been carried out.
    Broken(Error),
    /// The server closed the channel with this code, and said why.
    Closed {
        /// AMQP's reply code, such as 404.
        code: u16,
        /// The server's words.
        text: String,
        /// What it comes to.
        error: Error,
    },
    /// Another attempt would fail in the same way.
    Refused(Error),
}

impl Fault {
    /// The error for the caller who does not try again.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Broken(error) | Self::Refused(error) | Self::Closed { error, .. } => error,
        }
    }
}

/// What `operation` met when the driver says `error`.
pub(crate) fn fault(operation: &'static str, error: &lapin::Error) -> Fault {
    let broken = |why| Fault::Broken(Error::unavailable(operation, why).with_source(error.to_string()));
    let refused = |why| Fault::Refused(Error::unexpected(operation, why).with_source(error.to_string()));
    match error.kind() {
        DriverKind::ProtocolError(said) => answer(operation, said),
        DriverKind::MissingHeartbeatError => {
            broken("RabbitMQ has not been heard of for longer than `heartbeat` allows")
        }
        DriverKind::ParsingError(_) => broken("what came over the connection is none of RabbitMQ's protocol"),
        DriverKind::RuntimeShutdownError(_) => broken("the runtime of the connection to RabbitMQ is gone"),
        DriverKind::ChannelsLimitReached => refused("RabbitMQ allows no more channels (`channel_max`)"),
        DriverKind::SerialisationError(_) | DriverKind::FutureCompleted | DriverKind::NoDefaultRuntime => {
            refused("the driver cannot do what it is told")
        }
        _ => broken("the connection to RabbitMQ was lost; what was asked for may have happened"),
    }
}

/// What it means that the server, or the driver for it, closes a channel or the connection.
fn answer(operation: &'static str, said: &AMQPError) -> Fault {
    let (code, text) = (said.get_id(), said.get_message().to_string());
    let (kind, why) = meaning(code, &text);
    let error = Error::new(kind, operation, why).with_source(text.clone());
    match said.kind() {
        AMQPErrorKind::Soft(_) => Fault::Closed { code, text, error },
        // Sending the same again would have the same end.
        AMQPErrorKind::Hard(_) if matches!(kind, ErrorKind::TooLarge | ErrorKind::Unsupported) => Fault::Refused(error),
        AMQPErrorKind::Hard(_) => {
            Fault::Broken(Error::unavailable(operation, error.message().to_owned()).with_source(text))
        }
    }
}

fn meaning(code: u16, text: &str) -> (ErrorKind, Cow<'static, str>) {
    use ErrorKind::{Config, NotFound, TooLarge, Unavailable, Unexpected, Unsupported};
    let named = || quoted(text).map_or(Cow::Borrowed("what was asked for"), |name| Cow::Owned(format!("`{name}`")));
    match code {
        311 => (TooLarge, "the message is larger than RabbitMQ takes".into()),
        312 | 404 => (NotFound, format!("RabbitMQ has no {}", not_found(text)).into()),
        320 => (Unavailable, "RabbitMQ has closed the connection: it stops, or was told to".into()),
        403 => {
            let why = format!(
                "the user that RabbitMQ is asked as lacks a permission for {}: see `rabbitmqctl set_permissions`",
                named()
            );
            (Config, why.into())
        }
        405 => (Unavailable, format!("another connection has {} for itself (an exclusive queue)", named()).into()),
        406 if text.contains("delivery acknowledgement on channel") => {
            let why = "RabbitMQ has waited for an acknowledgement for longer than its `consumer_timeout`: tell `consumer_timeout` in the url";
            (Unavailable, why.into())
        }
        406 if text.contains("larger than configured max size") => {
            (TooLarge, "the message is larger than RabbitMQ takes: its `max_message_size`".into())
        }
        406 if text.contains("unknown delivery tag") => {
            (Unexpected, "RabbitMQ does not know the delivery that was settled".into())
        }
        406 => (Config, format!("RabbitMQ has {} in another way than it is asked for", named()).into()),
        501 if text.contains("frame_too_large") || text.contains("frame too large") => {
            (TooLarge, "headers and properties of a message must fit into one frame: see `frame_max`".into())
        }
        530 => (Config, "RabbitMQ does not allow that".into()),
        540 => (Unsupported, "RabbitMQ cannot do that".into()),
        _ => (Unavailable, "RabbitMQ has closed the connection".into()),
    }
}

/// What is not there, such as `queue `a``: the text is `NOT_FOUND - no queue 'a' in vhost '/'`.
fn not_found(text: &str) -> String {
    let named = || {
        let (kind, rest) = text.split_once("no ")?.1.split_once(" '")?;
        let (name, _) = rest.rsplit_once("' in vhost '").or_else(|| rest.split_once('\''))?;
        kind.bytes().all(|byte| byte.is_ascii_lowercase()).then(|| format!("{kind} `{name}`"))
    };
    named().unwrap_or_else(|| "such thing".to_owned())
}

/// The first name that the text quotes.
fn quoted(text: &str) -> Option<&str> {
    Some(text.split_once('\'')?.1.split_once('\'')?.0)
}

/// Why RabbitMQ at `server` does not let the client in.
pub(crate) fn unconnected(
    operation: &'static str,
    server: &Server,
    config: &AmqpConfig,
    error: &lapin::Error,
) -> Error {
    match error.kind() {
        DriverKind::IOError(error) | DriverKind::RuntimeShutdownError(error) => {
            unreachable(operation, server, config.auth, error)
        }
        DriverKind::ProtocolError(said) => {
            let text = said.get_message().to_string();
            let (kind, why) = turned_away(said.get_id(), &text, server, config);
            Error::new(kind, operation, format!("RabbitMQ at `{server}` {why}")).with_source(text)
        }
        DriverKind::ParsingError(_) => {
            Error::unavailable(operation, format!("what answers at `{server}` is not RabbitMQ"))
                .with_source(error.to_string())
        }
        DriverKind::InvalidProtocolVersion(version) => {
            let why = format!("what answers at `{server}` speaks AMQP {version}, and not 0.9.1 as RabbitMQ does");
            Error::config(operation, why)
        }
        _ => Error::unavailable(operation, format!("RabbitMQ at `{server}` cannot be connected to"))
            .with_source(error.to_string()),
    }
}

fn turned_away(code: u16, text: &str, server: &Server, config: &AmqpConfig) -> (ErrorKind, String) {
    use ErrorKind::{Config, Unavailable};
    let (user, vhost) = (server.username.as_deref().unwrap_or("guest"), &config.vhost);
    match code {
        403 if config.auth == Auth::External => {
            (Config, "knows no user of the name that the certificate has (`ssl_certfile`)".to_owned())
        }
        403 if user == "guest" => {
            let why = "does not let user `guest` in with this password, or not from another machine: name another user in the url";
            (Config, why.to_owned())
        }
        403 => (Config, format!("knows no user `{user}` with this password")),
        503 => (Config, "does not know this way to say who one is: see `auth`".to_owned()),
        530 if text.contains("not found") => (Config, format!("has no virtual host `{vhost}`")),
        530 if text.contains("limit") => (Unavailable, "takes no more connections: a limit is reached".to_owned()),
        530 if text.contains("is down") => (Unavailable, format!("has virtual host `{vhost}` down")),
        530 if text.contains("frame_max") => (Config, "takes no frames as small as `frame_max` says".to_owned()),
        530 => {
            let who = if config.auth == Auth::External {
                "the certificate's user".to_owned()
            } else {
                format!("user `{user}`")
            };
            (Config, format!("does not let {who} use virtual host `{vhost}`: see `rabbitmqctl set_permissions`"))
        }
        _ => (Unavailable, "does not take the connection".to_owned()),
    }
}

/// Why the server cannot be reached, or spoken to.
pub(crate) fn unreachable(operation: &'static str, server: &Server, auth: Auth, error: &io::Error) -> Error {
    let (kind, why) = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Stranger::Tls) => {
            (ErrorKind::Config, format!("what answers at `{server}` speaks TLS: it may be for `amqps://`"))
        }
        Some(Stranger::Other) => (ErrorKind::Unavailable, format!("what answers at `{server}` is not RabbitMQ")),
        None => tls(server, error).unwrap_or_else(|| (ErrorKind::Unavailable, lost(server, auth, error))),
    };
    Error::new(kind, operation, why).with_source(error.to_string())
}

fn lost(server: &Server, auth: Auth, error: &io::Error) -> String {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let hint = match (error.kind(), server.tls, auth) {
        (BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof, true, Auth::External) => {
            "ask for another certificate, or lack its plugin for `auth=external`"
        }
        (BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof, true, Auth::Plain) => {
            "ask for a certificate (`ssl_certfile`), or be for `amqp://`"
        }
        (BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof, false, _) => "or be for `amqps://`",
        _ => return format!("cannot reach RabbitMQ at `{server}`"),
    };
    format!("RabbitMQ at `{server}` hangs up at once: it may stop just now, {hint}")
}

#[cfg(not(feature = "tls"))]
fn tls(_server: &Server, _error: &io::Error) -> Option<(ErrorKind, String)> {
    None
}

/// What is wrong with TLS, if that is it.
#[cfg(feature = "tls")]
fn tls(server: &Server, error: &io::Error) -> Option<(ErrorKind, String)> {
    use ErrorKind::{Config, Unavailable};
    use rustls::{CertificateError, Error as Tls};

    if error.kind() == io::ErrorKind::InvalidInput {
        return Some((Config, format!("`{server}` is no name that a certificate can have")));
    }
    Some(match error.get_ref()?.downcast_ref()? {
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => (Config, format!("the certificate of RabbitMQ at `{server}` is for another name than `{}`", server.host)),
        Tls::InvalidCertificate(_) => {
            let why = format!(
                "the certificate of RabbitMQ at `{server}` is not trusted: `ssl_ca_certs` names the authorities to trust instead of the system's"
            );
            (Config, why)
        }
        Tls::AlertReceived(_) => {
            let why = format!(
                "RabbitMQ at `{server}` breaks TLS off: it may ask for a certificate, or not trust the one it is shown (`ssl_certfile`)"
            );
            (Config, why)
        }
        Tls::InvalidMessage(_) => {
            (Config, format!("what answers at `{server}` does not speak TLS: it may be for `amqp://`"))
        }
        _ => (Unavailable, format!("TLS with RabbitMQ at `{server}` fails")),
    })
}

/// A peer whose first word is none of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stranger {
    Tls,
    Other,
}

impl Stranger {
    /// TLS says so when it is not spoken to in TLS.
    pub(crate) const TLS_ALERT: u8 = 0x15;
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "it answers in TLS",
            Self::Other => "it does not answer in AMQP",
        })
    }
}

impl std::error::Error for Stranger {}

/// The same error once more, for each who waited on one connection. Sources become text.
pub(crate) fn again(error: &Error, operation: &'static str) -> Error {
    let copy = Error::new(error.kind(), operation, error.message().to_owned());
    match std::error::Error::source(error) {
        Some(source) => copy.with_source(source.to_string()),
        None => copy,
    }
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::unavailable(operation, "the store is closed")
}

#[cfg(test)]
mod tests;
