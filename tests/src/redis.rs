//! Messages on Redis as Celery writes them, and what is left on the server when all is done.

use std::net::SocketAddr;

use celeriac::AppBuilder;
use celeriac_testkit::server::RedisServer;
use serde_json::{Value as Json, json};

use crate::runs::{Runs, builder};
use crate::scenario::Site;

/// The item of a list as Python's Celery writes it: a call of `task` with the argument `n`. Change what is to be otherwise.
#[must_use]
pub fn envelope(task: &str, id: &str, n: u64) -> Json {
    let body = json!([[n], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]).to_string();
    json!({
        "body": to_base64(body.as_bytes()),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": id, "root_id": id, "parent_id": null, "group": null, "retries": 0},
        "properties": {
            "correlation_id": id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "17d3c1b0-29d1-4a27-8a3c-6bc5e1d5a8a1",
        },
    })
}

/// Text in the alphabet of 64 letters.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Reads what [`to_base64`] writes.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn unbase64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
}

/// What celeriac and Celery keep on a server though there is nothing to do: results, names, counters, marks that expire.
const KEPT: &[&str] = &[
    "celery-task-meta-",
    "_celeriac.exchanges",
    "_celeriac.fanouts.",
    "_celeriac.marks.",
    "_celeriac.queues",
    "_celeriac.seen.",
    "_celeriac.sweep",
    "_celeriac.taken",
    "_celeriac.workers",
    "_kombu.binding",
    // Of a Python worker that was killed while it looked for what others have left.
    "unacked_mutex",
];

/// The keys of one database that begin with `prefix` and stand for something that is not done: lists with messages, messages that are
/// held, messages that are parked. Empty when all is done.
///
/// # Panics
/// If the server is down.
pub async fn undone(server: &RedisServer, database: u8, prefix: &str) -> Vec<String> {
    let mut connection = server.connect().await.expect("the server runs");
    connection.command(&["SELECT", &database.to_string()]).await.expect("the server answers");
    let keys = connection.command(&["KEYS", &format!("{prefix}*")]).await.expect("the server answers").texts();
    let undone = |key: &String| {
        let name = key.strip_prefix(prefix).unwrap_or(key);
        !KEPT.iter().any(|kept| name.starts_with(kept))
    };
    keys.into_iter().filter(undone).collect()
}

/// The keys of one database that begin with a prefix.
#[derive(Debug)]
pub struct Keys<'a> {
    server: &'a RedisServer,
    prefix: &'a str,
    url: String,
}

impl<'a> Keys<'a> {
    /// For apps that reach `server` by `address`, with a short lease and further `options` of the URL.
    #[must_use]
    pub fn new(server: &'a RedisServer, address: SocketAddr, options: &str, prefix: &'a str) -> Self {
        let prefixes = format!("global_keyprefix={prefix}&result_keyprefix={prefix}");
        let url = format!("redis://{address}/0?lease=1&response_timeout=5&{prefixes}{options}");
        Self { server, prefix, url }
    }
}

impl Site for Keys<'_> {
    fn app(&self, runs: &Runs) -> AppBuilder {
        builder(&self.url, runs)
    }

    async fn undone(&self) -> Vec<String> {
        undone(self.server, 0, self.prefix).await
    }
}
