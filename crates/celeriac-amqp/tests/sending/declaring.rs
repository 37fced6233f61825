//! What is declared, and what is said of what cannot be.

use std::time::Duration;

use celeriac_amqp::QueueType;
use celeriac_broker::{ExchangeKind, QueueSpec};
use celeriac_core::{ErrorKind, Map, Value};
use celeriac_testkit::server::Permissions;
use lapin::options::{
    BasicGetOptions, BasicRejectOptions, ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};

use crate::common::{
    Other, config, declare, exchange, key, message, open, outgoing, publish, queue, refusal, to, vhost,
};

const TOPOLOGY: &str = include_str!("../../../../tests/vectors/topology.json");
const DELAY: &str = include_str!("../../../../tests/vectors/native_delayed_delivery.json");

/// Declares just what Celery was captured to declare; what is not as it was, the server refuses. Names of the queues and exchanges.
async fn declare_as_celery(other: &Other, file: &str) -> Vec<String> {
    let cases: Vec<serde_json::Value> = serde_json::from_str(file).unwrap();
    let channel = other.channel().await;
    let mut names = Vec::new();
    for case in &cases {
        let args = &case["args"];
        let text = |name: &str| args[name].as_str().unwrap_or_default().into();
        let is = |name: &str| args[name] == true;
        match case["method"].as_str().unwrap_or_default() {
            "exchange.declare" => {
                let kind = match args["type"].as_str().unwrap() {
                    "direct" => lapin::ExchangeKind::Direct,
                    "fanout" => lapin::ExchangeKind::Fanout,
                    _ => lapin::ExchangeKind::Topic,
                };
                let options = ExchangeDeclareOptions { durable: is("durable"), ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(text("exchange"), kind, options, FieldTable::default()).await.unwrap();
                names.push(args["exchange"].as_str().unwrap().to_owned());
            }
            "queue.declare" if !is("exclusive") => {
                let options = QueueDeclareOptions {
                    durable: is("durable"),
                    auto_delete: is("auto_delete"),
                    ..QueueDeclareOptions::default()
                };
                channel.queue_declare(text("queue"), options, table(&args["arguments"])).await.unwrap();
                names.push(args["queue"].as_str().unwrap().to_owned());
            }
            "queue.bind" if known(&names, &args["queue"]) => {
                let (queue, exchange, key) = (text("queue"), text("exchange"), text("routing_key"));
                let options = QueueBindOptions::default();
                channel.queue_bind(queue, exchange, key, options, FieldTable::default()).await.unwrap();
            }
            // Not every level's declaration is in the file.
            "exchange.bind" if known(&names, &args["destination"]) && known(&names, &args["source"]) => {
                let (to, from, key) = (text("destination"), text("source"), text("routing_key"));
                let options = ExchangeBindOptions::default();
                channel.exchange_bind(to, from, key, options, FieldTable::default()).await.unwrap();
            }
            _ => {}
        }
    }
    names
}

fn known(names: &[String], name: &serde_json::Value) -> bool {
    names.iter().any(|known| *name == **known)
}

fn table(arguments: &serde_json::Value) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments.as_object().unwrap() {
        let value = match value.as_i64() {
            Some(int) => i32::try_from(int).map_or(AMQPValue::LongLongInt(int), AMQPValue::LongInt),
            None => AMQPValue::LongString(value.as_str().unwrap().into()),
        };
        table.insert(name.as_str().into(), value);
    }
    table
}

/// The queues that both sides of the captures have.
fn shared_queues() -> Vec<QueueSpec> {
    let mut priorities = QueueSpec::direct(queue("prio"));
    priorities.max_priority = Some(10);
    let mut quorum = QueueSpec::direct(queue("qq"));
    quorum.arguments.insert("x-queue-type", "quorum");
    let mut orders =
        QueueSpec::unbound(queue("orders")).bound_to(exchange("orders"), ExchangeKind::Topic, key("orders"));
    orders.arguments.insert("x-queue-type", "quorum");
    vec![
        QueueSpec::direct(queue("celery")),
        QueueSpec::unbound(queue("myq")).bound_to(exchange("myx"), ExchangeKind::Topic, key("my.rk")),
        QueueSpec::unbound(queue("qh")).bound_to(exchange("xh"), ExchangeKind::Fanout, key("qh")),
        priorities,
        quorum,
        orders,
    ]
}

#[tokio::test]
async fn what_is_declared_here_is_what_celery_declares() {
    // We first, then Celery.
    let first = vhost().await;
    let store = open(config(&first)).await;
    for spec in shared_queues() {
        declare(&store, &spec).await;
    }
    let other = Other::new(&first).await;
    assert!(declare_as_celery(&other, TOPOLOGY).await.iter().any(|name| name == "myq"));
    assert!(declare_as_celery(&other, DELAY).await.iter().any(|name| name == "celery_delayed_27"));
    // Celery first, then we.
    let second = vhost().await;
    let other = Other::new(&second).await;
    declare_as_celery(&other, TOPOLOGY).await;
    declare_as_celery(&other, DELAY).await;
    let store = open(config(&second)).await;
    for spec in shared_queues() {
        declare(&store, &spec).await;
    }
    publish(&store, vec![outgoing("x", to("myx", "my.rk"))]).await;
    assert_eq!(other.bodies("myq", 1).await, ["x"]);
}

#[tokio::test]
async fn what_differs_is_named_with_what_is_and_what_was_to_be() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let plain = QueueSpec::direct(queue("plain"));
    let mut rich = QueueSpec::direct(queue("rich"));
    rich.max_priority = Some(5);
    rich.message_ttl = Some(Duration::from_secs(60));
    rich.expires = Some(Duration::from_secs(600));
    rich.arguments.insert("x-dead-letter-exchange", "dead");
    let fanout = QueueSpec::unbound(queue("heard")).bound_to(exchange("news"), ExchangeKind::Fanout, key(""));
    for spec in [&plain, &rich, &fanout] {
        declare(&store, spec).await;
    }
    let with = |spec: &QueueSpec, change: fn(&mut QueueSpec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        spec
    };
    let cases = [
        (
            with(&plain, |spec| spec.durable = false),
            "queue `plain` exists with another `durable`: it has `true`, and was to have `false`",
        ),
        (with(&plain, |spec| spec.auto_delete = true), "queue `plain` exists with another `auto_delete`"),
        (
            with(&plain, |spec| spec.max_priority = Some(9)),
            "another `max_priority`: it has `none`, and was to have `9`",
        ),
        (
            with(&rich, |spec| spec.max_priority = None),
            "queue `rich` exists with another `max_priority`: it has `5`, and was to have `none`",
        ),
        (
            with(&rich, |spec| spec.message_ttl = Some(Duration::from_secs(1))),
            "another `message_ttl`: it has `60000`, and was to have `1000`",
        ),
        (with(&rich, |spec| spec.expires = None), "another `expires`: it has `600000`"),
        (
            with(&rich, |spec| drop(spec.arguments.insert("x-dead-letter-exchange", "grave"))),
            "another `x-dead-letter-exchange`: it has `dead`, and was to have `grave`",
        ),
        (with(&plain, |spec| drop(spec.arguments.insert("x-queue-type", "quorum"))), "another `x-queue-type`"),
        (
            QueueSpec::unbound(queue("deaf")).bound_to(exchange("news"), ExchangeKind::Direct, key("k")),
            "exchange `news` exists with another kind: it has `fanout`, and was to have `direct`",
        ),
    ];
    for (spec, words) in cases {
        let error = refusal(store.broker().declare(&spec).await, &[words]);
        assert_eq!(error.kind(), ErrorKind::Config, "{words}");
    }
    // What is refused is forgotten: the queues are used as they are.
    publish(&store, vec![outgoing("x", &plain.name), outgoing("y", &rich.name)]).await;
    assert_eq!(Other::new(&vhost).await.bodies("rich", 1).await, ["y"]);
}

#[tokio::test]
async fn an_argument_that_rabbitmq_does_not_take_is_named() {
    let store = open(config(&vhost().await)).await;
    let refused = async |argument: &str, value: Value, words: &str| {
        let mut spec = QueueSpec::direct(queue("q"));
        spec.arguments.insert(argument, value);
        let error = refusal(store.broker().declare(&spec).await, &[argument, words]);
        assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    };
    refused("x-max-prioritty", 9.into(), "not one that RabbitMQ knows").await;
    refused("x-overflow", "nonsense".into(), "queue `q`").await;
    refused("x-queue-type", "nonsense".into(), "queue `q`").await;
    refused("x-message-ttl", "soon".into(), "queue `q`").await;
    refused("x-max-length", Value::from(-1), "queue `q`").await;
}

#[tokio::test]
async fn what_the_user_may_not_do_is_told_by_name() {
    let vhost = vhost().await;
    let other = Other::new(&vhost).await;
    other.declare_queue("shut", FieldTable::default()).await;
    let user = celeriac_testkit::unique("clerk");
    let narrow = Permissions { configure: "^open.*", write: "^(open.*|amq\\.default)$", read: "^open.*" };
    vhost.add_user(&user, "word", narrow).await;
    let config = celeriac_amqp::AmqpConfig::from_url(&vhost.url_as(&user, "word")).unwrap();
    let store = open(config).await;
    let error = refusal(store.broker().declare(&QueueSpec::direct(queue("closed"))).await, &["`closed`", "permission"]);
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    declare(&store, &QueueSpec::direct(queue("open"))).await;
    let news = QueueSpec::unbound(queue("open.news")).bound_to(exchange("open.news"), ExchangeKind::Fanout, key(""));
    declare(&store, &news).await;
    // To publish to what is there, it need not be allowed to be declared.
    publish(&store, vec![outgoing("x", &queue("shut"))]).await;
    assert_eq!(other.bodies("shut", 1).await, ["x"]);
    let error = refusal(
        store.broker().publish(vec![outgoing("x", to("amq.topic", "k"))]).await,
        &["`amq.topic`", "permission"],
    );
    assert_eq!(error.kind(), ErrorKind::Config, "{}", error.report());
    // Others' messages went by the same way, and arrive.
    let broker = store.broker();
    let (refused, sent) = tokio::join!(
        broker.publish(vec![outgoing("a", &queue("open")), outgoing("x", to("amq.topic", "k"))]),
        broker.publish(vec![outgoing("b", &queue("open")), outgoing("c", &queue("open"))]),
    );
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
    sent.unwrap();
    let came = other.bodies("open", 2).await;
    assert!(came.contains(&"b".to_owned()) && came.contains(&"c".to_owned()), "{came:?}");
}

#[tokio::test]
async fn arguments_for_dead_letters_are_passed_on() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let grave = QueueSpec::unbound(queue("grave")).bound_to(exchange("dead"), ExchangeKind::Direct, key("of q"));
    declare(&store, &grave).await;
    let mut spec = QueueSpec::direct(queue("q"));
    spec.arguments.insert("x-dead-letter-exchange", "dead");
    spec.arguments.insert("x-dead-letter-routing-key", "of q");
    spec.arguments.insert("x-single-active-consumer", true);
    declare(&store, &spec).await;
    publish(&store, vec![outgoing("x", &spec.name)]).await;
    let other = Other::new(&vhost).await;
    let channel = other.channel().await;
    let got = channel.basic_get("q".into(), BasicGetOptions::default()).await.unwrap().unwrap();
    got.delivery.acker.reject(BasicRejectOptions { requeue: false }).await.unwrap();
    assert_eq!(other.bodies("grave", 1).await, ["x"]);
}

#[tokio::test]
async fn queues_are_quorum_queues_where_the_store_is_told_so() {
    let vhost = vhost().await;
    let store = open(config(&vhost).queue_type(QueueType::Quorum)).await;
    publish(&store, vec![outgoing("x", &queue("made"))]).await;
    let mut passing = QueueSpec::direct(queue("passing"));
    passing.durable = false;
    declare(&store, &passing).await;
    let mut classic = QueueSpec::direct(queue("classic"));
    classic.arguments.insert("x-queue-type", "classic");
    classic.max_priority = Some(9);
    declare(&store, &classic).await;
    let kind = async |name: &str| vhost.queue_info(name).await.unwrap().arguments.get("x-queue-type").cloned();
    assert_eq!(kind("made").await.as_deref(), Some("quorum"));
    assert_eq!(kind("passing").await, None);
    assert_eq!(kind("classic").await.as_deref(), Some("classic"));
    let mut urgent = QueueSpec::direct(queue("urgent"));
    urgent.max_priority = Some(9);
    let error = refusal(store.broker().declare(&urgent).await, &["max_priority"]);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn headers_decide_at_a_headers_exchange() {
    let vhost = vhost().await;
    let store = open(config(&vhost)).await;
    let arguments = |manner: &str| {
        let entries = [("x-match", Value::from(manner)), ("colour", "red".into()), ("size", 3.into())];
        entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map>()
    };
    declare(&store, &QueueSpec::unbound(queue("all")).bound_by_headers(exchange("things"), arguments("all"))).await;
    declare(&store, &QueueSpec::unbound(queue("any")).bound_by_headers(exchange("things"), arguments("any"))).await;
    let thing = |body: &str, headers: &[(&str, Value)]| {
        let mut message = message(body);
        headers.iter().for_each(|(name, value)| message.headers.set_extra(*name, value.clone()));
        celeriac_broker::Outgoing::new(message, to("things", "whatever"))
    };
    let both = thing("both", &[("colour", "red".into()), ("size", 3.into())]);
    publish(&store, vec![both, thing("one", &[("size", 3.into())])]).await;
    let error =
        refusal(store.broker().publish(vec![thing("none", &[("size", 4.into())])]).await, &["exchange `things`"]);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let other = Other::new(&vhost).await;
    assert_eq!(other.bodies("all", 1).await, ["both"]);
    assert_eq!(other.bodies("any", 2).await, ["both", "one"]);
}
