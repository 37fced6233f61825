//! What becomes of what is published.

use std::time::Duration;

use celeriac_broker::{ExchangeKind, QueueSpec};
use celeriac_core::{ErrorKind, Map, Value};
use celeriac_testkit::eventually;
use celeriac_testkit::server::RabbitServer;
use lapin::types::{AMQPValue, FieldTable};

use crate::common::{
    Other, PATIENCE, config, declare, exchange, key, message, open, outgoing, publish, queue, refusal, to, vhost,
};

#[tokio::test]
async fn a_batch_arrives_in_its_order_whatever_its_size() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    // More than is under way at a time.
    let bodies: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    let queues = [queue("even"), queue("odd")];
    let batch = bodies.iter().enumerate().map(|(at, body)| outgoing(body.as_str(), queues.get(at % 2).unwrap()));
    publish(&store, batch.collect()).await;
    let other = Other::new(&vhost).await;
    let (even, odd) = (other.bodies("even", 5_000).await, other.bodies("odd", 5_000).await);
    assert!(even.iter().eq(bodies.iter().step_by(2)) && odd.iter().eq(bodies.iter().skip(1).step_by(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_at_once_publish_each_message_once() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let callers = (0..300).map(|caller| {
        let broker = store.broker();
        tokio::spawn(async move {
            for number in 0..10 {
                let batch = (0..1 + number % 3).map(|at| outgoing(format!("{caller} {number} {at}"), &queue("q")));
                broker.publish(batch.collect()).await.unwrap();
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let mut came = Other::new(&vhost).await.bodies("q", 5_700).await;
    let numbers = |body: &String| body.split(' ').map(|number| number.parse::<u32>().unwrap()).collect::<Vec<_>>();
    let mut last: std::collections::HashMap<u32, Vec<u32>> = std::collections::HashMap::new();
    for body in &came {
        let numbers = numbers(body);
        let before = last.insert(numbers[0], numbers.clone());
        assert!(before.is_none_or(|before| before < numbers), "one caller's messages keep their order");
    }
    came.sort_unstable();
    came.dedup();
    assert_eq!(came.len(), 5_700);
}

#[tokio::test]
async fn a_message_without_a_queue_is_its_senders_error_and_nobody_elses() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let bound = QueueSpec::unbound(queue("bound"))
        .bound_to(exchange("letters"), ExchangeKind::Direct, key("known"))
        .bound_to(exchange("topics"), ExchangeKind::Topic, key("a.#"))
        .bound_to(exchange("news"), ExchangeKind::Fanout, key(""));
    declare(&store, &bound).await;
    let broker = store.broker();
    for (exchange, key) in [("letters", "unknown"), ("topics", "b.a"), ("nowhere", "k")] {
        let error = refusal(broker.publish(vec![outgoing("x", to(exchange, key))]).await, &[exchange]);
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
    }
    let error = refusal(broker.publish(vec![outgoing("x", to("", ""))]).await, &["key is empty"]);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // Many at once; every third cannot be routed.
    let calls = (0..60).map(|number: usize| {
        let key = if number.is_multiple_of(3) { "unknown" } else { "known" };
        broker.publish(vec![
            outgoing(number.to_string(), to("letters", key)),
            outgoing(number.to_string(), to("topics", "a.b")),
        ])
    });
    let outcomes = futures_util::future::join_all(calls).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(()) => assert!(number % 3 != 0, "{number} was routed"),
            Err(error) => {
                assert!(number % 3 == 0 && error.kind() == ErrorKind::NotFound, "{number}: {}", error.report())
            }
        }
    }
    // What has no queue at a fanout is no error.
    let other = Other::new(&vhost).await;
    other.delete_queue("bound").await;
    publish(&store, vec![outgoing("x", to("news", "whatever"))]).await;
}

#[tokio::test]
async fn a_queue_that_nobody_declared_is_made_as_celery_makes_it() {
    let vhost = vhost().await;
    let store = open(config(&vhost).max_priority(7)).await;
    let other = Other::new(&vhost).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
    other.declare_queue("theirs", arguments).await;
    publish(
        &store,
        vec![outgoing("1", &queue("made")), outgoing("2", to("made", "made")), outgoing("3", &queue("theirs"))],
    )
    .await;
    assert_eq!(other.bodies("made", 2).await, ["1", "2"], "it is bound to an exchange of its name");
    assert_eq!(vhost.queue_info("made").await.unwrap().arguments.get("x-max-priority").unwrap(), "7");
    assert_eq!(other.bodies("theirs", 1).await, ["3"], "a queue is taken as it is");
}

#[tokio::test]
async fn what_somebody_deletes_is_made_again_as_it_was_declared() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let other = Other::new(&vhost).await;
    let mut spec = QueueSpec::direct(queue("mine")).bound_to(exchange("topics"), ExchangeKind::Topic, key("a.#"));
    spec.message_ttl = Some(Duration::from_secs(3_600));
    declare(&store, &spec).await;
    publish(&store, vec![outgoing("0", &queue("auto")), outgoing("1", &spec.name), outgoing("2", to("topics", "a.b"))])
        .await;
    assert_eq!(other.bodies("mine", 2).await, ["1", "2"]);
    for round in 0..2 {
        other.delete_queue("auto").await;
        other.delete_queue("mine").await;
        let batch = vec![outgoing("3", &queue("auto")), outgoing("4", &spec.name), outgoing("5", &queue("auto"))];
        publish(&store, batch).await;
        assert_eq!(other.bodies("mine", 1).await, ["4"], "in round {round}");
        let mut auto = other.bodies("auto", 2).await;
        auto.sort_unstable();
        auto.dedup();
        assert_eq!(
            auto,
            if round == 0 { vec!["0", "3", "5"] } else { vec!["3", "5"] }.split_off(usize::from(round == 0))
        );
        assert_eq!(vhost.queue_info("mine").await.unwrap().arguments.get("x-message-ttl").unwrap(), "3600000");
    }
    other.delete_exchange("topics").await;
    publish(&store, vec![outgoing("6", to("topics", "a.c"))]).await;
    assert_eq!(other.bodies("mine", 1).await, ["6"]);
}

#[tokio::test]
async fn a_queue_at_an_exchange_is_made_again_once_a_message_finds_none() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let other = Other::new(&vhost).await;
    let red: Map = [("colour".to_owned(), Value::from("red"))].into_iter().collect();
    let spec = QueueSpec::unbound(queue("mine"))
        .bound_to(exchange("letters"), ExchangeKind::Direct, key("k"))
        .bound_to(exchange("topics"), ExchangeKind::Topic, key("a.#"))
        .bound_by_headers(exchange("things"), red);
    declare(&store, &spec).await;
    let mut thing = message("things");
    thing.headers.set_extra("colour", "red");
    let batch = [
        outgoing("letters", to("letters", "k")),
        outgoing("topics", to("topics", "a.b")),
        celeriac_broker::Outgoing::new(thing, to("things", "")),
    ];
    for outgoing in batch {
        other.delete_queue("mine").await;
        let body = String::from_utf8(outgoing.message.body.to_vec()).unwrap();
        publish(&store, vec![outgoing]).await;
        assert_eq!(other.bodies("mine", 1).await, [body]);
    }
    // No binding that was declared here is for it.
    other.delete_queue("mine").await;
    for (exchange, key) in [("letters", "other"), ("topics", "b")] {
        let error = refusal(store.broker().publish(vec![outgoing("x", to(exchange, key))]).await, &[exchange]);
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert!(vhost.queue_info("mine").await.is_none());
}

#[tokio::test]
async fn an_exchange_that_somebody_deletes_is_an_error_of_those_who_publish_to_it() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let other = Other::new(&vhost).await;
    let options = lapin::options::ExchangeDeclareOptions::default();
    let channel = other.channel().await;
    let kind = lapin::ExchangeKind::Fanout;
    channel.exchange_declare("theirs".into(), kind, options, FieldTable::default()).await.unwrap();
    other.declare_queue("q", FieldTable::default()).await;
    let bind = lapin::options::QueueBindOptions::default();
    channel.queue_bind("q".into(), "theirs".into(), "".into(), bind, FieldTable::default()).await.unwrap();
    publish(&store, vec![outgoing("0", to("theirs", "k"))]).await;
    other.delete_exchange("theirs").await;
    let broker = store.broker();
    let calls = (0..20).map(|number: usize| {
        let to = if number == 7 { to("theirs", "k") } else { to("", "q") };
        broker.publish(vec![outgoing(number.to_string(), to)])
    });
    for (number, outcome) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
        match outcome {
            Ok(()) => assert_ne!(number, 7),
            Err(error) => {
                assert_eq!((number, error.kind()), (7, ErrorKind::NotFound), "{}", error.report());
                assert!(error.report().contains("exchange `theirs`"), "{}", error.report());
            }
        }
    }
    // Those that shared a channel with it may have come twice.
    let mut came = other.bodies("q", 20).await;
    came.sort_unstable();
    came.dedup();
    assert_eq!(came.len(), 19);
}

#[tokio::test]
async fn a_full_queue_is_told_and_gets_no_more() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let mut spec = QueueSpec::direct(queue("small"));
    spec.arguments.insert("x-max-length", 2);
    spec.arguments.insert("x-overflow", "reject-publish");
    declare(&store, &spec).await;
    let broker = store.broker();
    let mut sent = 0;
    let error = loop {
        match broker.publish(vec![outgoing(sent.to_string(), &spec.name)]).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 10, "the queue takes all");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("routing key `small`: a queue is full"), "{}", error.report());
    let other = Other::new(&vhost).await;
    assert_eq!(other.bodies("small", sent).await.len(), sent);
    publish(&store, vec![outgoing("again", &spec.name)]).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_the_connection_kept() {
    let server = RabbitServer::builder().config("max_message_size = 200000").start().await;
    let vhost = server.vhost().await;
    let store = open(config(&vhost).max_message_bytes(1_000_000)).await;
    let broker = store.broker();
    let large = |bytes: usize| outgoing("x".repeat(bytes), &queue("q"));
    publish(&store, vec![large(200_000)]).await;
    let error =
        refusal(broker.publish(vec![large(1), large(1_000_001)]).await, &["1000001 bytes", "`max_message_bytes`"]);
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    // The server's own limit: it closes the channel for it.
    let calls = [broker.publish(vec![large(2), large(300_000), large(3)]), broker.publish(vec![large(4)])];
    let outcomes = futures_util::future::join_all(calls).await;
    let [refused, Ok(())] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(refused.as_ref().unwrap_err().kind(), ErrorKind::TooLarge, "{outcomes:?}");
    // Headers must fit into one frame, and properties into their places.
    let mut heavy = message("x");
    heavy.headers.set_extra("blob", "y".repeat(200_000));
    let heavy = celeriac_broker::Outgoing::new(heavy, &queue("q"));
    let error = refusal(broker.publish(vec![heavy]).await, &["`frame_max`"]);
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let mut foreign = message("x");
    foreign.properties.extra = [("user_id".to_owned(), Value::from("somebody"))].into_iter().collect::<Map>();
    let error = refusal(broker.publish(vec![celeriac_broker::Outgoing::new(foreign, &queue("q"))]).await, &["user_id"]);
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    let connections = server.eval("length(rabbit_networking:connections())").await;
    publish(&store, vec![large(5)]).await;
    assert_eq!(connections, "1", "none of that cost the connection");
}

#[tokio::test]
async fn a_call_that_is_dropped_disturbs_nobody() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let broker = store.broker();
    for round in 0..50 {
        let batch = (0..round).map(|number| outgoing(format!("dropped {number}"), &queue("other")));
        let dropped = broker.publish(batch.collect());
        let kept = broker.publish(vec![outgoing(round.to_string(), &queue("q"))]);
        let mut dropped = Box::pin(dropped);
        let _ = futures_util::poll!(&mut dropped);
        drop(dropped);
        kept.await.unwrap();
    }
    let expected: Vec<String> = (0..50).map(|round: u32| round.to_string()).collect();
    assert_eq!(Other::new(&vhost).await.bodies("q", 50).await, expected);
    store.close().await.unwrap();
    let error = refusal(broker.publish(vec![outgoing("x", &queue("q"))]).await, &["closed"]);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    eventually(PATIENCE, async || vhost.server().eval("length(rabbit_networking:connections())").await != "0").await;
}

#[tokio::test]
async fn a_queue_that_another_connection_has_for_itself_can_be_published_to() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let other = Other::new(&vhost).await;
    let exclusive = lapin::options::QueueDeclareOptions { exclusive: true, ..Default::default() };
    other.channel().await.queue_declare("replies".into(), exclusive, FieldTable::default()).await.unwrap();
    publish(&store, vec![outgoing("x", &queue("replies"))]).await;
    assert_eq!(other.bodies("replies", 1).await, ["x"]);
}

#[tokio::test]
async fn messages_survive_a_restart_unless_they_say_otherwise() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let mut passing = outgoing("passing", &queue("q"));
    passing.message.properties.delivery_mode = Some(celeriac_core::DeliveryMode::Transient);
    publish(&store, vec![outgoing("lasting", &queue("q")), passing]).await;
    let other = Other::new(&vhost).await;
    for mode in [2, 1] {
        let got = other.get("q").await.unwrap();
        assert_eq!(*got.delivery.properties.delivery_mode(), Some(mode));
    }
}
