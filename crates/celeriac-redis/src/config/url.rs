//! URLs into [`RedisConfig`].
//!
//! No text of a URL is repeated in an error unless it cannot be a piece of a password: where a password holds a `/`, `?`, `;` or
//! `@` that is not percent-encoded, its pieces turn up anywhere in what follows.

use std::path::PathBuf;
use std::time::Duration;

use celeriac_core::{Error, Result};

use super::{Address, Pem, PriorityOrder, Protocol, RedisConfig, Sentinel, Server};

const OPTIONS: &str = "connect_timeout, db, fanout_prefix, global_keyprefix, lease, master_name, max_message_bytes, password, \
     priority_order, priority_steps, protocol, response_timeout, result_keyprefix, sentinel_password, sentinel_username, \
     ssl_ca_certs, ssl_cert_reqs, ssl_certfile, ssl_keyfile, startup_timeout, username, virtual_host and visibility_timeout";

const ENCODE: &str = "in user, password and options, `/`, `?`, `#`, `;`, `@`, `&` and `%` are written as `%2F`, `%3F`, `%23`, `%3B`, \
     `%40`, `%26` and `%25`";

#[derive(Clone, Copy, PartialEq)]
enum Scheme {
    Tcp { tls: bool },
    Unix,
    Sentinel { tls: bool },
}

/// The names of the schemes, and what they mean.
const SCHEMES: [(&str, Scheme); 10] = [
    ("redis", Scheme::Tcp { tls: false }),
    ("rediss", Scheme::Tcp { tls: true }),
    ("valkey", Scheme::Tcp { tls: false }),
    ("valkeys", Scheme::Tcp { tls: true }),
    ("redis+socket", Scheme::Unix),
    ("redis+unix", Scheme::Unix),
    ("valkey+unix", Scheme::Unix),
    ("unix", Scheme::Unix),
    ("sentinel", Scheme::Sentinel { tls: false }),
    ("sentinels", Scheme::Sentinel { tls: true }),
];

pub(super) const NAMES: [&str; SCHEMES.len()] = {
    let mut names = [""; SCHEMES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = SCHEMES[at].0;
        at += 1;
    }
    names
};

impl Scheme {
    fn read(scheme: &str) -> Option<Self> {
        SCHEMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme)).map(|(_, scheme)| *scheme)
    }

    fn port(self) -> u16 {
        if matches!(self, Self::Sentinel { .. }) { 26379 } else { 6379 }
    }

    fn tls(self) -> bool {
        matches!(self, Self::Tcp { tls: true } | Self::Sentinel { tls: true })
    }
}

/// One part of a list, cut up.
struct Part<'a> {
    scheme: Scheme,
    server: Server,
    /// The database, where the path names it.
    db: &'a str,
    query: &'a str,
}

pub(super) fn parse(url: &str) -> Result<RedisConfig> {
    let mut parts = Vec::<Part<'_>>::new();
    for text in url.split(';').filter(|text| !text.is_empty()) {
        let scheme = parts.first().map(|first| first.scheme);
        parts.push(cut(text, scheme)?);
    }
    let Some(first) = parts.first() else { return Err(refuse("the url is empty")) };
    let scheme = first.scheme;
    let sentinel = matches!(scheme, Scheme::Sentinel { .. });
    if parts.iter().any(|part| matches!(part.scheme, Scheme::Sentinel { .. }) != sentinel) {
        return Err(refuse("a list names either servers or sentinels, not both"));
    }
    let mut db = Once::default();
    let mut options = Vec::new();
    for part in &parts {
        if !part.db.is_empty() {
            db.set("the database", number("the database in the path", part.db)?)?;
        }
        for option in part.query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            options.push((name, decode("an option", value)?));
        }
    }
    let mut servers: Vec<_> = parts.into_iter().map(|part| part.server).collect();
    let (username, password) = (servers[0].username.clone(), servers[0].password.clone());
    // What a later part leaves out is as in the first one.
    for server in servers.iter_mut().filter(|server| server.username.is_none() && server.password.is_none()) {
        (server.username, server.password) = (username.clone(), password.clone());
    }
    let mut config = RedisConfig::at(servers);
    config.sentinel = sentinel.then(Sentinel::default);
    let mut given = Vec::<(&str, &str)>::new();
    for (name, value) in &options {
        match given.iter().find(|(known, _)| known == name) {
            Some((_, before)) if before == value => continue,
            Some(_) => return Err(refuse(format!("option `{name}` is given twice, with different values"))),
            None => given.push((name, value)),
        }
        set(&mut config, &mut db, name, value)?;
    }
    config.db = db.0.unwrap_or(0);
    if config.sentinel.as_ref().is_some_and(|sentinel| sentinel.master_name.is_empty()) {
        return Err(refuse("sentinels are asked for a master by its name: add `?master_name=...`"));
    }
    Ok(config)
}

/// A value that may be given in several places, and then must be the same.
#[derive(Default)]
struct Once<T>(Option<T>);

impl<T: PartialEq> Once<T> {
    fn set(&mut self, what: &str, value: T) -> Result<()> {
        match self.0.replace(value) {
            Some(before) if Some(&before) != self.0.as_ref() => {
                Err(refuse(format!("{what} is given more than once, with different values")))
            }
            _ => Ok(()),
        }
    }
}

fn cut<'a>(text: &'a str, before: Option<Scheme>) -> Result<Part<'a>> {
    let (scheme, rest) = match (text.split_once("://"), before) {
        (Some((name, rest)), _) => {
            let named =
                || if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+') { name } else { "..." };
            (
                Scheme::read(name)
                    .ok_or_else(|| refuse(format!("no scheme `{}`; known are {}", named(), NAMES.join(", "))))?,
                rest,
            )
        }
        (None, Some(scheme)) => (scheme, text),
        (None, None) => {
            let known = NAMES.join(", ");
            return Err(refuse(format!("the url begins with none of the schemes {known}, followed by `://`")));
        }
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if path.contains(['@', '#']) || query.contains(['@', '#']) {
        return Err(refuse(format!("an `@` or `#` stands where none can be: {ENCODE}")));
    }
    let (credentials, host) = match authority.rsplit_once('@') {
        Some((credentials, host)) => (Some(credentials), host),
        None => (None, authority),
    };
    let (username, password) =
        match credentials.map(|credentials| credentials.split_once(':').unwrap_or((credentials, ""))) {
            Some((username, password)) => {
                // `user:@` is a user without a password; a user alone gets it from elsewhere.
                let named = credentials.is_some_and(|credentials| credentials.contains(':')) && !username.is_empty();
                let username = Some(decode("the user", username)?).filter(|username| !username.is_empty());
                let password = Some(decode("the password", password)?).filter(|password| named || !password.is_empty());
                (username, password)
            }
            None => (None, None),
        };
    let (address, db) = if scheme == Scheme::Unix {
        // `unix://relative.sock` has its path where others have a host.
        let path = PathBuf::from(decode("the path", &rest[authority.len() - host.len()..])?);
        if path.as_os_str().is_empty() {
            return Err(refuse(
                "the path of the socket is empty: three slashes follow the scheme, as in `unix:///run/redis.sock`",
            ));
        }
        (Address::Unix(path), "")
    } else {
        (tcp(host, scheme.port())?, path.trim_matches('/'))
    };
    Ok(Part { scheme, server: Server { address, tls: scheme.tls(), username, password }, db, query })
}

fn tcp(host: &str, default_port: u16) -> Result<Address> {
    let wrong = |what: &str| refuse(format!("{what}; {ENCODE}"));
    let (host, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| wrong("an IPv6 address has no `]` after it"))?;
            let port = after.strip_prefix(':').or(after.is_empty().then_some(""));
            (host, port.ok_or_else(|| wrong("after the `]` of an IPv6 address comes `:` and a port, or nothing"))?)
        }
        None => host.split_once(':').unwrap_or((host, "")),
    };
    let port = match port {
        "" => default_port,
        port => {
            port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("a port is not a number of 1 to 65535"))?
        }
    };
    let host = if host.is_empty() { "localhost".to_owned() } else { decode("a host", host)?.to_ascii_lowercase() };
    Ok(Address::Tcp { host, port })
}

fn set(config: &mut RedisConfig, db: &mut Once<u32>, name: &str, value: &str) -> Result<()> {
    let wrong = |takes: &str| refuse(format!("option `{name}` takes {takes}"));
    let seconds = || {
        let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.ok_or_else(|| wrong("a number of seconds"))
    };
    let text = || value.to_owned();
    let file = || Some(Pem::File(PathBuf::from(value)));
    match name {
        "connect_timeout" => config.connect_timeout = seconds()?,
        "db" | "virtual_host" => {
            db.set("the database", number(&format!("option `{name}`"), value.trim_matches('/'))?)?
        }
        "fanout_prefix" => match value {
            "true" | "True" | "1" => {}
            "false" | "False" | "0" => config.fanout_prefix.clear(),
            _ => config.fanout_prefix = text(),
        },
        "global_keyprefix" => config.global_keyprefix = text(),
        "lease" => config.lease = seconds()?,
        "max_message_bytes" => {
            config.max_message_bytes = value.parse().map_err(|_| wrong("a number of bytes"))?;
        }
        "password" => config.servers.iter_mut().for_each(|server| server.password = Some(text())),
        "priority_order" => {
            config.priority_order = match value {
                "celery" => PriorityOrder::Celery,
                "highest" => PriorityOrder::Highest,
                _ => return Err(wrong("`celery` or `highest`")),
            }
        }
        "priority_steps" => {
            let steps: std::result::Result<_, _> = value.split(',').map(|step| step.trim().parse()).collect();
            config.priority_steps = steps.map_err(|_| wrong("numbers joined by commas, as in `0,3,6,9`"))?;
        }
        "protocol" => {
            config.protocol = match value {
                "resp2" | "2" => Protocol::Resp2,
                "resp3" | "3" => Protocol::Resp3,
                _ => return Err(wrong("`resp2` or `resp3`")),
            }
        }
        "response_timeout" => config.response_timeout = seconds()?,
        "result_keyprefix" => config.result_keyprefix = text(),
        "ssl_ca_certs" => config.certificates.authority = file(),
        "ssl_cert_reqs" => match value.strip_prefix("CERT_").unwrap_or(value).to_ascii_lowercase().as_str() {
            "required" => {}
            "none" | "optional" => {
                let why = "the server's certificate is always checked: `ssl_cert_reqs` can only be `required`; name the authority \
                     of a certificate of your own in `ssl_ca_certs`";
                return Err(refuse(why));
            }
            _ => return Err(wrong("`required`")),
        },
        "ssl_certfile" => config.certificates.certificate = file(),
        "ssl_keyfile" => config.certificates.key = file(),
        "startup_timeout" => config.startup_timeout = seconds()?,
        "username" => config.servers.iter_mut().for_each(|server| server.username = Some(text())),
        "visibility_timeout" => config.visibility_timeout = seconds()?,
        "master_name" | "sentinel_username" | "sentinel_password" => {
            let Some(sentinel) = &mut config.sentinel else {
                return Err(refuse(format!("option `{name}` is for sentinels, whose urls begin with `sentinel://`")));
            };
            match name {
                "master_name" => sentinel.master_name = text(),
                "sentinel_username" => sentinel.username = Some(text()),
                _ => sentinel.password = Some(text()),
            }
        }
        _ if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) => {
            return Err(refuse(format!("unknown option `{name}`; known are {OPTIONS}")));
        }
        _ => return Err(refuse(format!("an option's name cannot be read; {ENCODE}"))),
    }
    Ok(())
}

fn number(what: &str, text: &str) -> Result<u32> {
    text.parse().map_err(|_| refuse(format!("{what} is not a number")))
}

fn decode(what: &str, text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let code = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                code.ok_or_else(|| {
                    refuse(format!("{what} has a `%` without two hexadecimal digits after it; a `%` is `%25`"))
                })?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| refuse(format!("{what} is not UTF-8")))
}

fn refuse(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::config("parse url", why)
}

#[cfg(test)]
mod tests;
