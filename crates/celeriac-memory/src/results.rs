//! The records of tasks, and who watches them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use celeriac_core::{StoreResult, TaskId, TaskMeta, Timestamp};
use indexmap::IndexMap;
use indexmap::map::Entry;
use tokio::sync::Notify;

use crate::state::{After, HandleId};

/// One record. Shared with the watchers that have yet to see it.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) meta: Arc<TaskMeta>,
    /// Its place in the order of expiry.
    expires: Option<Expiry>,
}

/// When a record expires, and which of those that do so then it is.
type Expiry = (Timestamp, u64);

impl Record {
    fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|(expires, _)| expires <= now)
    }
}

/// One watch's view of its task.
#[derive(Debug)]
struct Watcher {
    handle: HandleId,
    /// The newest record that was not handed out yet.
    pending: Option<Record>,
    /// A final record was handed out: nothing follows.
    done: bool,
    notify: Arc<Notify>,
}

#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Keeps hashes: to grow it must not read the ids of all records again, which are long out of the processor's cache.
    records: IndexMap<TaskId, Record>,
    /// The records that expire, by when.
    expiry: BTreeMap<Expiry, TaskId>,
    /// How many records were stored that expire.
    mortal: u64,
    watchers: HashMap<TaskId, BTreeMap<u64, Watcher>>,
}

/// How many expired records a new one takes along, so that a store that is never swept does not grow for ever.
const SWEPT_PER_STORE: usize = 2;

impl Results {
    /// Stores a record if the one before may become it.
    pub(crate) fn store(&mut self, result: StoreResult, now: Timestamp, after: &mut After) {
        let StoreResult { meta, expires, .. } = result;
        self.sweep(now, SWEPT_PER_STORE);
        let id = meta.task_id.clone();
        let slot = self.records.entry(id.clone());
        if let Entry::Occupied(old) = &slot
            && !old.get().is_expired(now)
            && !old.get().meta.state.may_become(&meta.state)
        {
            return;
        }
        let expires = expires.map(|expires| {
            self.mortal += 1;
            (now + expires, self.mortal)
        });
        let record = Record { meta: Arc::new(meta), expires };
        if !self.watchers.is_empty() {
            for watcher in self.watchers.get_mut(&id).into_iter().flat_map(BTreeMap::values_mut) {
                if !watcher.done {
                    watcher.pending = Some(record.clone());
                    after.wake(Arc::clone(&watcher.notify));
                }
            }
        }
        let old = match slot {
            Entry::Occupied(mut old) => Some(old.insert(record)),
            Entry::Vacant(place) => {
                place.insert(record);
                None
            }
        };
        if let Some(Record { expires: Some(expires), .. }) = old {
            self.expiry.remove(&expires);
        }
        if let Some(expires) = expires {
            self.expiry.insert(expires, id);
        }
    }

    /// The record of `id`, unless it expired.
    pub(crate) fn get(&self, id: &TaskId, now: Timestamp) -> Option<&Arc<TaskMeta>> {
        self.records.get(id).filter(|record| !record.is_expired(now)).map(|record| &record.meta)
    }

    pub(crate) fn forget(&mut self, id: &TaskId) {
        if let Some(Record { expires: Some(expires), .. }) = self.records.swap_remove(id) {
            self.expiry.remove(&expires);
        }
    }

    /// Deletes up to `limit` records that expired, and tells how many.
    pub(crate) fn sweep(&mut self, now: Timestamp, limit: usize) -> usize {
        let mut swept = 0;
        while swept < limit && self.expiry.first_key_value().is_some_and(|((expires, _), _)| *expires <= now) {
            let Some((_, id)) = self.expiry.pop_first() else { break };
            self.records.swap_remove(&id);
            swept += 1;
        }
        swept
    }

    /// Begins to watch `id` under the number `watch`.
    pub(crate) fn watch(&mut self, id: &TaskId, watch: u64, handle: HandleId, now: Timestamp) -> Arc<Notify> {
        let pending = self.records.get(id).filter(|record| !record.is_expired(now)).cloned();
        let notify = Arc::new(Notify::new());
        let watcher = Watcher { handle, pending, done: false, notify: Arc::clone(&notify) };
        self.watchers.entry(id.clone()).or_default().insert(watch, watcher);
        notify
    }

    /// What the watch has yet to see.
    pub(crate) fn take_pending(&mut self, id: &TaskId, watch: u64, now: Timestamp) -> Option<Arc<TaskMeta>> {
        let watcher = self.watchers.get_mut(id)?.get_mut(&watch)?;
        let record = watcher.pending.take().filter(|record| !record.is_expired(now))?;
        watcher.done = record.meta.state.is_ready();
        Some(record.meta)
    }

    pub(crate) fn unwatch(&mut self, id: &TaskId, watch: u64) {
        if let Some(watchers) = self.watchers.get_mut(id) {
            watchers.remove(&watch);
            if watchers.is_empty() {
                self.watchers.remove(id);
            }
        }
    }

    /// Wakes every watch of `handle`.
    pub(crate) fn wake_watchers(&self, handle: HandleId, after: &mut After) {
        let own = self.watchers.values().flat_map(BTreeMap::values).filter(|watcher| watcher.handle == handle);
        own.for_each(|watcher| after.wake(Arc::clone(&watcher.notify)));
    }
}
