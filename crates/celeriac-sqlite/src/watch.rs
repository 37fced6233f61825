//! Those who wait for results: found by task, woken by whoever stores, here or elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use celeriac_backend::Watch;
use celeriac_core::{Error, Result, TaskId, TaskMeta};
use rusqlite::Connection;
use tokio::sync::watch;

use crate::error::{Outcome, again, closed};
use crate::record;
use crate::shared::{Shared, lock};
use crate::wake::Wake;

type Seen = Option<Result<Arc<TaskMeta>, Arc<Error>>>;

/// The tasks that are watched here, each with its newest record.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    tasks: Mutex<Tasks>,
}

/// By the hashes that other processes name.
#[derive(Debug, Default)]
struct Tasks(HashMap<u64, Vec<(TaskId, watch::Sender<Seen>)>>);

impl Tasks {
    fn get(&self, id: &TaskId) -> Option<&watch::Sender<Seen>> {
        self.0.get(&Wake::hash(id))?.iter().find_map(|(task, sender)| (task == id).then_some(sender))
    }

    fn add(&mut self, id: &TaskId) -> watch::Receiver<Seen> {
        let sender = watch::Sender::new(None);
        let receiver = sender.subscribe();
        self.0.entry(Wake::hash(id)).or_default().push((id.clone(), sender));
        receiver
    }

    fn remove(&mut self, id: &TaskId) {
        let hash = Wake::hash(id);
        if let Some(tasks) = self.0.get_mut(&hash) {
            tasks.retain(|(task, _)| task != id);
            if tasks.is_empty() {
                self.0.remove(&hash);
            }
        }
    }
}

impl Watches {
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.tasks).0.is_empty()
    }

    fn subscribe(&self, id: &TaskId) -> watch::Receiver<Seen> {
        let mut tasks = lock(&self.tasks);
        let Some(sender) = tasks.get(id) else { return tasks.add(id) };
        let mut receiver = sender.subscribe();
        // The newest record is new to this one.
        if sender.borrow().is_some() {
            receiver.mark_changed();
        }
        receiver
    }

    fn unsubscribe(&self, id: &TaskId) {
        let mut tasks = lock(&self.tasks);
        if tasks.get(id).is_some_and(|sender| sender.receiver_count() == 0) {
            tasks.remove(id);
        }
    }

    /// Records were stored.
    pub(crate) fn offer(&self, records: &[Arc<TaskMeta>]) {
        let tasks = lock(&self.tasks);
        if tasks.0.is_empty() {
            return;
        }
        for record in records {
            if let Some(sender) = tasks.get(&record.task_id) {
                put(sender, Ok(Arc::clone(record)));
            }
        }
    }

    /// The record of `id` is gone: who begins to watch now does not see it.
    pub(crate) fn forget(&self, id: &TaskId) {
        if let Some(sender) = lock(&self.tasks).get(id) {
            sender.send_if_modified(|seen| {
                *seen = None;
                false
            });
        }
    }

    /// The watched tasks, or only those with one of the hashes `wanted`.
    pub(crate) fn named(&self, wanted: Option<&[u64]>) -> Vec<TaskId> {
        let tasks = lock(&self.tasks);
        match wanted {
            None => tasks.0.values().flatten().map(|(id, _)| id.clone()).collect(),
            Some(hashes) => {
                hashes.iter().filter_map(|hash| tasks.0.get(hash)).flatten().map(|(id, _)| id.clone()).collect()
            }
        }
    }

    /// Reads the record of one task.
    pub(crate) fn read(&self, connection: &Connection, id: &TaskId, now: i64) -> Outcome {
        let record = record::fetch(connection, id, now)?;
        if let Some(sender) = lock(&self.tasks).get(id) {
            match record {
                Ok(Some(record)) => put(sender, Ok(Arc::new(record))),
                Ok(None) => {}
                Err(error) => put(sender, Err(Arc::new(error))),
            }
        }
        Ok(())
    }

    /// Tells all who watch that nothing can be read.
    pub(crate) fn fail(&self, error: &Error) {
        let error = Arc::new(again(error));
        lock(&self.tasks).0.values().flatten().for_each(|(_, sender)| put(sender, Err(Arc::clone(&error))));
    }

    /// Ends every watch.
    pub(crate) fn close(&self) {
        lock(&self.tasks).0.clear();
    }
}

/// Only newer records: one that was read before another was stored may arrive after it.
fn put(sender: &watch::Sender<Seen>, record: Result<Arc<TaskMeta>, Arc<Error>>) {
    sender.send_if_modified(|seen| {
        let newer = match (&*seen, &record) {
            (Some(Ok(old)), Ok(new)) => old != new && old.state.may_become(&new.state),
            (Some(Ok(_)), Err(_)) => false,
            (Some(Err(old)), Err(new)) => old.message() != new.message(),
            (Some(Err(_)) | None, _) => true,
        };
        if newer {
            *seen = Some(record);
        }
        newer
    });
}

/// One who watches.
pub(crate) struct ResultWatch {
    id: TaskId,
    shared: Arc<Shared>,
    records: watch::Receiver<Seen>,
    ended: bool,
}

impl ResultWatch {
    /// Registers; the record that is there has to be offered yet.
    pub(crate) fn new(id: &TaskId, shared: &Arc<Shared>) -> Self {
        Self { id: id.clone(), shared: Arc::clone(shared), records: shared.watches.subscribe(id), ended: false }
    }
}

#[async_trait]
impl Watch for ResultWatch {
    async fn next(&mut self) -> Result<TaskMeta> {
        loop {
            // CANCEL SAFETY: a change stays one until it is looked at, below and without waiting.
            if self.records.changed().await.is_err() || self.shared.stopped() {
                return Err(closed("watch"));
            }
            if self.ended {
                continue;
            }
            match &*self.records.borrow_and_update() {
                Some(Ok(record)) => {
                    self.ended = record.state.is_ready();
                    return Ok(TaskMeta::clone(record));
                }
                Some(Err(error)) => return Err(again(error)),
                None => {}
            }
        }
    }
}

impl Drop for ResultWatch {
    fn drop(&mut self) {
        // Counted as long as it lives; so an empty one takes its place.
        self.records = watch::Sender::new(None).subscribe();
        self.shared.watches.unsubscribe(&self.id);
    }
}

impl std::fmt::Debug for ResultWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResultWatch").field("id", &self.id).finish_non_exhaustive()
    }
}
