//! What the tests have in common.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use celeriac_broker::{ConsumeOptions, Consumer, Delivery, Outgoing};
use celeriac_core::{Message, QueueName};
use celeriac_sqlite::{SqliteConfig, SqliteStore};
use celeriac_testkit::soon;
use tempfile::TempDir;

pub(crate) const ONE: NonZeroUsize = NonZeroUsize::MIN;
pub(crate) const MANY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99);

pub(crate) struct Place {
    pub(crate) directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory is made") }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("jobs.db")
    }

    pub(crate) fn config(&self) -> SqliteConfig {
        SqliteConfig::new(self.path())
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        open(self.config()).await
    }
}

pub(crate) async fn open(config: SqliteConfig) -> SqliteStore {
    SqliteStore::open(config).await.expect("the store opens")
}

/// SQLite without celeriac.
pub(crate) fn raw(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).expect("SQLite opens the file")
}

pub(crate) fn queue(name: &'static str) -> QueueName {
    QueueName::from_static(name)
}

pub(crate) fn outgoing(body: impl Into<String>, queue: &QueueName) -> Outgoing {
    Outgoing::new(Message { body: body.into().into(), ..Message::default() }, queue)
}

pub(crate) async fn publish(store: &SqliteStore, queue: &QueueName, bodies: &[&str]) {
    let batch = bodies.iter().map(|body| outgoing(*body, queue)).collect();
    store.broker().publish(batch).await.expect("messages are published");
}

pub(crate) async fn consumer(store: &SqliteStore, queue: &QueueName) -> Box<dyn Consumer> {
    store.broker().consume(ConsumeOptions::new([queue.clone()])).await.expect("a queue is consumed")
}

pub(crate) async fn one(consumer: &mut Box<dyn Consumer>) -> Delivery {
    soon(consumer.recv(ONE)).await.expect("a message is received").pop().expect("there is a message")
}

pub(crate) async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while let Some(left) = NonZeroUsize::new(count - taken.len()) {
        taken.extend(soon(consumer.recv(left)).await.expect("messages are received"));
    }
    taken
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).expect("tests send text")
}
