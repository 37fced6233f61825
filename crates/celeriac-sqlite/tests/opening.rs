//! What can be opened, and how the rest is refused.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use celeriac_broker::ConsumeOptions;
use celeriac_core::{EntryName, Error, ErrorKind, QueueName, TaskId};
use celeriac_schedule::Condition;
use celeriac_sqlite::{SqliteConfig, SqliteStore};
use celeriac_testkit::{ManualClock, soon};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory is made")
}

async fn refused(path: &Path) -> Error {
    let error = SqliteStore::open(SqliteConfig::new(path)).await.expect_err("it cannot be opened");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(!error.is_retryable());
    error
}

async fn refused_saying(path: &Path, words: &str) {
    let error = refused(path).await;
    let text = error.to_string();
    assert!(text.contains(words), "`{text}` says `{words}`");
    let named = path.file_name().map_or("", |name| name.to_str().expect("test names are text"));
    assert!(text.contains(named), "`{text}` names `{named}`");
}

fn raw(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).and_then(|database| database.execute_batch(sql)).expect("SQLite does it");
}

#[tokio::test]
async fn a_missing_file_is_created() {
    let directory = directory();
    let path = directory.path().join("new.db");
    let store = SqliteStore::open(SqliteConfig::new(&path)).await.unwrap();
    store.close().await.unwrap();
    SqliteStore::open(SqliteConfig::new(&path)).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn an_empty_file_is_taken_over() {
    let directory = directory();
    let path = directory.path().join("empty.db");
    fs::write(&path, "").unwrap();
    SqliteStore::open(SqliteConfig::new(&path)).await.unwrap();
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let directory = directory();
    let error = refused(&directory.path().join("missing/jobs.db")).await;
    assert!(error.to_string().contains("missing` of the database"), "{error}");
}

#[tokio::test]
async fn a_directory_is_refused() {
    let directory = directory();
    refused_saying(directory.path(), "is a directory").await;
}

#[tokio::test]
async fn a_path_without_a_name_is_refused() {
    refused(Path::new("")).await;
    refused(Path::new("/tmp/..")).await;
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let directory = directory();
    let path = directory.path().join("letter.txt");
    let letter = "Dear reader, ".repeat(100);
    fs::write(&path, &letter).unwrap();
    refused_saying(&path, "is not an SQLite database").await;
    assert_eq!(fs::read_to_string(&path).unwrap(), letter);
    assert!(!directory.path().join("letter.txt.d").exists(), "nothing was written beside it");
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_alone() {
    let directory = directory();
    let path = directory.path().join("recipes.db");
    raw(&path, "CREATE TABLE recipe (name TEXT)");
    refused_saying(&path, "is another program's database").await;
    raw(&path, "PRAGMA application_id = 77");
    refused_saying(&path, "its application id is 77").await;
    assert!(!directory.path().join("recipes.db.d").exists(), "nothing was written beside it");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let directory = directory();
    let path = directory.path().join("future.db");
    SqliteStore::open(SqliteConfig::new(&path)).await.unwrap().close().await.unwrap();
    raw(&path, "PRAGMA user_version = 99");
    refused_saying(&path, "made by a newer celeriac: its schema is version 99").await;
}

/// The tables, as SQLite keeps them.
fn tables(path: &Path) -> Vec<(String, Option<String>)> {
    let database = rusqlite::Connection::open(path).expect("SQLite reads it");
    let mut statement = database.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").expect("SQLite reads it");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("SQLite reads it");
    rows.collect::<Result<_, _>>().expect("SQLite reads it")
}

#[tokio::test]
async fn a_file_of_the_first_version_is_migrated_with_all_it_holds() {
    let directory = directory();
    let (path, new) = (directory.path().join("old.db"), directory.path().join("new.db"));
    raw(&path, include_str!("fixtures/version-1.sql"));
    // After what was delayed is due, and the lease of the killed consumer has ended.
    let clock = ManualClock::at("2026-11-22T08:00:00Z".parse().unwrap());
    let store = SqliteStore::open(SqliteConfig::new(&path).clock(Arc::new(clock))).await.unwrap();
    let mut consumer = store.broker().consume(ConsumeOptions::new([QueueName::from_static("jobs")])).await.unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < 3 {
        for delivery in soon(consumer.recv(NonZeroUsize::MAX)).await.unwrap() {
            bodies.push(String::from_utf8(delivery.message.body.to_vec()).unwrap());
            delivery.ack().await.unwrap();
        }
    }
    bodies.sort();
    assert_eq!(bodies, ["delayed", "held", "ready"]);
    let result = store.backend().fetch(&[TaskId::new("done").unwrap()]).await.unwrap().remove(0).unwrap();
    assert_eq!(result.result.unwrap().data, "42");
    let (schedule, name) = (store.schedule(), EntryName::from_static("entry"));
    schedule.put(&name, "definition".into(), Condition::Always).await.unwrap();
    drop(consumer);
    store.close().await.unwrap();

    let again = SqliteStore::open(SqliteConfig::new(&path)).await.unwrap();
    assert_eq!(again.schedule().get(&name).await.unwrap().unwrap().definition, "definition");
    again.close().await.unwrap();
    SqliteStore::open(SqliteConfig::new(&new)).await.unwrap().close().await.unwrap();
    assert_eq!(tables(&path), tables(&new), "as those of a new file");
}

#[tokio::test]
async fn many_migrate_a_file_at_once() {
    let directory = directory();
    let path = directory.path().join("old.db");
    raw(&path, include_str!("fixtures/version-1.sql"));
    let opening = (0..8).map(|_| tokio::spawn(SqliteStore::open(SqliteConfig::new(&path))));
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_directory_that_takes_no_files_is_refused() {
    refused(Path::new("/proc/jobs.db")).await;
}

#[tokio::test]
async fn wrong_settings_are_named() {
    let directory = directory();
    let config = || SqliteConfig::new(directory.path().join("jobs.db"));
    for (config, named) in [
        (config().lease(Duration::ZERO), "`lease`"),
        (config().max_message_bytes(0), "`max_message_bytes`"),
        (config().max_message_bytes(usize::MAX), "`max_message_bytes`"),
    ] {
        let error = SqliteStore::open(config).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(named), "{error}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn one_file_by_two_names_is_one_store() {
    let directory = directory();
    let path = directory.path().join("jobs.db");
    let one = SqliteStore::open(SqliteConfig::new(&path)).await.unwrap().broker();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let other = SqliteStore::open(SqliteConfig::new(&link)).await.unwrap();
    assert_eq!(one.store_id(), other.broker().store_id());
    assert_eq!(other.broker().store_id(), other.backend().store_id());
}

#[tokio::test]
async fn many_open_a_new_file_at_once() {
    let directory = directory();
    let path: PathBuf = directory.path().join("jobs.db");
    let opening = (0..8).map(|_| tokio::spawn(SqliteStore::open(SqliteConfig::new(&path))));
    for opened in opening.collect::<Vec<_>>() {
        opened.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn nothing_is_left_beside_a_closed_store() {
    let directory = directory();
    let path = directory.path().join("jobs.db");
    let store = SqliteStore::open(SqliteConfig::new(&path)).await.unwrap();
    let queue = celeriac_core::QueueName::DEFAULT;
    let consumer = store.broker().consume(celeriac_broker::ConsumeOptions::new([queue])).await.unwrap();
    let beside = || fs::read_dir(directory.path().join("jobs.db.d")).unwrap().count();
    assert_eq!(beside(), 3, "the turnstile, a lock and a socket");
    store.close().await.unwrap();
    assert_eq!(beside(), 1, "the turnstile");
    drop(consumer);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_a_file_that_is_yet_to_be_made_is_that_file() {
    let directory = directory();
    let (path, link, second) =
        (directory.path().join("sub/jobs.db"), directory.path().join("link.db"), directory.path().join("second.db"));
    fs::create_dir(directory.path().join("sub")).unwrap();
    std::os::unix::fs::symlink("sub/jobs.db", &link).unwrap();
    std::os::unix::fs::symlink(&link, &second).unwrap();
    let one = SqliteStore::open(SqliteConfig::new(&second)).await.unwrap();
    let other = SqliteStore::open(SqliteConfig::new(&path)).await.unwrap();
    assert_eq!(one.broker().store_id(), other.broker().store_id());
    assert!(!directory.path().join("second.db.d").exists());
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_itself_is_refused() {
    let directory = directory();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    refused_saying(&link, "symbolic links").await;
}

#[tokio::test]
async fn a_store_does_not_write_to_tables_that_a_newer_version_has_changed_meanwhile() {
    let directory = directory();
    let path = directory.path().join("jobs.db");
    let store = SqliteStore::open(SqliteConfig::new(&path)).await.unwrap();
    raw(&path, "PRAGMA user_version = 99");
    let message = celeriac_core::Message::default();
    let outgoing = celeriac_broker::Outgoing::new(message, &celeriac_core::QueueName::DEFAULT);
    let error = store.broker().publish(vec![outgoing]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("newer celeriac"), "{error}");
}
