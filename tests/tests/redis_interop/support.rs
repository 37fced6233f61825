//! A Redis, and what both keep there.

use std::ops::Deref;

use celeriac::AppBuilder;
use celeriac_testkit::server::RedisServer;
use celeriac_tests::until;
use serde_json::{Value as Json, json};

use crate::pair::Pair;
pub(crate) use crate::pair::{PATIENCE, RustWorker, json_of, open_step, value};

/// A Redis, an app in Rust and a client in Python; both keep queues and results in its database 0. No worker yet.
pub(crate) struct Bench {
    pair: Pair,
    pub(crate) server: RedisServer,
}

impl Deref for Bench {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        &self.pair
    }
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(&json!({}), "", |app| app).await
    }

    /// With settings of the client's app; with what follows the URL of the app in Rust, and what else there is to say of it.
    pub(crate) async fn with(settings: &Json, options: &str, more: impl FnOnce(AppBuilder) -> AppBuilder) -> Self {
        let server = RedisServer::start().await;
        let pair = Pair::new((server.url(), server.url()), settings, options, more).await;
        Self { pair, server }
    }

    /// What Redis answers, as text.
    pub(crate) async fn ask(&self, words: &[&str]) -> String {
        self.server.command(words).await.text()
    }

    /// Waits until Redis answers so.
    pub(crate) async fn until(&self, words: &[&str], wanted: &str) {
        until(&format!("{words:?} is {wanted}"), async || self.ask(words).await == wanted).await;
    }

    /// Waits until no message is anywhere in the queue, nor in anybody's hands.
    pub(crate) async fn is_empty(&self, queue: &str) {
        let lists = ["", "\u{6}\u{16}3", "\u{6}\u{16}6", "\u{6}\u{16}9"].map(|step| format!("{queue}{step}"));
        let parked = format!("_celeriac.parked.{queue}");
        let mut counts = vec![["HLEN", "unacked"], ["ZCARD", "unacked_index"], ["ZCARD", &parked]];
        counts.extend(lists.iter().map(|list| ["LLEN", list.as_str()]));
        // At one moment: a message on its way from one to the other is in neither when they are asked one by one.
        let mut connection = self.server.connect().await.unwrap();
        until(&format!("`{queue}` is empty"), async || {
            connection.command(&["MULTI"]).await.unwrap();
            for count in &counts {
                connection.command(count).await.unwrap();
            }
            connection.command(&["EXEC"]).await.unwrap().texts().iter().all(|count| count == "0")
        })
        .await;
    }
}

/// Peers in Python who look every second for what nobody has acknowledged for `seconds`.
pub(crate) fn visibility(seconds: u64) -> Json {
    json!({"broker_transport_options": {
        "visibility_timeout": seconds, "unacked_restore_interval": 1, "unacked_restore_throttle": 1,
    }})
}
