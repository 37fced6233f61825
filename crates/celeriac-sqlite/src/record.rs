//! Records of tasks: the rows of the table `result`.

use std::sync::Arc;

use bytes::Bytes;
use celeriac_core::{
    ContentType, Error, ErrorKind, Map, Payload, Result, ResultTuple, StoreResult, TaskId, TaskMeta, TaskState,
    Timestamp, Value,
};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::error::Outcome;
use crate::topology::micros;
use crate::txn::Txn;
use crate::wire;

/// A record, ready to be written.
#[derive(Debug)]
pub(crate) struct Record {
    meta: Arc<TaskMeta>,
    children: Option<Vec<u8>>,
    extended: Option<Vec<u8>>,
    expires_after: Option<i64>,
}

impl Record {
    pub(crate) fn new(store: StoreResult, max_bytes: usize) -> Result<Self> {
        let meta = store.meta;
        let children = meta
            .children
            .as_ref()
            .map(|children| wire::encode(&Value::List(children.iter().map(ResultTuple::to_value).collect())));
        let extended = (!meta.extended.is_empty()).then(|| wire::encode(&Value::Map(meta.extended.clone())));
        let size = [
            meta.result.as_ref().map_or(0, |payload| payload.data.len()),
            meta.traceback.as_ref().map_or(0, String::len),
            children.as_ref().map_or(0, Vec::len),
            extended.as_ref().map_or(0, Vec::len),
        ];
        let size: usize = size.into_iter().sum();
        if size > max_bytes {
            let why =
                format!("the result of task `{}` has {size} bytes and is over the limit of {max_bytes}", meta.task_id);
            return Err(Error::new(ErrorKind::TooLarge, "store", why));
        }
        Ok(Self { meta: Arc::new(meta), children, extended, expires_after: store.expires.map(micros) })
    }

    pub(crate) fn weight(&self) -> usize {
        1 + self.meta.result.as_ref().map_or(0, |payload| payload.data.len()) / 4096
    }
}

impl Txn<'_> {
    /// Writes a record, unless the one that is there may not be replaced by it.
    pub(crate) fn store(&mut self, record: &Record) -> Outcome {
        let meta = &record.meta;
        // Most tasks have no record before that of their end.
        if !self.insert_record(record)? {
            let sql = "SELECT state FROM result WHERE task = ?1 AND (expires IS NULL OR expires > ?2)";
            let there: Option<String> =
                self.statements.get(sql)?.query_row((meta.task_id.as_str(), self.now), |row| row.get(0)).optional()?;
            if there.is_some_and(|state| !TaskState::from(state.as_str()).may_become(&meta.state)) {
                return Ok(());
            }
            self.statements.get("DELETE FROM result WHERE task = ?1")?.execute([meta.task_id.as_str()])?;
            self.insert_record(record)?;
        }
        self.effects.results.push(Arc::clone(meta));
        Ok(())
    }

    /// Writes a record unless the task has one; tells whether it was written.
    fn insert_record(&mut self, record: &Record) -> Outcome<bool> {
        let meta = &record.meta;
        let sql = "INSERT INTO result (task, state, content_type, payload, traceback, children, date_done,
                       group_id, parent_id, extended, expires)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (task) DO NOTHING";
        let count = self.statements.get(sql)?.execute((
            meta.task_id.as_str(),
            meta.state.as_str(),
            meta.result.as_ref().map(|payload| payload.content_type.as_str()),
            meta.result.as_ref().map(|payload| &*payload.data),
            &meta.traceback,
            &record.children,
            meta.date_done.map(Timestamp::as_micros),
            meta.group_id.as_deref(),
            meta.parent_id.as_deref(),
            &record.extended,
            record.expires_after.map(|after| self.now.saturating_add(after)),
        ))?;
        Ok(count > 0)
    }

    pub(crate) fn forget(&mut self, ids: &[TaskId]) -> Outcome {
        let mut statement = self.connection.prepare_cached("DELETE FROM result WHERE task = ?1")?;
        for id in ids {
            statement.execute([id.as_str()])?;
        }
        Ok(())
    }

    /// Deletes up to `limit` expired records, and tells how many; also the messages and queues that have expired. Tells too
    /// whether there may be more.
    pub(crate) fn sweep(&mut self, limit: i64) -> Outcome<(u64, bool)> {
        let sql = "DELETE FROM result WHERE id IN (SELECT id FROM result WHERE expires <= ?1 LIMIT ?2)";
        let count = self.connection.prepare_cached(sql)?.execute((self.now, limit))?;
        let sql = "DELETE FROM ready WHERE (queue, rank, message) IN
                       (SELECT queue, rank, message FROM ready WHERE expires <= ?1 LIMIT ?2) RETURNING message";
        let mut statement = self.connection.prepare_cached(sql)?;
        let messages = statement.query_map((self.now, limit), |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
        drop(statement);
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let full = count >= most || messages.len() >= most;
        for message in messages {
            self.delete_message(message)?;
        }
        let sql = "SELECT id FROM queue WHERE idle_since + expires <= ?1
                       AND NOT EXISTS (SELECT 1 FROM consumer WHERE queue = queue.id)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let queues = statement.query_map([self.now], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
        drop(statement);
        for queue in queues {
            self.topology.delete(self.connection, queue)?;
        }
        Ok((u64::try_from(count).unwrap_or(u64::MAX), full))
    }
}

/// The record of a task, if there is one; the inner error is of kind `Malformed`.
pub(crate) fn fetch(connection: &Connection, id: &TaskId, now: i64) -> Outcome<Result<Option<TaskMeta>>> {
    let sql = "SELECT state, content_type, payload, traceback, children, date_done, group_id, parent_id, extended
               FROM result WHERE task = ?1 AND (expires IS NULL OR expires > ?2)";
    let found = connection.prepare_cached(sql)?.query_row((id.as_str(), now), |row| read(id, row)).optional()?;
    Ok(found.transpose())
}

fn read(id: &TaskId, row: &Row<'_>) -> rusqlite::Result<Result<TaskMeta>> {
    let state: String = row.get(0)?;
    let content_type: Option<String> = row.get(1)?;
    let payload: Option<Vec<u8>> = row.get(2)?;
    let children: Option<Vec<u8>> = row.get(4)?;
    let group: Option<String> = row.get(6)?;
    let parent: Option<String> = row.get(7)?;
    let extended: Option<Vec<u8>> = row.get(8)?;
    let mut meta = TaskMeta::new(id.clone(), TaskState::from(state.as_str()));
    meta.traceback = row.get(3)?;
    meta.date_done = row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros);
    let broken = |what: &str| Error::malformed("fetch", format!("the {what} of task `{id}` cannot be read"));
    Ok((|| {
        if let (Some(content_type), Some(data)) = (content_type, payload) {
            let content_type = ContentType::new(content_type).map_err(|_| broken("content type"))?;
            meta.result = Some(Payload { content_type, data: Bytes::from(data) });
        }
        meta.children = children.map(|bytes| read_children(&bytes).ok_or_else(|| broken("children"))).transpose()?;
        meta.group_id = group.map(|group| group.parse().map_err(|_| broken("group"))).transpose()?;
        meta.parent_id = parent.map(|parent| parent.parse().map_err(|_| broken("parent"))).transpose()?;
        meta.extended = match extended.map(|bytes| wire::decode(&bytes)) {
            None => Map::new(),
            Some(Some(Value::Map(map))) => map,
            Some(_) => return Err(broken("extended data")),
        };
        Ok(meta)
    })())
}

fn read_children(bytes: &[u8]) -> Option<Vec<ResultTuple>> {
    match wire::decode(bytes)? {
        Value::List(children) => children.iter().map(ResultTuple::from_value).collect(),
        _ => None,
    }
}
