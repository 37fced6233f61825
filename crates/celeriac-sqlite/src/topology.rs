//! Queues, exchanges, bindings, and who listens to what, kept in memory as long as the database says that nothing changed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use celeriac_broker::{ExchangeKind, QueueSpec, topic_matches};
use celeriac_core::{Error, ErrorKind, ExchangeName, RoutingKey};
use rusqlite::{Connection, OptionalExtension};

use crate::error::{Fault, Outcome};
use crate::wake::Watching;

/// What publishing needs to know of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queue {
    pub(crate) id: i64,
    pub(crate) max_priority: Option<u8>,
    pub(crate) message_ttl: Option<i64>,
}

#[derive(Debug)]
struct Exchange {
    kind: ExchangeKind,
    bindings: Vec<(String, i64)>,
}

/// The cache. Only what exists is kept, so that new queues and exchanges need not be announced; every other change is, by
/// counting up `topology` in the table `meta`.
#[derive(Debug)]
pub(crate) struct Topology {
    version: i64,
    queues: HashMap<String, Queue>,
    by_id: HashMap<i64, Queue>,
    exchanges: HashMap<String, Exchange>,
    listeners: HashMap<i64, Vec<i64>>,
    /// Owners, and the bits of what they watch.
    watchers: Option<Vec<(i64, u8)>>,
}

impl Topology {
    pub(crate) fn new() -> Self {
        Self {
            version: -1,
            queues: HashMap::new(),
            by_id: HashMap::new(),
            exchanges: HashMap::new(),
            listeners: HashMap::new(),
            watchers: None,
        }
    }

    /// Forgets everything: after a rollback, what was read may never have been.
    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }

    /// At the beginning of every transaction: forgets what another process has changed since.
    pub(crate) fn refresh(&mut self, connection: &Connection) -> Outcome {
        let version = connection
            .prepare_cached("SELECT value FROM meta WHERE name = 'topology'")?
            .query_row([], |row| row.get(0))?;
        if version != self.version {
            self.forget();
            self.version = version;
        }
        Ok(())
    }

    /// Says in the present transaction that something changed.
    pub(crate) fn changed(&mut self, connection: &Connection) -> Outcome {
        let sql = "UPDATE meta SET value = value + 1 WHERE name = 'topology' RETURNING value";
        let version = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        self.forget();
        self.version = version;
        Ok(())
    }

    /// The queue `name`, if it exists.
    pub(crate) fn find(&mut self, connection: &Connection, name: &str) -> Outcome<Option<Queue>> {
        if let Some(queue) = self.queues.get(name) {
            return Ok(Some(*queue));
        }
        let sql = "SELECT id, max_priority, message_ttl FROM queue WHERE name = ?1";
        let found = connection.prepare_cached(sql)?.query_row([name], read_queue).optional()?;
        if let Some(queue) = found {
            self.queues.insert(name.to_owned(), queue);
            self.by_id.insert(queue.id, queue);
        }
        Ok(found)
    }

    /// The queue with this id, if it exists.
    pub(crate) fn by_id(&mut self, connection: &Connection, id: i64) -> Outcome<Option<Queue>> {
        if let Some(queue) = self.by_id.get(&id) {
            return Ok(Some(*queue));
        }
        let sql = "SELECT id, max_priority, message_ttl FROM queue WHERE id = ?1";
        let found = connection.prepare_cached(sql)?.query_row([id], read_queue).optional()?;
        if let Some(queue) = found {
            self.by_id.insert(id, queue);
        }
        Ok(found)
    }

    /// The queue `name`, made plain and durable if it does not exist.
    pub(crate) fn ensure(&mut self, connection: &Connection, name: &str, now: i64) -> Outcome<Queue> {
        if let Some(queue) = self.find(connection, name)? {
            return Ok(queue);
        }
        let sql = "INSERT INTO queue (name, durable, auto_delete, idle_since) VALUES (?1, 1, 0, ?2)";
        connection.prepare_cached(sql)?.execute((name, now))?;
        self.find(connection, name)?
            .ok_or_else(|| Fault::Said(Error::unexpected("declare queue", format!("queue `{name}` vanished"))))
    }

    /// Where a message goes.
    pub(crate) fn route(
        &mut self,
        connection: &Connection,
        exchange: &ExchangeName,
        key: &RoutingKey,
        now: i64,
    ) -> Outcome<Vec<i64>> {
        let missing = |what: String| Fault::Said(Error::new(ErrorKind::NotFound, "publish", what));
        if exchange.is_empty() {
            if key.is_empty() {
                return Err(missing("an empty routing key names no queue".to_owned()));
            }
            return Ok(vec![self.ensure(connection, key, now)?.id]);
        }
        let known = self
            .exchange(connection, exchange)?
            .ok_or_else(|| missing(format!("exchange `{exchange}` was never declared")))?;
        let mut queues: Vec<i64> = known
            .bindings
            .iter()
            .filter(|(bound, _)| match known.kind {
                ExchangeKind::Fanout => true,
                ExchangeKind::Topic => topic_matches(bound, key),
                _ => **bound == **key,
            })
            .map(|(_, queue)| *queue)
            .collect();
        if queues.is_empty() && known.kind != ExchangeKind::Fanout {
            return Err(missing(format!("no queue is bound to exchange `{exchange}` by a key that matches `{key}`")));
        }
        queues.sort_unstable();
        queues.dedup();
        Ok(queues)
    }

    fn exchange(&mut self, connection: &Connection, name: &str) -> Outcome<Option<&Exchange>> {
        if !self.exchanges.contains_key(name) {
            let sql = "SELECT id, kind FROM exchange WHERE name = ?1";
            let found: Option<(i64, String)> =
                connection.prepare_cached(sql)?.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((id, kind)) = found else { return Ok(None) };
            let kind = match kind.as_str() {
                "fanout" => ExchangeKind::Fanout,
                "topic" => ExchangeKind::Topic,
                _ => ExchangeKind::Direct,
            };
            let mut statement = connection.prepare_cached("SELECT key, queue FROM binding WHERE exchange = ?1")?;
            let bindings =
                statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            self.exchanges.insert(name.to_owned(), Exchange { kind, bindings });
        }
        Ok(self.exchanges.get(name))
    }

    /// The owners that consume `queue`.
    pub(crate) fn listeners(&mut self, connection: &Connection, queue: i64) -> Outcome<&[i64]> {
        Ok(match self.listeners.entry(queue) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(entry) => {
                let mut statement =
                    connection.prepare_cached("SELECT DISTINCT owner FROM consumer WHERE queue = ?1")?;
                entry.insert(statement.query_map([queue], |row| row.get(0))?.collect::<Result<_, _>>()?)
            }
        })
    }

    /// The owners that watch this.
    pub(crate) fn watchers(
        &mut self,
        connection: &Connection,
        what: Watching,
    ) -> Outcome<impl Iterator<Item = i64> + use<'_>> {
        if self.watchers.is_none() {
            let mut statement = connection.prepare_cached("SELECT id, watching FROM owner WHERE watching <> 0")?;
            let owners = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            self.watchers = Some(owners.collect::<Result<_, _>>()?);
        }
        let owners = self.watchers.as_deref().unwrap_or_default();
        Ok(owners.iter().filter(move |(_, watching)| watching & what as u8 != 0).map(|(owner, _)| *owner))
    }

    /// Creates the queue, its exchanges and its bindings.
    pub(crate) fn declare(&mut self, connection: &Connection, spec: &QueueSpec, now: i64) -> Outcome {
        let queue = self.declare_queue(connection, spec, now)?;
        let mut news = false;
        for binding in &spec.bindings {
            let (exchange, kind) = (&binding.exchange.name, binding.exchange.kind);
            if exchange.is_empty() {
                let why =
                    format!("queue `{}` cannot be bound to the default exchange, which feeds it anyway", spec.name);
                return Err(config(why));
            }
            let sql = "SELECT id, kind FROM exchange WHERE name = ?1";
            let found: Option<(i64, String)> = connection
                .prepare_cached(sql)?
                .query_row([exchange.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let id = match found {
                Some((_, there)) if there != kind.as_str() => {
                    return Err(config(format!(
                        "exchange `{exchange}` exists with kind `{there}`, not `{}`",
                        kind.as_str()
                    )));
                }
                Some((id, _)) => id,
                None => {
                    let sql = "INSERT INTO exchange (name, kind) VALUES (?1, ?2)";
                    connection.prepare_cached(sql)?.insert((exchange.as_str(), kind.as_str()))?
                }
            };
            let sql = "INSERT OR IGNORE INTO binding (exchange, key, queue) VALUES (?1, ?2, ?3)";
            news |= connection.prepare_cached(sql)?.execute((id, binding.key.as_str(), queue))? > 0;
        }
        if news { self.changed(connection) } else { Ok(()) }
    }

    fn declare_queue(&mut self, connection: &Connection, spec: &QueueSpec, now: i64) -> Outcome<i64> {
        let wished = Options {
            durable: spec.durable,
            auto_delete: spec.auto_delete,
            max_priority: spec.max_priority.map(i64::from),
            message_ttl: spec.message_ttl.map(micros),
            expires: spec.expires.map(micros),
        };
        let sql = "SELECT id, durable, auto_delete, max_priority, message_ttl, expires FROM queue WHERE name = ?1";
        let found = connection
            .prepare_cached(sql)?
            .query_row([spec.name.as_str()], |row| {
                let options = Options {
                    durable: row.get(1)?,
                    auto_delete: row.get(2)?,
                    max_priority: row.get(3)?,
                    message_ttl: row.get(4)?,
                    expires: row.get(5)?,
                };
                Ok((row.get(0)?, options))
            })
            .optional()?;
        match found {
            Some((id, there)) => match there.difference(&wished) {
                None => {
                    if wished.expires.is_some() {
                        let sql = "UPDATE queue SET idle_since = ?2 WHERE id = ?1";
                        connection.prepare_cached(sql)?.execute((id, now))?;
                    }
                    Ok(id)
                }
                Some(option) => Err(config(format!("queue `{}` exists with another `{option}`", spec.name))),
            },
            None => {
                let sql =
                    "INSERT INTO queue (name, durable, auto_delete, max_priority, message_ttl, expires, idle_since)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                Ok(connection.prepare_cached(sql)?.insert((
                    spec.name.as_str(),
                    wished.durable,
                    wished.auto_delete,
                    wished.max_priority,
                    wished.message_ttl,
                    wished.expires,
                    now,
                ))?)
            }
        }
    }

    /// Deletes a queue with what waits in it. What is held of it is dropped when it is handed back.
    pub(crate) fn delete(&mut self, connection: &Connection, queue: i64) -> Outcome {
        empty(connection, queue)?;
        connection.prepare_cached("DELETE FROM binding WHERE queue = ?1")?.execute([queue])?;
        connection.prepare_cached("DELETE FROM queue WHERE id = ?1")?.execute([queue])?;
        self.changed(connection)
    }
}

/// Drops what waits in a queue, due or not, and tells how many messages that was.
pub(crate) fn empty(connection: &Connection, queue: i64) -> Outcome<u64> {
    let mut dropped = 0;
    for table in ["ready", "delayed"] {
        let sql = format!("DELETE FROM message WHERE id IN (SELECT message FROM {table} WHERE queue = ?1)");
        connection.prepare_cached(&sql)?.execute([queue])?;
        let sql = format!("DELETE FROM {table} WHERE queue = ?1");
        dropped += connection.prepare_cached(&sql)?.execute([queue])?;
    }
    Ok(u64::try_from(dropped).unwrap_or(u64::MAX))
}

pub(crate) fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn config(why: String) -> Fault {
    Fault::Said(Error::config("declare queue", why))
}

fn read_queue(row: &rusqlite::Row<'_>) -> rusqlite::Result<Queue> {
    Ok(Queue {
        id: row.get(0)?,
        max_priority: row.get::<_, Option<i64>>(1)?.and_then(|level| u8::try_from(level).ok()),
        message_ttl: row.get(2)?,
    })
}

#[derive(PartialEq)]
struct Options {
    durable: bool,
    auto_delete: bool,
    max_priority: Option<i64>,
    message_ttl: Option<i64>,
    expires: Option<i64>,
}

impl Options {
    fn difference(&self, wished: &Self) -> Option<&'static str> {
        [
            ("durable", self.durable != wished.durable),
            ("auto_delete", self.auto_delete != wished.auto_delete),
            ("max_priority", self.max_priority != wished.max_priority),
            ("message_ttl", self.message_ttl != wished.message_ttl),
            ("expires", self.expires != wished.expires),
        ]
        .into_iter()
        .find_map(|(option, differs)| differs.then_some(option))
    }
}
