//! Bad input gets an error that names the thing; it never is a panic, a hang or a lost task.

use std::time::Duration;

use celeriac::prelude::*;
use celeriac::{ErrorKind, QueueName, QueueSpec, Value};
use celeriac_tests::{Place, double};

async fn open(url: impl Into<String>) -> celeriac::Error {
    match App::builder("bad").read_env(false).broker_url(url).build().await {
        Ok(_) => panic!("this opened"),
        Err(error) => error,
    }
}

#[track_caller]
fn names(error: &celeriac::Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.report();
    assert_eq!(error.kind(), kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not named in: {text}");
    }
}

#[tokio::test]
async fn a_text_that_is_no_url_and_an_unknown_scheme_are_told_what_is_known() {
    names(&open("tasks.db").await, ErrorKind::Config, &["scheme", "`sqlite`"]);
    names(&open("kafka://host").await, ErrorKind::Config, &["`kafka`", "`memory`", "`sqlite`"]);
    names(&open("sqlite:///x.db?jornal=wal").await, ErrorKind::Config, &["jornal"]);
    names(&open("memory://a?b=c").await, ErrorKind::Config, &["b=c"]);
    let error = open("kafka://user:hunter2@host").await;
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_path_that_cannot_be_written_is_named() {
    let place = Place::new();
    let missing = place.path().join("no/such/folder/tasks.db");
    let error = open(format!("sqlite://{}", missing.display())).await;
    assert!(error.report().contains("no/such/folder"), "{}", error.report());
    // A folder, and a file below something that is none.
    let error = open(format!("sqlite://{}", place.path().display())).await;
    assert!(error.report().contains(&place.path().display().to_string()), "{}", error.report());
    let error = open("sqlite:///proc/version/tasks.db").await;
    assert!(error.report().contains("/proc/version/tasks.db"), "{}", error.report());
}

#[tokio::test]
async fn a_foreign_sqlite_file_is_refused_and_left_alone() {
    let place = Place::new();
    rusqlite::Connection::open(place.file())
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);")
        .unwrap();
    let error = open(place.url()).await;
    assert!(error.report().contains("tasks.db"), "{}", error.report());
    let tables: i64 = rusqlite::Connection::open(place.file())
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);
    std::fs::write(place.path().join("text.db"), "this is not a database, but a text of some length").unwrap();
    let error = open(format!("sqlite://{}", place.path().join("text.db").display())).await;
    assert!(error.report().contains("text.db"), "{}", error.report());
}

#[tokio::test]
async fn a_corrupt_page_is_an_error_and_no_hang() {
    let place = Place::new();
    let app = place.app().await;
    app.send_batch((0..2_000).map(double::s)).await.unwrap();
    app.close().await.unwrap();
    drop(app);
    rusqlite::Connection::open(place.file())
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    // Everything from the second page on is garbage now.
    let mut bytes = std::fs::read(place.file()).unwrap();
    assert!(bytes.len() > 8_192, "the file holds what was sent");
    bytes[4_096..].fill(0xAB);
    std::fs::write(place.file(), bytes).unwrap();
    let work = async {
        let app = match celeriac_tests::app(&place.url(), place.path()).await {
            Ok(app) => app,
            Err(error) => return error,
        };
        match app.send(double::s(1)).await {
            Ok(_) => panic!("a task was sent to a corrupt file"),
            Err(error) => error,
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(60), work).await.expect("no hang");
    assert!(error.report().contains("tasks.db"), "{}", error.report());
    assert!(error.report().contains("malformed") || error.report().contains("corrupt"), "{}", error.report());
}

#[tokio::test]
async fn unknown_queue_options_are_named() {
    let spec = QueueSpec::direct(QueueName::DEFAULT).with_options([("lenght", 3)].into_iter().collect()).unwrap_err();
    names(&spec, ErrorKind::Config, &["`lenght`", "`celery`"]);
    let place = Place::new();
    for url in ["memory://".to_owned(), place.url()] {
        let queue = QueueSpec::direct(QueueName::from_static("q"))
            .with_options([("x-queue-type", "quorum")].into_iter().collect())
            .unwrap();
        let error = App::builder("bad").read_env(false).broker_url(url).queue(queue).build().await.unwrap_err();
        assert!(error.report().contains("x-queue-type"), "{}", error.report());
    }
}

#[tokio::test]
async fn a_task_registered_twice_is_named() {
    let built = App::builder("bad").read_env(false).broker_url("memory://").tasks(tasks![double, double]).build().await;
    names(&built.unwrap_err(), ErrorKind::Config, &["`double` is registered twice"]);
}

#[tokio::test]
async fn bad_routes_names_and_formats_are_named() {
    let build = async |builder: celeriac::AppBuilder| {
        builder.read_env(false).broker_url("memory://").build().await.unwrap_err()
    };
    names(&build(App::builder("bad").route("a*", "")).await, ErrorKind::Config, &["queue name"]);
    names(&build(App::builder("bad").serializer("jsonn")).await, ErrorKind::Config, &["jsonn"]);
    names(&build(App::builder("bad").accept(["pickle"])).await, ErrorKind::Config, &["pickle"]);
    names(&build(App::builder("bad").compression("zipp")).await, ErrorKind::Config, &["zipp"]);
    let app = App::builder("bad").read_env(false).broker_url("memory://").build().await.unwrap();
    names(&app.send(double::s(1).queue("")).await.unwrap_err(), ErrorKind::Config, &["queue name"]);
    names(&app.send(double::s(1).task_id("")).await.unwrap_err(), ErrorKind::Config, &["task id"]);
    names(&app.send(Signature::named("x").option("quue", "y")).await.unwrap_err(), ErrorKind::Config, &["`quue`"]);
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_named_in_the_stored_failure() {
    let place = Place::new();
    let app = place.app().await;
    let worker = app.worker().build().unwrap();
    let stop = worker.handle();
    let running = tokio::spawn(worker.run());
    for (call, named) in [
        (Signature::named("double").arg("three"), "'n'"),
        (Signature::named("double"), "'n'"),
        (Signature::named("double").arg(1).arg(2), "positional"),
        (Signature::named("double").arg(1).kwarg("m", 2), "'m'"),
        (Signature::named("double").arg(1).kwarg("n", 2), "'n'"),
        (Signature::named("dubble").arg(1), "dubble"),
    ] {
        let error = app.send(call).await.unwrap().get_timeout(Duration::from_secs(30)).await.unwrap_err();
        let failure = error.failure().expect("a failure");
        assert!(["TypeError", "NotRegistered"].contains(&failure.exc_type.as_str()), "{failure}");
        assert!(failure.message().contains(named), "`{named}` is not named in: {failure}");
    }
    assert_eq!(app.send(double::s(4)).await.unwrap().get_timeout(Duration::from_secs(30)).await.unwrap(), 8);
    stop.shutdown();
    running.await.unwrap().unwrap();
    assert_eq!(app.broker().depth(&QueueName::DEFAULT).await.unwrap(), 0);
}

#[celeriac::task]
async fn large(bytes: usize) -> String {
    "x".repeat(bytes)
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused_with_its_size() {
    let app = App::builder("bad")
        .read_env(false)
        .broker_url("memory://")
        .max_body_bytes(1_000)
        .max_result_bytes(100)
        .tasks(tasks![large])
        .build()
        .await
        .unwrap();
    let error = app.send(Signature::named("large").arg(Value::from("y".repeat(2_000)))).await.unwrap_err();
    names(&error, ErrorKind::TooLarge, &["`large`", "1000"]);
    let worker = app.worker().build().unwrap();
    let stop = worker.handle();
    let running = tokio::spawn(worker.run());
    let error = app.send(large::s(500)).await.unwrap().get_timeout(Duration::from_secs(30)).await.unwrap_err();
    let failure = error.failure().expect("a failure");
    assert!(failure.message().contains("502 bytes, the limit is 100"), "{failure}");
    stop.shutdown();
    running.await.unwrap().unwrap();
}
