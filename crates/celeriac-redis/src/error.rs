//! What Redis and the driver answer, in celeriac's terms.
//!
//! Texts of the server are repeated only where they cannot hold what a caller sent: old servers quote the arguments of a command
//! that they do not know, a password among them.

use std::borrow::Cow;

use celeriac_core::{Error, ErrorKind};
use deadpool_redis::redis::{Arg, Cmd, ErrorKind as DriverKind, RedisError};

use crate::keys::SCHEDULE_VERSION;

/// Why one attempt at a command failed, in the terms a caller decides by: may it be tried again?
///
/// Each carries the error to report when it is not.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection was lost: the command may or may not have been carried out.
    Broken(Error),
    /// The command surely has not been carried out; another attempt takes another connection.
    NotSent(Error),
    /// The server says to try later, and has not carried the command out.
    Busy(Error),
    /// Another attempt would fail in the same way.
    Refused(Error),
}

impl Fault {
    /// The error for the caller who does not try again.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Broken(error) | Self::NotSent(error) | Self::Busy(error) | Self::Refused(error) => error,
        }
    }
}

/// What `operation` met when the answer to `command`, if one is known, was `error`.
pub(crate) fn fault(operation: &'static str, error: &RedisError, command: Option<&Cmd>) -> Fault {
    let broken = |why| Fault::Broken(Error::unavailable(operation, why).with_source(error.to_string()));
    match error.kind() {
        DriverKind::Io if error.is_timeout() => {
            broken("Redis has not answered within `response_timeout`; what was asked for may have happened")
        }
        DriverKind::Io => broken("the connection to Redis was lost; what was asked for may have happened"),
        DriverKind::Parse => broken("the answer is none of Redis' protocol"),
        _ => match first_server_error(error) {
            Some((code, detail)) => answer(operation, &code, &detail, command),
            None => Fault::Refused(
                Error::unexpected(operation, "Redis answers as it should not").with_source(error.category().to_owned()),
            ),
        },
    }
}

/// What the server said, as `(code, text)`.
fn first_server_error(error: &RedisError) -> Option<(String, String)> {
    let errors = error.clone().into_server_errors();
    match errors.as_deref().and_then(<[_]>::first) {
        Some((_, error)) => Some((error.code().to_owned(), error.details().unwrap_or_default().to_owned())),
        None => error.code().map(|code| (code.to_owned(), error.detail().unwrap_or_default().to_owned())),
    }
}

/// What it means that the server answered a command with an error of `code`, and `detail` after it.
pub(crate) fn answer(operation: &'static str, code: &str, detail: &str, command: Option<&Cmd>) -> Fault {
    // Before Redis 7 a script's own error hides in the text: `ERR Error running script (call to f_...): @user_script:1: OOM ...`.
    if code == "ERR"
        && let Some((_, inner)) = detail.rsplit_once("@user_script:")
        && let Some((_, inner)) = inner.split_once(": ")
    {
        let inner = inner.trim_start_matches('-');
        if says_no_permission(inner) {
            return answer(operation, "NOPERM", inner, command);
        }
        let (code, detail) = inner.split_once(' ').unwrap_or((inner, ""));
        let code = if code.bytes().all(|byte| byte.is_ascii_uppercase()) { code } else { "ERR" };
        return answer(operation, code, detail, command);
    }
    let said = Said(code, detail);
    let refused = |kind, why: Cow<'static, str>| Fault::Refused(said.error(kind, operation, why));
    let config = |why: &'static str| refused(ErrorKind::Config, why.into());
    let unavailable = |why: &'static str| refused(ErrorKind::Unavailable, why.into());
    let busy = |why: &'static str| Fault::Busy(said.error(ErrorKind::Unavailable, operation, why.into()));
    match code {
        "WRONGTYPE" => match detail.strip_prefix("at ") {
            // As one of our scripts has found out.
            Some(key) => Fault::Refused(Error::config(operation, wrong_type(&[key.into()]))),
            None => refused(ErrorKind::Config, wrong_type(&command.map(keys).unwrap_or_default()).into()),
        },
        // As one of our scripts has found out.
        "WRONGVERSION" => {
            let (found, key) = detail.split_once(' ').unwrap_or(("?", detail));
            let why = format!(
                "key `{key}` is of version {found}, and this celeriac knows version {SCHEDULE_VERSION} alone: another one has \
                 written the schedule there, or another program uses the same name; set `global_keyprefix` to keep apart from it"
            );
            Fault::Refused(Error::config(operation, why))
        }
        "MISCONF" => unavailable("Redis takes no changes, because it cannot write to its disk: the disk may be full"),
        "OOM" => unavailable("Redis is full: it has reached its `maxmemory` and may evict nothing"),
        "NOREPLICAS" => {
            unavailable("Redis takes no changes, because too few of its replicas follow (`min-replicas-to-write`)")
        }
        "READONLY" => {
            let why = "the server is a replica, and takes no changes";
            Fault::NotSent(said.error(ErrorKind::Unavailable, operation, why.into()))
        }
        "NOAUTH" => config(
            "Redis asks for a password: it belongs into the url, as in `redis://:password@host`, or into `password`",
        ),
        "WRONGPASS" => config("Redis knows no such user with this password, or the user is switched off"),
        "NOPERM" => refused(ErrorKind::Config, no_permission(detail).into()),
        // Said of what a script does.
        _ if says_no_permission(detail) => refused(ErrorKind::Config, no_permission(detail).into()),
        "DENIED" => {
            config("Redis is in protected mode, and takes no connections from other machines without a password")
        }
        "LOADING" => busy("Redis is still reading its data from disk"),
        "BUSY" => busy("Redis is busy with a script of another program"),
        "MASTERDOWN" => busy("the server is a replica that has lost its primary"),
        "TRYAGAIN" | "CLUSTERDOWN" => busy("Redis cannot answer for now"),
        "MOVED" | "ASK" | "CROSSSLOT" => config("the server is part of a Redis Cluster, which celeriac cannot use"),
        "NOPROTO" => config("the server does not know RESP3: `protocol=resp2` does without"),
        "NOSCRIPT" => {
            refused(ErrorKind::Unexpected, "the server has forgotten a script that was loaded just before".into())
        }
        _ if detail.starts_with("unknown command") || detail.starts_with("unknown subcommand") => {
            let name = command.map_or_else(|| "HELLO".to_owned(), name);
            let why = format!(
                "the server has no command `{name}`: Redis 6.2 or later is needed, with the names its commands have"
            );
            // The server's text quotes the arguments.
            Fault::Refused(Error::unsupported(operation, why))
        }
        _ if detail.contains("DB index is out of range") || detail.contains("invalid DB index") => {
            config("the server has no database of that number: see its `databases`, usually 16, and `db`")
        }
        _ if detail.contains("max number of clients") => {
            busy("Redis has as many connections as its `maxclients` allows")
        }
        _ if detail.contains("invalid bulk length") || detail.contains("exceeds maximum allowed size") => {
            refused(ErrorKind::TooLarge, "larger than Redis takes (`proto-max-bulk-len`)".into())
        }
        // The connection is closed after this.
        _ if detail.starts_with("Protocol error") => {
            Fault::Broken(said.error(ErrorKind::Unexpected, operation, "Redis could not read a command".into()))
        }
        _ => refused(ErrorKind::Unexpected, "Redis refused a command".into()),
    }
}

/// How the reading of the system's certificates begins its errors.
const UNREADABLE: [&str; 3] = ["failed to read PEM", "opening directory", "reading directory entries"];

/// Why no connection to `place` could be made. Retryable, unless it would fail in the same way again.
pub(crate) fn unconnected(operation: &'static str, place: &str, error: &RedisError) -> Error {
    let unreachable = |why: String| Error::unavailable(operation, why).with_source(error.to_string());
    let text = error.to_string();
    match error.kind() {
        DriverKind::Io if text.starts_with("invalid peer certificate") => {
            let why = format!(
                "the certificate of Redis at `{place}` is not trusted: `ssl_ca_certs` names authorities of your own, and the \
                 host must be one that the certificate is for"
            );
            Error::config(operation, why).with_source(text)
        }
        DriverKind::Io if UNREADABLE.iter().any(|context| text.starts_with(context)) => {
            let why = "the certificates of the system cannot be read, which is done whatever `ssl_ca_certs` names: see the \
                 environment's `SSL_CERT_FILE` and `SSL_CERT_DIR`";
            Error::config(operation, why).with_source(text)
        }
        DriverKind::Io if text.starts_with("received fatal alert") => {
            let why = format!(
                "Redis at `{place}` refuses the TLS connection: it may ask for a certificate, which `ssl_certfile` and \
                 `ssl_keyfile` name"
            );
            Error::config(operation, why).with_source(text)
        }
        DriverKind::Io if text.starts_with("received corrupt message") => {
            Error::config(operation, format!("what answers at `{place}` does not speak TLS: it may be for `redis://`"))
                .with_source(text)
        }
        DriverKind::Io if error.is_timeout() => {
            unreachable(format!("Redis at `{place}` does not answer within `connect_timeout`"))
        }
        DriverKind::Io if error.is_connection_dropped() && !error.is_connection_refusal() => unreachable(format!(
            "Redis at `{place}` hangs up at once: it may be for TLS (`rediss://`), or full (`maxclients`)"
        )),
        DriverKind::Io => unreachable(format!("cannot reach Redis at `{place}`")),
        DriverKind::Parse => unreachable(format!("what answers at `{place}` is not Redis, or is for TLS, `rediss://`")),
        DriverKind::RESP3NotSupported => {
            let why = format!(
                "Redis at `{place}` does not know RESP3: `protocol=resp2` does without, where Redis is 6.2 or later"
            );
            Error::config(operation, why)
        }
        DriverKind::InvalidClientConfig => {
            Error::config(operation, format!("Redis at `{place}` cannot be connected to in this way")).with_source(text)
        }
        // Said by the driver in place of what the server said.
        DriverKind::AuthenticationFailed => {
            unreachable(format!("Redis at `{place}` refuses user and password, or the connection"))
        }
        _ => match first_server_error(error) {
            Some((code, detail)) => at(place, &answer(operation, &code, &detail, None).into_error()),
            None => unreachable(format!("cannot connect to Redis at `{place}`")),
        },
    }
}

/// `error` in other words, about the same source: which becomes text, because it cannot be copied.
pub(crate) fn reworded(
    error: &Error,
    kind: ErrorKind,
    operation: &'static str,
    message: impl Into<Cow<'static, str>>,
) -> Error {
    let copy = Error::new(kind, operation, message);
    match std::error::Error::source(error) {
        Some(source) => copy.with_source(source.to_string()),
        None => copy,
    }
}

/// `error`, naming the server.
pub(crate) fn at(place: &str, error: &Error) -> Error {
    reworded(error, error.kind(), error.operation(), format!("`{place}`: {}", error.message()))
}

/// As [`answer`], of a sentinel at `place`: those have users and passwords of their own.
pub(crate) fn sentinels_answer(
    operation: &'static str,
    place: &str,
    code: &str,
    detail: &str,
    command: Option<&Cmd>,
) -> Error {
    let error = answer(operation, code, detail, command).into_error();
    let why = match code {
        "NOAUTH" => "asks for a password, which `sentinel_password` names",
        "WRONGPASS" => {
            "knows no such user with this password, or the user is switched off: see `sentinel_username` and `sentinel_password`"
        }
        "NOPERM" => {
            "does not tell its user where the server is: that takes the permission `+sentinel|get-master-addr-by-name`, or another user, \
             whom `sentinel_username` and `sentinel_password` name"
        }
        _ => return at(place, &error),
    };
    reworded(&error, error.kind(), operation, format!("the sentinel at `{place}` {why}"))
}

/// The same error once more, for each who waited on one connection.
pub(crate) fn again(error: &Error, operation: &'static str) -> Error {
    reworded(error, error.kind(), operation, error.message().to_owned())
}

/// `error` as one that waiting may cure: whoever settles or stores has nothing better to do than to wait until a password or a
/// permission is mended, and would take another kind of error for the fault of what it settles.
pub(crate) fn passing(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Config => reworded(&error, ErrorKind::Unavailable, error.operation(), error.message().to_owned()),
        _ => error,
    }
}

/// That a message has nowhere to go.
pub(crate) fn unbound(operation: &'static str, exchange: &str, key: &str) -> Error {
    let why = format!("no queue is bound to exchange `{exchange}` by routing key `{key}`");
    Error::new(ErrorKind::NotFound, operation, why)
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::unavailable(operation, "the store is closed")
}

/// The server's own words.
#[derive(Clone, Copy)]
struct Said<'a>(&'a str, &'a str);

impl Said<'_> {
    fn error(self, kind: ErrorKind, operation: &'static str, why: Cow<'static, str>) -> Error {
        Error::new(kind, operation, why).with_source(format!("{} {}", self.0, self.1))
    }
}

/// That one of these keys is in the way.
fn wrong_type(keys: &[Cow<'_, str>]) -> String {
    let subject = match keys {
        [] => "a key".to_owned(),
        [key] => format!("key `{key}`"),
        keys => format!("one of the keys `{}`", keys.join("`, `")),
    };
    format!(
        "{subject} holds another type than celeriac and Celery keep there: another program uses the same names and \
         database; rename or delete it, or set `global_keyprefix`"
    )
}

/// Of a command within a script Redis says `The user executing the script can't run this command or subcommand`, or `... can't access at least
/// one of the keys mentioned in the command arguments`; later ones `ACL failure in script: User w has no ...`.
fn says_no_permission(text: &str) -> bool {
    text.contains("The user executing the script can't") || text.contains("failure in script: User")
}

/// Redis 7 says `User u has no permissions to run the 'get' command`, or `... to access the 'k' key`; older ones less.
fn no_permission(detail: &str) -> String {
    let lacks = [
        ("run th", "to run a command; `ACL SETUSER ... +@all` allows all of them"),
        ("key", "for a key; `ACL SETUSER ... ~*` allows all of them"),
        ("channel", "for a channel; `ACL SETUSER ... &*` allows all of them"),
    ];
    let lack = lacks.iter().find(|(mark, _)| detail.contains(mark)).map_or("", |(_, lack)| lack);
    format!("the user that Redis is asked as lacks a permission {lack}").trim_end().to_owned()
}

fn name(command: &Cmd) -> String {
    let mut words = words(command);
    let name = words.next().unwrap_or_default();
    match name.as_ref() {
        // The second word names the command too.
        "CLIENT" | "SCRIPT" => format!("{name} {}", words.next().unwrap_or_default()),
        _ => name.into_owned(),
    }
}

/// The keys of a command: those of a script, or the first argument of any other.
fn keys(command: &Cmd) -> Vec<Cow<'_, str>> {
    let mut words = words(command);
    if words.next().as_deref() != Some("EVALSHA") {
        return words.next().into_iter().collect();
    }
    let count = words.nth(1).and_then(|count| count.parse().ok());
    words.take(count.unwrap_or(0)).collect()
}

fn words(command: &Cmd) -> impl Iterator<Item = Cow<'_, str>> {
    command.args_iter().filter_map(|word| match word {
        Arg::Simple(word) => Some(String::from_utf8_lossy(word)),
        _ => None,
    })
}

/// The answer to a command has another shape than it should.
pub(crate) fn unexpected(operation: &'static str, error: impl std::fmt::Display) -> Error {
    Error::unexpected(operation, "Redis answered in another shape than expected").with_source(error.to_string())
}

/// What one of our scripts says went wrong: the server's words, perhaps with the key before them.
pub(crate) fn script_failed(operation: &'static str, what: &str) -> Error {
    let is_code = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
    let (code, detail) = what.split_once(' ').filter(|(code, _)| is_code(code)).unwrap_or(("ERR", what));
    answer(operation, code, detail, None).into_error()
}

#[cfg(test)]
mod tests;
