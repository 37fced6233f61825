//! Many deliveries that end together, with results or without, of which some are not as the others.
#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

mod common;

use celeriac_broker::{Completion, Delivery, DeliveryTag, Receipt, Verb, settle_all};
use celeriac_core::{ContentType, Payload, StoreResult, TaskId, TaskMeta, TaskState};
use celeriac_redis::RedisConfig;
use celeriac_testkit::server::RedisServer;
use common::*;

fn id(number: usize) -> TaskId {
    TaskId::new(format!("task-{number}")).unwrap()
}

fn result(id: &TaskId, state: TaskState, data: String) -> StoreResult {
    let mut meta = TaskMeta::new(id.clone(), state);
    meta.result = Some(Payload { content_type: ContentType::JSON, data: data.into() });
    StoreResult::new(meta).expires(LONG)
}

fn completed(id: &TaskId, data: String) -> Verb {
    Verb::Complete(Box::new(Completion::new().result(result(id, TaskState::Success, data))))
}

/// Each task's result is its number.
fn with_results(held: Vec<Delivery>) -> Vec<(Receipt, Verb)> {
    let each = held.into_iter().enumerate();
    each.map(|(number, delivery)| (delivery.into_receipt(), completed(&id(number), number.to_string()))).collect()
}

/// Ends the lease of some deliveries: the places of what they are in the order of being taken.
async fn lose(server: &RedisServer, places: &[usize]) {
    let mut tags = server.command(&["ZRANGE", "unacked_index", "0", "-1"]).await.texts();
    let number = |tag: &String| tag.rsplit('.').next().unwrap().parse::<u64>().unwrap();
    tags.sort_by_key(number);
    for place in places {
        server.command(&["ZREM", "unacked_index", &tags[*place]]).await;
        server.command(&["HDEL", "unacked", &tags[*place]]).await;
    }
}

async fn state(server: &RedisServer, id: &TaskId) -> Option<String> {
    let record = ask(server, &["GET", &format!("celery-task-meta-{id}")]).await;
    Some(record.strip_prefix("{\"status\": \"")?.split_once('"')?.0.to_owned())
}

#[tokio::test]
async fn those_that_are_not_held_any_more_are_told_and_their_results_are_not_stored() {
    let server = RedisServer::start().await;
    let (store, held) = holding(&server, 300).await;
    lose(&server, &[0, 7, 299]).await;
    let batch = with_results(held);
    let tags: Vec<DeliveryTag> = batch.iter().map(|(receipt, _)| receipt.tag()).collect();
    assert_eq!(settle_all(batch).await.unwrap(), [tags[0], tags[7], tags[299]]);
    for number in 0..300 {
        let stored = state(&server, &id(number)).await;
        assert_eq!(stored.is_none(), [0, 7, 299].contains(&number), "{number}: {stored:?}");
    }
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "0");
    assert_eq!(ask(&server, &["ZCARD", "unacked_index"]).await, "0");
    store.close().await.unwrap();
}

#[tokio::test]
async fn those_without_results_that_are_not_held_any_more_are_told_too() {
    let server = RedisServer::start().await;
    let (store, held) = holding(&server, 300).await;
    lose(&server, &[3, 4]).await;
    let batch: Vec<_> = held.into_iter().map(|delivery| (delivery.into_receipt(), Verb::Ack)).collect();
    let tags: Vec<DeliveryTag> = batch.iter().map(|(receipt, _)| receipt.tag()).collect();
    assert_eq!(settle_all(batch).await.unwrap(), [tags[3], tags[4]]);
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "0");
    store.close().await.unwrap();
}

#[tokio::test]
async fn nothing_is_held_where_all_of_it_is_gone() {
    let server = RedisServer::start().await;
    let (store, held) = holding(&server, 20).await;
    server.command(&["DEL", "unacked"]).await;
    assert_eq!(settle_all(with_results(held)).await.unwrap().len(), 20);
    assert_eq!(state(&server, &id(5)).await, None);
    store.close().await.unwrap();
}

#[tokio::test]
async fn results_are_stored_just_of_what_is_held_whatever_the_index_says() {
    let server = RedisServer::start().await;
    let (store, held) = holding(&server, 20).await;
    lose(&server, &[6]).await;
    server.command(&["DEL", "unacked_index"]).await;
    let batch = with_results(held);
    let tag = batch[6].0.tag();
    assert_eq!(settle_all(batch).await.unwrap(), [tag]);
    for number in 0..20 {
        assert_eq!(state(&server, &id(number)).await.is_some(), number != 6, "{number}");
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn where_results_may_not_be_stored_the_messages_of_all_but_one_stay() {
    let server = RedisServer::start().await;
    server
        .command(&["ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-setex", "-psetex", "-set"])
        .await;
    let (store, jobs) =
        (open(RedisConfig::from_url(&server.url_as("reader", "secret")).unwrap().lease(LONG)).await, queue("jobs"));
    let sender = open(config(&server).lease(LONG)).await;
    publish(&sender, &jobs, &["x"; 10]).await;
    // Takes without a first number: that is set.
    server.command(&["SET", "_celeriac.taken", "5"]).await;
    let held = several(&mut consumer(&store, &jobs).await, 10).await;
    lose(&server, &[0]).await;
    assert!(settle_all(with_results(held)).await.is_err());
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "8");
    store.close().await.unwrap();
}

#[tokio::test]
async fn each_finds_the_record_that_was_there_before() {
    let server = RedisServer::start().await;
    let (store, held) = holding(&server, 20).await;
    let before = [(3, TaskState::Started), (4, TaskState::Failure), (5, TaskState::Success)];
    let before = before.map(|(number, state)| result(&id(number), state, "\"before\"".into()));
    store.backend().store(before.into()).await.unwrap();
    assert!(settle_all(with_results(held)).await.unwrap().is_empty());
    let metas = store.backend().fetch(&(0..20).map(id).collect::<Vec<_>>()).await.unwrap();
    for (number, meta) in metas.into_iter().enumerate() {
        let data = meta.unwrap().result.unwrap().data;
        // A success stays as it is.
        let wanted = if number == 5 { "\"before\"".to_owned() } else { number.to_string() };
        assert_eq!(data, wanted, "{number}");
    }
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "0");
    store.close().await.unwrap();
}

#[tokio::test]
async fn of_two_runs_of_one_task_that_end_together_the_first_result_stays() {
    let server = RedisServer::start().await;
    let (store, held) = holding(&server, 4).await;
    let batch = held
        .into_iter()
        .enumerate()
        .map(|(number, delivery)| (delivery.into_receipt(), completed(&id(number % 2), number.to_string())));
    assert!(settle_all(batch.collect()).await.unwrap().is_empty());
    let metas = store.backend().fetch(&[id(0), id(1)]).await.unwrap();
    let data: Vec<_> = metas.into_iter().map(|meta| meta.unwrap().result.unwrap().data).collect();
    assert_eq!(data, ["0", "1"]);
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "0");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_key_of_another_type_stops_at_its_own_task_and_nothing_after_it_is_lost() {
    let server = RedisServer::start().await;
    let (store, held) = holding(&server, 20).await;
    server.command(&["LPUSH", "celery-task-meta-task-11", "no record"]).await;
    let unsettled = settle_all(with_results(held)).await.unwrap_err();
    assert!(unsettled.error.to_string().contains("celery-task-meta-task-11"), "{}", unsettled.error);
    assert_eq!(unsettled.rest.len(), 9);
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "9");
    server.command(&["DEL", "celery-task-meta-task-11"]).await;
    assert!(settle_all(unsettled.rest).await.unwrap().is_empty());
    for number in 0..20 {
        assert_eq!(state(&server, &id(number)).await.as_deref(), Some("SUCCESS"), "{number}");
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn acknowledgements_results_and_returns_are_carried_out_in_one_batch() {
    let server = RedisServer::start().await;
    let (store, held) = holding(&server, 30).await;
    let batch = held.into_iter().enumerate().map(|(number, delivery)| {
        let verb = match number % 3 {
            0 => Verb::Ack,
            1 => completed(&id(number), number.to_string()),
            _ => Verb::Reject(celeriac_broker::Requeue::Yes),
        };
        (delivery.into_receipt(), verb)
    });
    assert!(settle_all(batch.collect()).await.unwrap().is_empty());
    assert_eq!(ask(&server, &["HLEN", "unacked"]).await, "0");
    assert_eq!(ask(&server, &["LLEN", "jobs"]).await, "10");
    assert_eq!(server.command(&["KEYS", "celery-task-meta-*"]).await.texts().len(), 10);
    store.close().await.unwrap();
}
