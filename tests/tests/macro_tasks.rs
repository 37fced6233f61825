//! Tasks that `#[celeriac::task]` made, sent and run in memory.

use std::error::Error;
use std::sync::Arc;

use celeriac::__private::{Define as _, Task as _};
use celeriac::consumer::{Extensions, Worker};
use celeriac::memory::MemoryStore;
use celeriac::producer::IntoCall;
use celeriac::{Producer, Signature, State, TaskContext, TaskResult, TypedSignature, tasks};
use serde::de::DeserializeOwned;

#[celeriac::task(name = "mail.send", queue = "celery", priority = 5)]
async fn send_mail(
    to: String,
    cx: &TaskContext,
    #[arg(default = 3)] tries: u32,
    #[arg(default)] tags: Vec<String>,
    #[arg(default = "none")] note: String,
    db: State<i64>,
) -> TaskResult<String> {
    std::future::ready(()).await;
    Ok(format!("{to} {tries} {tags:?} {note} {} {}", *db, cx.retries()))
}

#[celeriac::task]
fn kind(r#type: Option<u8>) -> Option<u8> {
    r#type
}

#[celeriac::task]
fn parse(text: String) -> Result<u8, std::num::ParseIntError> {
    text.parse()
}

#[celeriac::task]
async fn nothing() {}

async fn run<T>(call: impl IntoCall<Output = T>) -> Result<T, Box<dyn Error>>
where
    T: DeserializeOwned + Send + 'static,
{
    let store = MemoryStore::new();
    let producer = Producer::builder(Arc::new(store.clone())).backend(Arc::new(store)).build()?;
    let mut extensions = Extensions::default();
    extensions.insert(7_i64);
    let tasks = tasks![send_mail, kind, parse, nothing];
    let worker = Worker::builder(producer.clone(), tasks).extensions(extensions).build()?;
    let stop = worker.handle();
    let running = tokio::spawn(worker.run());
    let outcome = producer.send(call).await?.get().await;
    stop.shutdown();
    running.await??;
    Ok(outcome?)
}

async fn text(call: Signature) -> Result<String, Box<dyn Error>> {
    Ok(run(call).await?.as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn arguments_come_by_place_and_by_keyword_or_by_default() {
    let call = send_mail::s("a".into(), 9, vec!["x".into()], "n".into());
    assert_eq!(run(call).await.unwrap(), "a 9 [\"x\"] n 7 0");
    assert_eq!(text(Signature::named("mail.send").arg("a")).await.unwrap(), "a 3 [] none 7 0");
    let call = Signature::named("mail.send").kwarg("note", "n").kwarg("to", "b");
    assert_eq!(text(call).await.unwrap(), "b 3 [] n 7 0");
}

#[tokio::test]
async fn wrong_arguments_fail_the_task() {
    let missing = text(Signature::named("mail.send")).await.unwrap_err().to_string();
    assert!(missing.contains("missing required argument: 'to'"), "{missing}");
    let unknown = text(Signature::named("mail.send").arg("a").kwarg("colour", "red")).await.unwrap_err().to_string();
    assert!(unknown.contains("unexpected keyword argument 'colour'"), "{unknown}");
}

#[tokio::test]
async fn a_raw_identifier_and_a_missing_option_are_understood() {
    assert_eq!(run(kind::s(Some(2))).await.unwrap(), Some(2));
    assert_eq!(run(Signature::named("kind").kwarg("type", 3)).await.unwrap(), 3.into());
    assert!(run(Signature::named("kind")).await.unwrap().is_null());
}

#[tokio::test]
async fn a_plain_function_is_a_task_whose_error_is_the_tasks() {
    assert_eq!(run(parse::s("5".into())).await.unwrap(), 5);
    let error = run(parse::s("x".into())).await.unwrap_err().to_string();
    assert!(error.contains("invalid digit found in string"), "{error}");
    assert_eq!([parse::BLOCKING, nothing::BLOCKING], [true, false]);
    run(nothing::s()).await.unwrap();
}

#[tokio::test]
async fn a_task_is_still_a_function() {
    assert_eq!(parse("6".into()), Ok(6));
    nothing().await;
    let signature: TypedSignature<String> = send_mail::s(String::new(), 0, vec![], String::new());
    assert_eq!(signature.task().as_str(), "mail.send");
    assert_eq!(send_mail::PARAMETERS, ["to", "tries", "tags", "note"]);
}
