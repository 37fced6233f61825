//! Delays: what is to come later comes then, and to where it was sent.

use std::time::Duration;

use celeriac_amqp::{AmqpStore, QueueType};
use celeriac_broker::{ConsumeOptions, Destination, ExchangeKind, Outgoing, QueueSpec};
use celeriac_core::{ErrorKind, Map, QueueName, Timestamp, Value};
use celeriac_testkit::eventually;
use celeriac_testkit::proxy::FaultProxy;
use lapin::message::BasicGetMessage;
use lapin::types::{AMQPValue, FieldTable};

use crate::common::{
    Other, PATIENCE, config, declare, exchange, key, message, open, outgoing, publish, queue, refusal, to, vhost,
};

/// Three whole seconds are waited for in the delay, in two of its levels.
const DELAY: Duration = Duration::from_millis(3_500);
/// The length of the 28 bits, each with its dot, before a routing key.
const BITS: usize = 56;

fn delayed(body: &str, to: impl Into<Destination>, due: Timestamp) -> Outgoing {
    outgoing(body, to).deliver_at(due)
}

/// The next message of a queue, once it is there.
async fn next(other: &Other, queue: &str) -> BasicGetMessage {
    let mut got = None;
    eventually(PATIENCE, async || {
        got = other.get(queue).await;
        got.is_some()
    })
    .await;
    got.unwrap()
}

fn body(got: &BasicGetMessage) -> &str {
    std::str::from_utf8(&got.delivery.data).unwrap()
}

fn header<'a>(got: &'a BasicGetMessage, name: &str) -> Option<&'a AMQPValue> {
    got.delivery.properties.headers().as_ref()?.inner().get(name)
}

/// Binds queues in all manners, delays a message to each, and sees what comes.
async fn comes_when_it_is_due(store: &AmqpStore, other: &Other) {
    let direct = |name| QueueSpec::unbound(queue(name)).bound_to(exchange("letters"), ExchangeKind::Direct, key("k"));
    declare(store, &direct("direct 1")).await;
    declare(store, &direct("direct 2")).await;
    let topic = QueueSpec::unbound(queue("topic")).bound_to(exchange("topics"), ExchangeKind::Topic, key("*.b.#"));
    declare(store, &topic).await;
    let fanout = QueueSpec::unbound(queue("fanout")).bound_to(exchange("news"), ExchangeKind::Fanout, key(""));
    declare(store, &fanout).await;
    let red: Map = [("colour".to_owned(), Value::from("red"))].into_iter().collect();
    declare(store, &QueueSpec::unbound(queue("headers")).bound_by_headers(exchange("things"), red)).await;
    // Making the levels takes its time.
    publish(store, vec![delayed("first", &queue("other"), Timestamp::now() + DELAY)]).await;
    let due = Timestamp::now() + DELAY;
    let mut thing = message("by headers");
    thing.headers.set_extra("colour", "red");
    let batch = vec![
        delayed("by name", &queue("plain"), due),
        delayed("by key", to("letters", "k"), due),
        delayed("by topic", to("topics", "a.b.c"), due),
        delayed("to all", to("news", "whatever"), due),
        Outgoing::new(thing, to("things", "")).deliver_at(due),
        outgoing("at once", &queue("plain")),
    ];
    publish(store, batch).await;
    assert_eq!(body(&next(other, "plain").await), "at once");
    let came = [
        ("plain", "by name", "celeriac-queue:plain"),
        ("direct 1", "by key", "celeriac-key:letters:k"),
        ("direct 2", "by key", "celeriac-key:letters:k"),
        ("topic", "by topic", "celeriac-topic:topics.a.b.c"),
        ("fanout", "to all", "celeriac-exchange:news"),
        ("headers", "by headers", "celeriac-exchange:things"),
    ];
    for (queue, words, key) in came {
        let got = next(other, queue).await;
        // The bits are those of what was left of the delay when it was sent.
        let (bits, exit) = got.delivery.routing_key.as_str().split_at(BITS);
        assert_eq!((body(&got), exit), (words, key));
        assert!(bits.starts_with(&"0.".repeat(26)), "{bits}: at most three seconds");
        let early = due.since(Timestamp::now());
        assert!(early <= Duration::from_secs(1), "{words} came {early:?} before it is due");
        assert_eq!(header(&got, "celeriac-due"), Some(&AMQPValue::LongLongInt(due.as_micros())));
        assert!(other.get(queue).await.is_none(), "it comes once");
    }
}

#[tokio::test]
async fn what_is_delayed_comes_by_every_kind_of_exchange_when_it_is_due() {
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let vhost = vhost().await;
        let store = open(config(&vhost).delay_queue_type(kind)).await;
        comes_when_it_is_due(&store, &Other::new(&vhost).await).await;
        let wished = if kind == QueueType::Quorum { "quorum" } else { "classic" };
        let level = vhost.queue_info("celery_delayed_3").await.unwrap();
        assert_eq!(level.arguments.get("x-queue-type").map(String::as_str), Some(wished));
        // Others find the levels as they are, whatever they would have made.
        let other_kind = if kind == QueueType::Quorum { QueueType::Classic } else { QueueType::Quorum };
        let second = open(config(&vhost).delay_queue_type(other_kind)).await;
        publish(&second, vec![delayed("second", &queue("plain"), Timestamp::now() + Duration::from_secs(1))]).await;
        assert_eq!(body(&next(&Other::new(&vhost).await, "plain").await), "second");
    }
}

#[tokio::test]
async fn keys_and_names_that_are_alike_are_not_mixed_up() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let other = Other::new(&vhost).await;
    let topic =
        |name, pattern| QueueSpec::unbound(queue(name)).bound_to(exchange("t"), ExchangeKind::Topic, key(pattern));
    for (name, pattern) in [("t 1", "celery"), ("t 2", "x.celery"), ("t 3", "#")] {
        declare(&store, &topic(name, pattern)).await;
    }
    let direct = QueueSpec::unbound(queue("d")).bound_to(exchange("d"), ExchangeKind::Direct, key("celery"));
    declare(&store, &direct).await;
    let due = Timestamp::now() + Duration::from_millis(1_200);
    let names = ["celery", "x.celery", "celery.#", "*.celery"];
    let mut batch: Vec<Outgoing> = names.iter().map(|name| delayed(name, &queue(name), due)).collect();
    batch.push(delayed("by key", to("d", "celery"), due));
    batch.push(delayed("topic", to("t", "celery"), due));
    batch.push(delayed("longer topic", to("t", "x.celery"), due));
    // At once too, now that the bindings for what is delayed are there.
    batch.push(outgoing("now", to("t", "x.celery")));
    publish(&store, batch).await;
    for (queue, bodies) in [
        ("celery", &["celery"][..]),
        ("x.celery", &["x.celery"]),
        ("celery.#", &["celery.#"]),
        ("*.celery", &["*.celery"]),
        ("d", &["by key"]),
        ("t 1", &["topic"]),
        ("t 2", &["longer topic", "now"]),
        ("t 3", &["longer topic", "now", "topic"]),
    ] {
        let mut came = other.bodies(queue, bodies.len()).await;
        came.sort_unstable();
        assert_eq!(came, bodies, "in {queue}");
    }
    for queue in ["celery", "x.celery", "celery.#", "*.celery", "d", "t 1", "t 2", "t 3"] {
        assert!(other.get(queue).await.is_none(), "nothing else comes to {queue}");
    }
}

#[tokio::test]
async fn an_instant_that_is_too_far_is_waited_for_as_long_as_can_be() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let years = Timestamp::now() + Duration::from_secs(20 * 365 * 86_400);
    publish(&store, vec![delayed("x", &queue("q"), years)]).await;
    let got = next(&Other::new(&vhost).await, "celery_delayed_27").await;
    assert_eq!(got.delivery.routing_key.as_str(), "1.".repeat(28) + "celeriac-queue:q");
    assert_eq!(header(&got, "celeriac-due"), Some(&AMQPValue::LongLongInt(years.as_micros())));
}

#[tokio::test]
async fn what_expires_does_not_come_early() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let other = Other::new(&vhost).await;
    let expiring = |body: &str, expiration: Duration, due: Timestamp| {
        let mut message = message(body);
        message.properties.expiration = Some(expiration);
        Outgoing::new(message, &queue("q")).deliver_at(due)
    };
    let now = Timestamp::now();
    let due = now + DELAY;
    let soon = now + Duration::from_millis(500);
    publish(
        &store,
        vec![expiring("later", Duration::from_secs(1), due), expiring("soon", Duration::from_secs(60), soon)],
    )
    .await;
    let got = next(&other, "q").await;
    assert_eq!(body(&got), "soon", "less than a second is waited for by who receives it");
    assert_eq!(got.delivery.routing_key.as_str(), "q");
    assert!(header(&got, "celeriac-expires").is_some() && got.delivery.properties.expiration().is_some());
    let got = next(&other, "q").await;
    assert!(due.since(Timestamp::now()) <= Duration::from_secs(1), "it came before it was due");
    let Some(AMQPValue::FieldArray(expires)) = header(&got, "celeriac-expires") else { panic!("{got:?}") };
    let [AMQPValue::LongLongInt(instant), AMQPValue::LongInt(1_000)] = expires.as_slice() else {
        panic!("{expires:?}")
    };
    assert!(Timestamp::from_micros(*instant).since(now) < Duration::from_secs(60));
    assert_eq!(got.delivery.properties.expiration(), &None);
}

#[tokio::test]
async fn what_could_not_be_led_back_is_refused() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let due = Timestamp::now() + Duration::from_secs(60);
    let refused = async |to: Destination, words: &str| {
        refusal(store.broker().publish(vec![delayed("x", to, due)]).await, &[words]).kind()
    };
    let long: QueueName = "q".repeat(200).parse().unwrap();
    assert_eq!(refused(Destination::queue(&long), "too long").await, ErrorKind::TooLarge);
    publish(&store, vec![outgoing("x", &long)]).await;
    assert_eq!(refused(to("nowhere", "k"), "exchange `nowhere`").await, ErrorKind::NotFound);
    assert_eq!(refused(to("amq.topic", "k"), "declared here").await, ErrorKind::NotFound);
    let topic = QueueSpec::unbound(queue("t")).bound_to(exchange("topics"), ExchangeKind::Topic, key("a.*"));
    declare(&store, &topic).await;
    assert_eq!(refused(to("topics", "b.c"), "key `b.c`").await, ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_delayed_finds_a_queue_that_was_made_again() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let other = Other::new(&vhost).await;
    publish(&store, vec![delayed("under way", &queue("q"), Timestamp::now() + Duration::from_millis(1_200))]).await;
    // With the queue goes its binding.
    other.delete_queue("q").await;
    other.delete_exchange("celery_delayed_27").await;
    publish(&store, vec![outgoing("now", &queue("q"))]).await;
    publish(&store, vec![delayed("later", &queue("q"), Timestamp::now() + DELAY)]).await;
    // What was under way finds its way too, if it has not come out meanwhile.
    let mut came = Vec::new();
    while came.last().is_none_or(|last| last != "later") {
        came.push(body(&next(&other, "q").await).to_owned());
    }
    came.retain(|body| body != "under way");
    assert_eq!(came, ["now", "later"]);
}

#[tokio::test]
async fn quorum_queues_at_topic_exchanges_are_open_to_what_python_delays() {
    let vhost = vhost().await;
    let store = open(config(&vhost).queue_type(QueueType::Quorum)).await;
    let orders = QueueSpec::unbound(queue("orders")).bound_to(exchange("orders"), ExchangeKind::Topic, key("orders.#"));
    declare(&store, &orders).await;
    // As Celery's producer does, which declares nothing.
    let other = Other::new(&vhost).await;
    let key = "0.".repeat(27) + "1.orders.eu";
    let options = lapin::options::BasicPublishOptions::default();
    let properties = lapin::BasicProperties::default().with_headers(FieldTable::default());
    let channel = other.channel().await;
    channel.basic_publish("celery_delayed_27".into(), key.into(), options, b"x", properties).await.unwrap();
    let got = next(&other, "orders").await;
    assert_eq!(body(&got), "x");
    assert!(header(&got, "x-death").is_some());
}

/// Deletes what the delay consists of.
async fn delete_delay(other: &Other) {
    for level in 0..28 {
        let name = format!("celery_delayed_{level}");
        other.delete_queue(&name).await;
        other.delete_exchange(&name).await;
    }
    other.delete_exchange("celery_delayed_delivery").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_delay_is_made_again_on_a_server_that_has_none() {
    let vhost = vhost().await;
    let other = Other::new(&vhost).await;
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let url = vhost.url_at(proxy.address());
    let settings = celeriac_amqp::AmqpConfig::from_url(&url).unwrap().publish_timeout(PATIENCE);
    let store = open(settings.queue_type(QueueType::Quorum)).await;
    let letters = QueueSpec::unbound(queue("letters")).bound_to(exchange("letters"), ExchangeKind::Direct, key("k"));
    let news = QueueSpec::unbound(queue("news")).bound_to(exchange("news"), ExchangeKind::Fanout, key(""));
    for spec in [&letters, &news] {
        declare(&store, spec).await;
    }
    let soon = || Timestamp::now() + Duration::from_millis(1_200);
    publish(&store, vec![delayed("0", &queue("q"), soon())]).await;
    assert_eq!(body(&next(&other, "q").await), "0");
    let places = || [(Destination::queue(&queue("q")), "q"), (to("letters", "k"), "letters"), (to("news", ""), "news")];
    for (round, (to, name)) in places().into_iter().enumerate() {
        delete_delay(&other).await;
        for queue in ["q", "letters", "news"] {
            other.delete_queue(queue).await;
        }
        // Also the way it goes when the connection is lost, as with a server that starts anew.
        if round % 2 == 0 {
            proxy.cut();
        }
        if name == "news" {
            declare(&store, &news).await;
        }
        publish(&store, vec![delayed(name, to, soon())]).await;
        assert_eq!(body(&next(&other, name).await), name);
    }
}

#[tokio::test]
async fn what_is_delayed_finds_a_queue_that_another_process_has_made_anew() {
    let vhost = vhost().await;
    let (store, second) = (open(config(&vhost)).await, open(config(&vhost)).await);
    let other = Other::new(&vhost).await;
    let letters = QueueSpec::unbound(queue("letters")).bound_to(exchange("letters"), ExchangeKind::Direct, key("k"));
    declare(&store, &letters).await;
    let both = |body: &str, delay: Duration| {
        let due = Timestamp::now() + delay;
        vec![delayed(body, &queue("q"), due), delayed(body, to("letters", "k"), due)]
    };
    publish(&store, both("under way", Duration::from_secs(6))).await;
    for name in ["q", "letters"] {
        other.delete_queue(name).await;
    }
    // One of them as it consumes it, the other as its app declares it.
    let consumer = second.broker().consume(ConsumeOptions::new([queue("q")])).await.unwrap();
    declare(&second, &letters).await;
    eventually(PATIENCE, async || vhost.queue_info("q").await.is_some()).await;
    consumer.cancel().await.unwrap();
    publish(&store, both("later", Duration::from_millis(1_200))).await;
    for name in ["q", "letters"] {
        assert_eq!(other.bodies(name, 2).await, ["later", "under way"], "in {name}");
    }
    // As it is when nobody has made it anew.
    for name in ["q", "letters"] {
        other.delete_queue(name).await;
    }
    publish(&store, both("last", Duration::from_millis(1_200))).await;
    for name in ["q", "letters"] {
        assert_eq!(other.bodies(name, 1).await, ["last"], "in {name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levels_of_another_type_cost_one_look_and_not_one_for_each() {
    let vhost = vhost().await;
    let mut bytes = Vec::new();
    for kind in [QueueType::Classic, QueueType::Quorum] {
        let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
        let settings = celeriac_amqp::AmqpConfig::from_url(&vhost.url_at(proxy.address())).unwrap();
        let store = open(settings.publish_timeout(PATIENCE).delay_queue_type(kind)).await;
        publish(&store, vec![delayed("x", &queue("q"), Timestamp::now() + Duration::from_secs(60))]).await;
        bytes.push(proxy.bytes());
    }
    assert!(bytes[1] < 3 * bytes[0], "{bytes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declaring_that_is_given_up_midway_costs_no_connection() {
    let vhost = vhost().await;
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let settings = celeriac_amqp::AmqpConfig::from_url(&vhost.url_at(proxy.address())).unwrap();
    let store = open(settings.publish_timeout(PATIENCE).queue_type(QueueType::Quorum)).await;
    let news = QueueSpec::unbound(queue("news")).bound_to(exchange("news"), ExchangeKind::Fanout, key(""));
    let (broker, begun) = (store.broker(), proxy.connections());
    for micros in (0..40).map(|round| 500 * round) {
        let _ = tokio::time::timeout(Duration::from_micros(micros), broker.declare(&news)).await;
    }
    declare(&store, &news).await;
    assert_eq!(proxy.connections(), begun);
}
