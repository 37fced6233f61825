//! Those who wait for results: found by task, woken by what is published under the name of its record.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use celeriac_backend::Watch;
use celeriac_core::{Error, Result, TaskId, TaskMeta};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;

use crate::backend::MOST;
use crate::error::{again, closed};
use crate::hub::{Ear, Hub, Subscription};
use crate::link::Link;
use crate::store::Shared;
use crate::wire::meta;

const WATCH: &str = "watch";

/// A record as it is stored. Whoever waits for it decodes it: those who hear must not take long.
type Record = Result<Bytes, Arc<Error>>;

/// What is known of one task's record.
///
/// It is heard of in two ways, which know nothing of each other: publications come on one connection, answers to reads on another. So
/// a read may be overtaken by the publication of a record that was stored after it, and by the answer to a later read.
#[derive(Debug, Default)]
struct Seen {
    record: Option<Record>,
    /// Whether the publication of `record` may be yet to come.
    was_read: bool,
    /// Counts the publications that came and the reads that began.
    moment: u64,
    /// The publication, or the beginning of the read, that `record` is from.
    as_of: u64,
    closed: bool,
}

impl Seen {
    /// A read begins.
    fn begin(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// The answer to the read that began at `since`. Returns whether there is something new.
    fn read(&mut self, since: u64, found: Option<Record>) -> bool {
        if since < self.as_of {
            // INVARIANT: what is left out here is found again. What was published meanwhile is newer, or is followed by what is; and a
            // read that began later, after a gap in the publications too, saw all that this one saw.
            return false;
        }
        self.as_of = since;
        let new = match (&self.record, &found) {
            (Some(Ok(old)), Some(Ok(new))) => old != new,
            (_, found) => found.is_some(),
        };
        if new || found.is_none() {
            self.record = found;
            self.was_read = true;
        }
        new
    }

    /// A record was stored. Returns whether it is a new one.
    fn published(&mut self, record: Bytes) -> bool {
        self.moment += 1;
        self.as_of = self.moment;
        let known = std::mem::take(&mut self.was_read) && matches!(&self.record, Some(Ok(read)) if *read == record);
        if !known {
            self.record = Some(Ok(record));
        }
        !known
    }
}

/// What hears of one task.
struct Line {
    id: TaskId,
    seen: watch::Sender<Seen>,
    watches: Weak<Watches>,
}

impl Line {
    /// Begins a read.
    fn look(self: &Arc<Self>) -> Look {
        let mut since = 0;
        self.seen.send_if_modified(|seen| {
            since = seen.begin();
            false
        });
        Look { line: Arc::clone(self), since }
    }
}

impl Ear for Line {
    fn heard(&self, _channel: &[u8], payload: Vec<u8>) {
        self.seen.send_if_modified(|seen| seen.published(payload.into()));
    }

    fn resumed(&self) {
        if let Some(watches) = self.watches.upgrade() {
            watches.read_again(self.id.clone());
        }
    }
}

/// A read of one task's record that has begun.
pub(crate) struct Look {
    line: Arc<Line>,
    since: u64,
}

impl Look {
    /// Tells those who watch what was found.
    pub(crate) fn found(self, record: Option<Record>) {
        self.line.seen.send_if_modified(|seen| seen.read(self.since, record));
    }
}

/// A task as long as anybody watches it; all of them share its subscription.
struct Task {
    line: Arc<Line>,
    /// Not in the line: the hub holds that, as long as the subscription lives.
    subscription: OnceCell<Subscription>,
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(watches) = self.line.watches.upgrade() {
            watches.remove(&self.line.id);
        }
    }
}

/// The tasks that are watched through one handle.
pub(crate) struct Watches {
    shared: Arc<Shared>,
    link: Link,
    hub: Arc<Hub>,
    tasks: Mutex<Tasks>,
    again: Mutex<Again>,
}

#[derive(Default)]
struct Tasks {
    by_id: HashMap<TaskId, Weak<Task>>,
    closed: bool,
}

/// What has to be read again, after a gap in the publications.
#[derive(Default)]
struct Again {
    ids: Vec<TaskId>,
    /// Who reads it.
    reader: Option<JoinHandle<()>>,
}

impl Watches {
    pub(crate) fn new(shared: &Arc<Shared>, link: &Link, hub: &Arc<Hub>) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            link: link.clone(),
            hub: Arc::clone(hub),
            tasks: Mutex::default(),
            again: Mutex::default(),
        })
    }

    /// Watches a task. What is stored from here on is heard of, and what is there is known.
    pub(crate) async fn watch(self: &Arc<Self>, id: &TaskId) -> Result<ResultWatch> {
        let task = self.task(id)?;
        let mut records = task.line.seen.subscribe();
        // In this order, so that no record slips through. Should this be dropped, another who waits for the same goes on with it.
        task.subscription
            .get_or_try_init(|| {
                let channel = self.shared.keys.record(id).into_bytes();
                self.hub.subscribe(WATCH, vec![channel], Arc::clone(&task.line) as Arc<dyn Ear>)
            })
            .await?;
        let look = task.line.look();
        // CANCEL SAFETY: a read that is dropped was overtaken by a publication, which is newer.
        tokio::select! {
            biased;
            record = self.shared.stored(&self.link, WATCH, std::slice::from_ref(id)) => {
                look.found(record?.into_iter().next().flatten().map(Ok));
            }
            Ok(()) = records.changed() => {}
        }
        // Others may have seen it long ago, but to this one it is new.
        let (known, ended) = {
            let seen = task.line.seen.borrow();
            (seen.record.is_some(), seen.closed)
        };
        if known || ended {
            records.mark_changed();
        }
        Ok(ResultWatch { task, records, max_bytes: self.shared.config.max_message_bytes, ended: false })
    }

    /// Begins to look after those of `ids` that are watched.
    pub(crate) fn look(&self, ids: &[TaskId]) -> Vec<Look> {
        self.find(ids).iter().map(|task| task.line.look()).collect()
    }

    /// Ends every watch, and lets none begin.
    pub(crate) fn close(&self) {
        let tasks: Vec<Arc<Task>> = {
            let mut tasks = lock(&self.tasks);
            tasks.closed = true;
            tasks.by_id.values().filter_map(Weak::upgrade).collect()
        };
        tasks.iter().for_each(|task| task.line.seen.send_modify(|seen| seen.closed = true));
    }

    fn task(self: &Arc<Self>, id: &TaskId) -> Result<Arc<Task>> {
        let mut tasks = lock(&self.tasks);
        if tasks.closed {
            return Err(closed(WATCH));
        }
        if let Some(task) = tasks.by_id.get(id).and_then(Weak::upgrade) {
            return Ok(task);
        }
        let line = Line { id: id.clone(), seen: watch::Sender::default(), watches: Arc::downgrade(self) };
        let task = Arc::new(Task { line: Arc::new(line), subscription: OnceCell::new() });
        tasks.by_id.insert(id.clone(), Arc::downgrade(&task));
        Ok(task)
    }

    /// Those of `ids` that are watched. Dropping one takes the lock, so none is dropped under it.
    fn find(&self, ids: &[TaskId]) -> Vec<Arc<Task>> {
        let tasks = lock(&self.tasks);
        if tasks.by_id.is_empty() {
            return Vec::new();
        }
        ids.iter().filter_map(|id| tasks.by_id.get(id)?.upgrade()).collect()
    }

    /// A task is watched no more; or by others already, who began after it was given up.
    fn remove(&self, id: &TaskId) {
        let mut tasks = lock(&self.tasks);
        if tasks.by_id.get(id).is_some_and(|task| task.strong_count() == 0) {
            tasks.by_id.remove(id);
        }
    }

    /// Publications of this task may have been missed.
    fn read_again(self: &Arc<Self>, id: TaskId) {
        let mut again = lock(&self.again);
        again.ids.push(id);
        // One whose runtime is gone has finished, too.
        if again.reader.as_ref().is_none_or(JoinHandle::is_finished) {
            again.reader = Some(tokio::spawn(Arc::clone(self).read_all_again()));
        }
    }

    async fn read_all_again(self: Arc<Self>) {
        loop {
            let ids = {
                let mut again = lock(&self.again);
                if again.ids.is_empty() {
                    again.reader = None;
                    return;
                }
                let rest = again.ids.len().saturating_sub(MOST);
                again.ids.split_off(rest)
            };
            // Those that are watched still.
            let looks = self.look(&ids);
            let ids: Vec<TaskId> = looks.iter().map(|look| look.line.id.clone()).collect();
            match self.shared.stored(&self.link, WATCH, &ids).await {
                Ok(records) => {
                    looks.into_iter().zip(records).for_each(|(look, record)| look.found(record.map(Ok)));
                }
                Err(error) => {
                    let error = Arc::new(error);
                    looks.into_iter().for_each(|look| look.found(Some(Err(Arc::clone(&error)))));
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics in between.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One who watches.
pub(crate) struct ResultWatch {
    task: Arc<Task>,
    records: watch::Receiver<Seen>,
    max_bytes: usize,
    ended: bool,
}

#[async_trait]
impl Watch for ResultWatch {
    async fn next(&mut self) -> Result<TaskMeta> {
        if let Some(watches) = self.task.line.watches.upgrade() {
            watches.hub.keep_here();
        }
        loop {
            if self.records.borrow().closed {
                return Err(closed(WATCH));
            }
            // CANCEL SAFETY: a change stays one until it is looked at, below and without waiting.
            if self.records.changed().await.is_err() {
                return Err(closed(WATCH));
            }
            let record = {
                let seen = self.records.borrow_and_update();
                if seen.closed || self.ended { None } else { seen.record.clone() }
            };
            match record {
                Some(Ok(record)) => {
                    let record = meta::decode(Some(&self.task.line.id), &record, self.max_bytes)?;
                    self.ended = record.state.is_ready();
                    return Ok(record);
                }
                Some(Err(error)) => return Err(again(&error, WATCH)),
                None => {}
            }
        }
    }
}

impl std::fmt::Debug for ResultWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResultWatch").field("id", &self.task.line.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &'static str) -> Option<Record> {
        Some(Ok(Bytes::from_static(text.as_bytes())))
    }

    fn text(seen: &Seen) -> Option<&[u8]> {
        seen.record.as_ref().map(|record| &record.as_ref().unwrap()[..])
    }

    #[test]
    fn a_read_that_was_overtaken_by_a_publication_is_left_out() {
        let mut seen = Seen::default();
        let since = seen.begin();
        assert!(seen.published(Bytes::from_static(b"new")));
        assert!(!seen.read(since, record("old")));
        assert_eq!(text(&seen), Some(&b"new"[..]));
        assert!(!seen.read(since, None));
        assert_eq!(text(&seen), Some(&b"new"[..]));
    }

    #[test]
    fn a_read_that_was_overtaken_by_a_later_one_is_left_out() {
        let mut seen = Seen::default();
        let (first, second) = (seen.begin(), seen.begin());
        assert!(seen.read(second, record("new")));
        assert!(!seen.read(first, None));
        assert_eq!(text(&seen), Some(&b"new"[..]));
    }

    #[test]
    fn a_later_read_takes_the_place_of_an_earlier_one() {
        let mut seen = Seen::default();
        let (first, second) = (seen.begin(), seen.begin());
        assert!(seen.read(first, record("old")));
        assert!(seen.read(second, record("new")));
        assert_eq!(text(&seen), Some(&b"new"[..]));
    }

    #[test]
    fn a_record_that_was_read_and_is_published_then_is_told_once() {
        let mut seen = Seen::default();
        let since = seen.begin();
        assert!(seen.read(since, record("one")));
        assert!(!seen.published(Bytes::from_static(b"one")));
        assert!(seen.published(Bytes::from_static(b"one")), "stored once more");
    }

    #[test]
    fn a_record_that_is_gone_is_unknown_to_those_who_come() {
        let mut seen = Seen::default();
        assert!(seen.published(Bytes::from_static(b"one")));
        let since = seen.begin();
        assert!(!seen.read(since, None));
        assert_eq!(text(&seen), None);
        assert!(seen.published(Bytes::from_static(b"one")), "stored anew");
    }
}
