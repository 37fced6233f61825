//! What only a look at the inside can show: how removals are forgotten, how pages are found, and who looks for changes.

use std::num::NonZeroUsize;

use celeriac_schedule::ScheduleStore;

use super::*;
use crate::{SqliteConfig, SqliteStore};

const MANY: NonZeroUsize = NonZeroUsize::MAX;

fn name(number: i64) -> EntryName {
    EntryName::new(format!("entry-{number}")).unwrap()
}

async fn told(store: &dyn ScheduleStore, since: Revision) -> Option<i64> {
    match store.changes(since, MANY).await.unwrap() {
        Changes::Known { changes, .. } => Some(i64::try_from(changes.len()).unwrap()),
        Changes::Unknown { .. } => None,
    }
}

async fn come_and_go(store: &dyn ScheduleStore, number: i64) {
    store.put(&name(number), Bytes::new(), Condition::Always).await.unwrap();
    assert!(store.remove(&name(number)).await.unwrap());
}

#[tokio::test]
async fn who_asks_for_removals_that_are_forgotten_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteConfig::new(directory.path().join("jobs.db"))).await.unwrap().schedule();
    let put = store.put(&name(0), "stays".into(), Condition::Always).await.unwrap();
    let Put::Done(known) = put else { panic!("nothing is in its way") };
    for number in 1..=REMEMBERED {
        come_and_go(&*store, number).await;
    }
    assert_eq!(told(&*store, known).await, Some(REMEMBERED));
    // What was removed twice is remembered once.
    come_and_go(&*store, 1).await;
    assert_eq!(told(&*store, known).await, Some(REMEMBERED));

    come_and_go(&*store, REMEMBERED + 1).await;
    let Changes::Unknown { until } = store.changes(known, MANY).await.unwrap() else { panic!("half is forgotten") };
    assert_eq!(told(&*store, until).await, Some(0));
    come_and_go(&*store, 0).await;
    assert_eq!(told(&*store, until).await, Some(1));
}

#[tokio::test]
async fn a_page_is_found_without_reading_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jobs.db");
    SqliteStore::open(SqliteConfig::new(&path)).await.unwrap().close().await.unwrap();
    let raw = Connection::open(path).unwrap();
    for sql in [LIST, CHANGES] {
        let mut plan = raw.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let column = plan.column_count() - 1;
        let steps = plan.query_map((0, 1), |row| row.get(column)).unwrap().collect::<Result<Vec<String>, _>>().unwrap();
        let plan = steps.join("; ");
        assert!(plan.contains("SEARCH entry USING INDEX"), "{plan}");
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}

#[tokio::test]
async fn nothing_looks_for_changes_before_somebody_waits_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteConfig::new(folder.path().join("tasks.db"))).await.unwrap();
    let schedule = store.schedule();
    assert!(!store.inner.shared.news.is_awaited());
    schedule.changed(Revision::START).await.unwrap();
    assert!(store.inner.shared.news.is_awaited(), "also between two waits");
    store.close().await.unwrap();
}
