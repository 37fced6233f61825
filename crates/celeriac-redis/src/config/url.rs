//! URLs into [`RedisConfig`].

use std::path::PathBuf;

use celeriac_core::Result;
use celeriac_core::url::{ServerUrl, decode, host_and_port, options, refuse, seconds, unknown_option};

use super::{Address, Pem, PriorityOrder, Protocol, RedisConfig, Sentinel, Server};

const OPTIONS: &str = "connect_timeout, db, fanout_prefix, global_keyprefix, lease, master_name, max_message_bytes, password, \
     priority_order, priority_steps, protocol, response_timeout, result_keyprefix, sentinel_password, sentinel_username, \
     ssl_ca_certs, ssl_cert_reqs, ssl_certfile, ssl_keyfile, startup_timeout, username, virtual_host and visibility_timeout";

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
    for part in parts.iter().filter(|part| !part.db.is_empty()) {
        db.set("the database", number("the database in the path", part.db)?)?;
    }
    let options = options(parts.iter().map(|part| part.query))?;
    let mut servers: Vec<_> = parts.into_iter().map(|part| part.server).collect();
    let (username, password) = (servers[0].username.clone(), servers[0].password.clone());
    // What a later part leaves out is as in the first one.
    for server in servers.iter_mut().filter(|server| server.username.is_none() && server.password.is_none()) {
        (server.username, server.password) = (username.clone(), password.clone());
    }
    let mut config = RedisConfig::at(servers);
    config.sentinel = sentinel.then(Sentinel::default);
    for (name, value) in &options {
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

fn cut(text: &str, before: Option<Scheme>) -> Result<Part<'_>> {
    let url = ServerUrl::new(text)?;
    let known = NAMES.join(", ");
    let scheme = match (url.scheme, before) {
        (Some(name), _) => Scheme::read(name)
            .ok_or_else(|| refuse(format!("no scheme `{}`; known are {known}", url.shown_scheme())))?,
        (None, Some(scheme)) => scheme,
        (None, None) => {
            return Err(refuse(format!("the url begins with none of the schemes {known}, followed by `://`")));
        }
    };
    let (address, db) = if scheme == Scheme::Unix {
        // `unix://relative.sock` has its path where others have a host.
        let path = PathBuf::from(decode("the path", url.host)? + &decode("the path", url.path)?);
        if path.as_os_str().is_empty() {
            return Err(refuse(
                "the path of the socket is empty: three slashes follow the scheme, as in `unix:///run/redis.sock`",
            ));
        }
        (Address::Unix(path), "")
    } else {
        let (host, port) = host_and_port(url.host, scheme.port())?;
        (Address::Tcp { host, port }, url.path.trim_matches('/'))
    };
    let server = Server { address, tls: scheme.tls(), username: url.username, password: url.password };
    Ok(Part { scheme, server, db, query: url.query })
}

fn set(config: &mut RedisConfig, db: &mut Once<u32>, name: &str, value: &str) -> Result<()> {
    let wrong = |takes: &str| refuse(format!("option `{name}` takes {takes}"));
    let seconds = || seconds(name, value);
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
        _ => return Err(unknown_option(name, OPTIONS)),
    }
    Ok(())
}

fn number(what: &str, text: &str) -> Result<u32> {
    text.parse().map_err(|_| refuse(format!("{what} is not a number")))
}

#[cfg(test)]
mod tests;
