//! URLs into [`AmqpConfig`].

use std::path::PathBuf;

use celeriac_core::Result;
use celeriac_core::url::{ServerUrl, decode, host_and_port, options, refuse, seconds, unknown_option};

use super::{AmqpConfig, Auth, FailoverStrategy, Pem, QueueType, Server};

const OPTIONS: &str = "auth, auth_mechanism, connect_timeout, connection_name, consumer_timeout, delay_queue_type, failover_strategy, frame_max, \
     heartbeat, login_method, max_message_bytes, max_priority, publish_timeout, queue_type, result_expires, ssl_ca_certs, ssl_cert_reqs, \
     ssl_certfile, ssl_keyfile and startup_timeout";

pub(super) const NAMES: [&str; 3] = ["amqp", "amqps", "pyamqp"];

pub(super) fn parse(url: &str) -> Result<AmqpConfig> {
    let mut servers = Vec::<Server>::new();
    let mut vhost = None;
    let mut queries = Vec::new();
    for text in url.split(';').filter(|text| !text.is_empty()) {
        let part = ServerUrl::new(text)?;
        let tls = tls(&part, servers.first())?;
        let (host, port) = host_and_port(part.host, if tls { 5671 } else { 5672 })?;
        // What is left of the path is the name: `//` is that of `/`, and no name at all is too.
        let named = decode("the virtual host", part.path.strip_prefix('/').unwrap_or(part.path))?;
        let named = Some(named).filter(|named| !named.is_empty());
        if vhost.is_some() && named.is_some() && vhost != named {
            return Err(refuse("the virtual host is given more than once, with different values"));
        }
        vhost = vhost.or(named);
        queries.push(part.query);
        servers.push(Server { host, port, tls, username: part.username, password: part.password });
    }
    let Some(first) = servers.first() else { return Err(refuse("the url is empty")) };
    let (username, password) = (first.username.clone(), first.password.clone());
    // What a later part leaves out is as in the first one.
    for server in servers.iter_mut().filter(|server| server.username.is_none() && server.password.is_none()) {
        (server.username, server.password) = (username.clone(), password.clone());
    }
    let mut config = AmqpConfig::at(servers);
    if let Some(vhost) = vhost {
        config.vhost = vhost;
    }
    for (name, value) in options(queries)? {
        set(&mut config, name, &value)?;
    }
    Ok(config)
}

fn tls(part: &ServerUrl<'_>, first: Option<&Server>) -> Result<bool> {
    match (part.scheme, first) {
        (Some(name), _) => match name.to_ascii_lowercase().as_str() {
            "amqp" | "pyamqp" => Ok(false),
            "amqps" => Ok(true),
            _ => Err(refuse(format!("no scheme `{}`; known are {}", part.shown_scheme(), NAMES.join(", ")))),
        },
        (None, Some(first)) => Ok(first.tls),
        (None, None) => {
            Err(refuse(format!("the url begins with none of the schemes {}, followed by `://`", NAMES.join(", "))))
        }
    }
}

fn set(config: &mut AmqpConfig, name: &str, value: &str) -> Result<()> {
    let wrong = |takes: &str| refuse(format!("option `{name}` takes {takes}"));
    let seconds = || seconds(name, value);
    let file = || Some(Pem::File(PathBuf::from(value)));
    let lower = value.to_ascii_lowercase();
    let queue_type = || match lower.as_str() {
        "classic" => Ok(QueueType::Classic),
        "quorum" => Ok(QueueType::Quorum),
        _ => Err(wrong("`classic` or `quorum`")),
    };
    match name {
        "auth" | "auth_mechanism" | "login_method" => {
            config.auth = match lower.as_str() {
                "plain" => Auth::Plain,
                "external" => Auth::External,
                _ => return Err(wrong("`plain` or `external`")),
            }
        }
        "connect_timeout" => config.connect_timeout = seconds()?,
        "connection_name" => value.clone_into(&mut config.connection_name),
        "consumer_timeout" => config.consumer_timeout = seconds()?,
        "delay_queue_type" => config.delay_queue_type = queue_type()?,
        "failover_strategy" => {
            config.failover = match lower.as_str() {
                "round-robin" => FailoverStrategy::RoundRobin,
                "shuffle" => FailoverStrategy::Shuffle,
                _ => return Err(wrong("`round-robin` or `shuffle`")),
            }
        }
        "frame_max" => config.frame_max = value.parse().map_err(|_| wrong("a number of bytes"))?,
        "heartbeat" => config.heartbeat = seconds()?,
        "max_message_bytes" => config.max_message_bytes = value.parse().map_err(|_| wrong("a number of bytes"))?,
        "max_priority" => config.max_priority = Some(value.parse().map_err(|_| wrong("a number of 1 to 255"))?),
        "publish_timeout" => config.publish_timeout = seconds()?,
        "queue_type" => config.queue_type = queue_type()?,
        "result_expires" => config.result_expires = seconds()?,
        "ssl_ca_certs" => config.certificates.authority = file(),
        "ssl_cert_reqs" => match lower.strip_prefix("cert_").unwrap_or(&lower) {
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
        _ => return Err(unknown_option(name, OPTIONS)),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
