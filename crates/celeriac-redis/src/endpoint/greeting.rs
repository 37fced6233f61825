//! What is said first on a new connection: who asks, and whether this is a server to use.

use celeriac_core::{Error, Result};
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{self, Cmd, FromRedisValue, Pipeline, RedisConnectionInfo, ServerError, Value};

use super::version;
use crate::config::{Protocol, Server};
use crate::error::{answer, at, sentinels_answer, unconnected};

/// What a connection is expected to lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Primary,
    Sentinel,
}

/// What the driver says by itself. In RESP2 that is nothing, because it hides the server's answer to it.
pub(super) fn login(server: &Server, protocol: Protocol) -> RedisConnectionInfo {
    let login = RedisConnectionInfo::default().set_protocol(version(protocol)).set_skip_set_lib_name();
    match (protocol, &server.username, &server.password) {
        (Protocol::Resp3, Some(username), Some(password)) => login.set_username(username).set_password(password),
        (Protocol::Resp3, None, Some(password)) => login.set_password(password),
        _ => login,
    }
}

/// All in one round trip.
pub(super) async fn greet(
    operation: &'static str,
    place: &str,
    server: &Server,
    (protocol, db): (Protocol, u32),
    expected: Expected,
    connection: &mut MultiplexedConnection,
) -> Result<()> {
    // Alone, because the driver forgets the first answer of several when the connection is closed after it: that of a server
    // which is full, or which has seen the client's certificate only now.
    let auth = server.password.as_ref().filter(|_| protocol == Protocol::Resp2).map(|password| {
        let mut auth = redis::cmd("AUTH");
        auth.arg(server.username.as_deref().unwrap_or("default")).arg(password);
        auth
    });
    let first = auth.clone().unwrap_or_else(named);
    // Sentinels have no databases.
    let db = if expected == Expected::Primary { db } else { 0 };
    let mut rest = Pipeline::new();
    rest.cmd("SELECT").arg(db).cmd("ROLE").cmd("INFO").arg("server");
    // For whoever reads `CLIENT LIST`; older servers do not know the others.
    rest.add_command(named());
    rest.cmd("CLIENT").arg("SETINFO").arg("LIB-NAME").arg("celeriac");
    rest.cmd("CLIENT").arg("SETINFO").arg("LIB-VER").arg(env!("CARGO_PKG_VERSION"));
    let mut other = connection.clone();
    let (first_answer, answers) =
        tokio::join!(connection.send_packed_command(&first), other.send_packed_commands(&rest, 0, rest.len()));
    let unconnected = |error| unconnected(operation, place, &error);
    let first_answer = first_answer.map_err(unconnected)?;
    let unusable = |error: &ServerError| {
        matches!(error.code(), "NOAUTH" | "DENIED")
            || error.details().is_some_and(|detail| detail.contains("max number of clients"))
    };
    match &first_answer {
        Value::ServerError(error) if auth.is_some() || unusable(error) => {
            refused(operation, place, &first_answer, Some(&first), expected)?;
        }
        _ => {}
    }
    let mut answers = answers.map_err(unconnected)?.into_iter();
    if let Some(selected) = answers.next().filter(|_| db != 0) {
        refused(operation, place, &selected, rest.cmd_iter().next(), expected)?;
    }
    // A server that forbids these has to be trusted.
    if let Some(Value::Array(role)) = answers.next() {
        check_role(operation, place, &role, expected)?;
    }
    match answers.next().and_then(|info| String::from_redis_value(info).ok()) {
        Some(info) if expected == Expected::Primary => check_version(operation, place, &info),
        _ => Ok(()),
    }
}

fn named() -> Cmd {
    let mut command = redis::cmd("CLIENT");
    command.arg("SETNAME").arg("celeriac");
    command
}

fn refused(
    operation: &'static str,
    place: &str,
    value: &Value,
    command: Option<&Cmd>,
    expected: Expected,
) -> Result<()> {
    let Value::ServerError(error) = value else { return Ok(()) };
    let (code, detail) = (error.code(), error.details().unwrap_or_default());
    Err(match expected {
        Expected::Primary => at(place, &answer(operation, code, detail, command).into_error()),
        Expected::Sentinel => sentinels_answer(operation, place, code, detail, command),
    })
}

fn check_role(operation: &'static str, place: &str, role: &[Value], expected: Expected) -> Result<()> {
    let role = match role.first() {
        Some(Value::BulkString(role)) => role.as_slice(),
        Some(Value::SimpleString(role)) => role.as_bytes(),
        _ => return Ok(()),
    };
    match (role, expected) {
        (b"sentinel", Expected::Primary) => {
            let why = format!("a sentinel answers at `{place}`: the url for sentinels begins with `sentinel://`");
            Err(Error::config(operation, why))
        }
        (b"slave", Expected::Primary) => {
            Err(Error::unavailable(operation, format!("Redis at `{place}` is a replica, and takes no changes")))
        }
        (b"master" | b"slave", Expected::Sentinel) => {
            let why = format!("the server at `{place}` is no sentinel: the url for servers begins with `redis://`");
            Err(Error::config(operation, why))
        }
        _ => Ok(()),
    }
}

fn check_version(operation: &'static str, place: &str, info: &str) -> Result<()> {
    let Some(version) = info.lines().find_map(|line| line.strip_prefix("redis_version:")) else { return Ok(()) };
    let mut numbers = version.trim().split('.').map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < (6, 2) => {
            let why = format!("Redis at `{place}` has version {}; 6.2 or later is needed", version.trim());
            Err(Error::unsupported(operation, why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_older_than_6_2_are_refused() {
        let check = |version: &str| {
            check_version("open", "here", &format!("# Server\r\nredis_version:{version}\r\nredis_mode:x\r\n"))
        };
        for old in ["6.0.16", "5.0.14", "6.1.240", "2.8"] {
            let error = check(old).unwrap_err();
            assert!(error.to_string().contains(&format!("has version {old}; 6.2 or later")), "{error}");
        }
        for good in ["6.2.0", "7.0.15", "8.4.0", "10.0.0", "unknown"] {
            check(good).unwrap();
        }
        check_version("open", "here", "").unwrap();
    }

    #[test]
    fn only_a_primary_will_do() {
        let role = |name: &str| vec![Value::BulkString(name.into()), Value::Int(0)];
        check_role("open", "here", &role("master"), Expected::Primary).unwrap();
        check_role("open", "here", &role("sentinel"), Expected::Sentinel).unwrap();
        assert!(check_role("open", "here", &role("slave"), Expected::Primary).unwrap_err().is_retryable());
        assert!(
            check_role("open", "here", &role("sentinel"), Expected::Primary)
                .unwrap_err()
                .to_string()
                .contains("`sentinel://`")
        );
        assert!(
            check_role("open", "here", &role("master"), Expected::Sentinel)
                .unwrap_err()
                .to_string()
                .contains("`redis://`")
        );
    }
}
