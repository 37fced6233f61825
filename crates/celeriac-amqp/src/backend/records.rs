//! The records that have come, and those who wait for one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backend::Watch;
use celeriac_core::{Result, TaskId, TaskMeta};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::closed;

pub(super) const WATCH: &str = "watch";

/// What may be kept, in bytes as they came. It holds some hundred thousand small records.
const MOST: usize = 64 << 20;
/// About what a record takes beside its bytes.
const OVERHEAD: usize = 512;

/// The newest record of each task, up to [`MOST`] bytes: then the oldest goes, and those who watch it keep it.
#[derive(Default)]
pub(super) struct Records {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    kept: HashMap<TaskId, Kept>,
    /// The tasks in the order in which their records came.
    order: BTreeMap<u64, TaskId>,
    /// How many have come.
    came: u64,
    bytes: usize,
    /// Whether it was told that some were dropped.
    told: bool,
    watched: HashMap<TaskId, Watched>,
    closed: bool,
}

struct Kept {
    meta: Arc<TaskMeta>,
    number: u64,
    bytes: usize,
    until: Option<Instant>,
}

/// A task that is watched, so often, and its newest record.
struct Watched {
    newest: watch::Sender<Option<Arc<TaskMeta>>>,
    times: usize,
}

impl Records {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics in between.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record of so many bytes has come, to be kept for so long. It is passed over if it may not follow the one that is there.
    pub(super) fn put(&self, meta: TaskMeta, bytes: usize, life: Duration, now: Instant) {
        let mut table = self.lock();
        let id = meta.task_id.clone();
        if table.closed || table.newest(&id, now).is_some_and(|newest| !newest.state.may_become(&meta.state)) {
            return;
        }
        table.remove(&id);
        let meta = Arc::new(meta);
        if let Some(watched) = table.watched.get(&id) {
            watched.newest.send_replace(Some(Arc::clone(&meta)));
        }
        table.came += 1;
        let (number, bytes) = (table.came, bytes + OVERHEAD);
        table.bytes += bytes;
        table.order.insert(number, id.clone());
        // None: longer than there is time.
        table.kept.insert(id, Kept { meta, number, bytes, until: now.checked_add(life) });
        table.shrink();
    }

    /// The records of `ids`, in that order.
    pub(super) fn fetch(&self, ids: &[TaskId], now: Instant) -> Vec<Option<TaskMeta>> {
        let mut table = self.lock();
        ids.iter().map(|id| table.newest(id, now).as_deref().cloned()).collect()
    }

    /// # Errors
    /// `Unavailable` if they are closed.
    pub(super) fn watch(self: &Arc<Self>, id: &TaskId, now: Instant) -> Result<ResultWatch> {
        let mut table = self.lock();
        if table.closed {
            return Err(closed(WATCH));
        }
        let newest = table.newest(id, now);
        let is_known = newest.is_some();
        let watched =
            table.watched.entry(id.clone()).or_insert_with(|| Watched { newest: watch::Sender::new(newest), times: 0 });
        watched.times += 1;
        let mut newest = watched.newest.subscribe();
        if is_known {
            newest.mark_changed();
        }
        drop(table);
        Ok(ResultWatch { id: id.clone(), records: Arc::clone(self), newest, ended: false })
    }

    pub(super) fn forget(&self, ids: &[TaskId]) {
        let mut table = self.lock();
        ids.iter().for_each(|id| table.end(id));
    }

    /// Forgets what has expired, and tells how many.
    pub(super) fn sweep(&self, now: Instant) -> u64 {
        let mut table = self.lock();
        let expired = |kept: &Kept| kept.until.is_some_and(|until| until <= now);
        let ids: Vec<TaskId> = table.kept.iter().filter(|(_, kept)| expired(kept)).map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| table.end(id));
        ids.len() as u64
    }

    /// Ends every watch, and takes nothing more.
    pub(super) fn close(&self) {
        *self.lock() = Table { closed: true, ..Table::default() };
    }
}

impl Table {
    /// The newest record of a task, unless it has expired.
    fn newest(&mut self, id: &TaskId, now: Instant) -> Option<Arc<TaskMeta>> {
        match self.kept.get(id) {
            Some(kept) if kept.until.is_some_and(|until| until <= now) => {
                self.end(id);
                None
            }
            Some(kept) => Some(Arc::clone(&kept.meta)),
            // Those who watch may have the only one.
            None => self.watched.get(id)?.newest.borrow().clone(),
        }
    }

    /// The record of a task is gone, for those who watch too.
    fn end(&mut self, id: &TaskId) {
        self.remove(id);
        if let Some(watched) = self.watched.get(id) {
            watched.newest.send_if_modified(|newest| {
                *newest = None;
                false
            });
        }
    }

    fn remove(&mut self, id: &TaskId) {
        if let Some(kept) = self.kept.remove(id) {
            self.order.remove(&kept.number);
            self.bytes -= kept.bytes;
        }
    }

    /// Drops the oldest until there is room; never the last one.
    fn shrink(&mut self) {
        while self.bytes > MOST
            && self.kept.len() > 1
            && let Some((_, id)) = self.order.pop_first()
        {
            if !std::mem::replace(&mut self.told, true) {
                tracing::warn!(
                    most_bytes = MOST,
                    "more results have come than are kept: the oldest are dropped, unless somebody waits for them"
                );
            }
            self.remove(&id);
        }
    }
}

/// One who watches.
pub(super) struct ResultWatch {
    id: TaskId,
    records: Arc<Records>,
    newest: watch::Receiver<Option<Arc<TaskMeta>>>,
    ended: bool,
}

#[async_trait]
impl Watch for ResultWatch {
    async fn next(&mut self) -> Result<TaskMeta> {
        loop {
            // CANCEL SAFETY: a change stays one until it is looked at, below and without waiting.
            if self.newest.has_changed().is_err() || self.newest.changed().await.is_err() {
                return Err(closed(WATCH));
            }
            let newest = self.newest.borrow_and_update().clone();
            if let Some(meta) = newest.filter(|_| !self.ended) {
                self.ended = meta.state.is_ready();
                return Ok(TaskMeta::clone(&meta));
            }
        }
    }
}

impl Drop for ResultWatch {
    fn drop(&mut self) {
        let mut table = self.records.lock();
        if let Some(watched) = table.watched.get_mut(&self.id) {
            watched.times -= 1;
            if watched.times == 0 {
                table.watched.remove(&self.id);
            }
        }
    }
}

impl std::fmt::Debug for ResultWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResultWatch").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use celeriac_core::{ContentType, Payload, TaskState};
    use futures_util::FutureExt as _;

    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    fn id(text: &'static str) -> TaskId {
        TaskId::from_static(text)
    }

    fn meta(task: &TaskId, state: TaskState) -> TaskMeta {
        TaskMeta::new(task.clone(), state)
    }

    fn states(records: &Records, ids: &[TaskId], now: Instant) -> Vec<Option<TaskState>> {
        records.fetch(ids, now).into_iter().map(|meta| meta.map(|meta| meta.state)).collect()
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_more_room_unless_somebody_watches() {
        let (records, now) = (Arc::new(Records::default()), Instant::now());
        let (watched, old, new) = (id("watched"), id("old"), id("new"));
        let mut watch = records.watch(&watched, now).unwrap();
        for task in [&watched, &old, &new] {
            records.put(meta(task, TaskState::Success), MOST / 3, LIFE, now);
        }
        assert_eq!(
            states(&records, &[old.clone(), new.clone()], now),
            [Some(TaskState::Success), Some(TaskState::Success)]
        );
        records.put(meta(&new, TaskState::Success), MOST, LIFE, now);
        assert_eq!(records.lock().kept.len(), 2, "a repeated success takes no room");
        let newest = id("newest");
        records.put(meta(&newest, TaskState::Success), MOST, LIFE, now);
        assert_eq!(records.lock().kept.len(), 1, "the newest is kept, however large");
        let ids = [watched, old, new, newest];
        let expected = [Some(TaskState::Success), None, None, Some(TaskState::Success)];
        assert_eq!(states(&records, &ids, now), expected);
        assert_eq!(watch.next().now_or_never().unwrap().unwrap().state, TaskState::Success);
        drop(watch);
        assert_eq!(states(&records, &ids, now), [None, None, None, Some(TaskState::Success)]);
        records.forget(&ids);
        let table = records.lock();
        assert_eq!((table.bytes, table.order.len(), table.watched.len()), (0, 0, 0));
    }

    #[test]
    fn what_somebody_holds_who_watches_binds_as_what_is_kept() {
        let (records, now) = (Arc::new(Records::default()), Instant::now());
        let (task, other) = (id("a"), id("b"));
        let mut watch = records.watch(&task, now).unwrap();
        records.put(meta(&task, TaskState::Success), MOST, LIFE, now);
        records.put(meta(&other, TaskState::Success), MOST, LIFE, now);
        records.put(meta(&task, TaskState::Started), 1, LIFE, now);
        assert_eq!(watch.next().now_or_never().unwrap().unwrap().state, TaskState::Success);
    }

    #[test]
    fn a_record_lives_as_long_as_it_is_to_and_is_swept_then() {
        let (records, now) = (Arc::new(Records::default()), Instant::now());
        let (brief, long, ever) = (id("brief"), id("long"), id("ever"));
        for (task, life) in [(&brief, LIFE), (&long, LIFE * 2), (&ever, Duration::MAX)] {
            records.put(meta(task, TaskState::Success), 1, life, now);
        }
        let ids = [brief.clone(), long, ever];
        let later = now + LIFE;
        assert_eq!(records.sweep(later), 1);
        assert_eq!(states(&records, &ids, later), [None, Some(TaskState::Success), Some(TaskState::Success)]);
        records.put(meta(&brief, TaskState::Started), 1, LIFE, later);
        assert_eq!(states(&records, &ids[..1], later), [Some(TaskState::Started)]);
        assert_eq!(states(&records, &ids, later + LIFE), [None, None, Some(TaskState::Success)]);
        assert_eq!(records.lock().kept.len(), 1, "what has expired goes when it is asked for");
    }

    #[test]
    fn nobody_who_watched_is_remembered() {
        let (records, now) = (Arc::new(Records::default()), Instant::now());
        let watches = [(); 3].map(|()| records.watch(&id("a"), now).unwrap());
        assert_eq!(records.lock().watched.len(), 1);
        drop(watches);
        assert_eq!(records.lock().watched.len(), 0);
        let late = records.watch(&id("a"), now).unwrap();
        records.close();
        drop(late);
        assert!(records.watch(&id("a"), now).is_err());
    }

    #[test]
    fn after_the_closing_nothing_is_kept() {
        let (records, now) = (Arc::new(Records::default()), Instant::now());
        let mut watch = records.watch(&id("a"), now).unwrap();
        let payload = Payload { content_type: ContentType::JSON, data: "1".into() };
        records.put(meta(&id("a"), TaskState::PROGRESS).with_result(payload), 1, LIFE, now);
        records.close();
        records.put(meta(&id("a"), TaskState::Success), 1, LIFE, now);
        assert!(watch.next().now_or_never().unwrap().is_err());
        assert_eq!(states(&records, &[id("a")], now), [None]);
    }
}
