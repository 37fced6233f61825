//! What is declared, against what was captured from Celery 5.7: `tests/vectors/` of the workspace.

use celeriac_core::{Map, RoutingKey, Value};
use lapin::ExchangeKind as Kind;
use lapin::types::ShortString;

use super::*;
use crate::config::QueueType;
use crate::wire;

const DELAY: &str = include_str!("../../../../tests/vectors/native_delayed_delivery.json");
const TOPOLOGY: &str = include_str!("../../../../tests/vectors/topology.json");

/// The declarations of a file, in order, with the names of their cases.
fn captured(file: &str) -> Vec<(String, Step)> {
    let cases: Vec<serde_json::Value> = serde_json::from_str(file).unwrap();
    cases.iter().filter_map(|case| Some((case["name"].as_str()?.to_owned(), step(case)?))).collect()
}

fn step(case: &serde_json::Value) -> Option<Step> {
    let args = &case["args"];
    let text = |name: &str| ShortString::from(args[name].as_str().unwrap());
    let arguments = || {
        let map: Map = serde_json::from_value(args["arguments"].clone()).unwrap();
        wire::table(&map).unwrap()
    };
    let durable = || args["durable"] == true;
    Some(match case["method"].as_str()? {
        "exchange.declare" if durable() => {
            let kind = match args["type"].as_str()? {
                "direct" => Kind::Direct,
                "fanout" => Kind::Fanout,
                _ => Kind::Topic,
            };
            Step::Exchange { name: text("exchange"), kind }
        }
        "queue.declare" if args["exclusive"] == false => Step::Queue {
            name: text("queue"),
            durable: durable(),
            auto_delete: args["auto_delete"] == true,
            arguments: arguments(),
        },
        "queue.bind" => Step::Bind {
            queue: text("queue"),
            exchange: text("exchange"),
            key: text("routing_key"),
            arguments: arguments(),
        },
        "exchange.bind" => {
            Step::BindExchange { exchange: text("destination"), source: text("source"), key: text("routing_key") }
        }
        _ => return None,
    })
}

fn config() -> AmqpConfig {
    AmqpConfig::from_url("amqp://localhost").unwrap()
}

fn queue(name: &'static str) -> QueueName {
    QueueName::from_static(name)
}

/// Sees to it that Celery was captured to declare just this, in this order and on end.
fn is_celerys(file: &str, steps: &[Step]) {
    let captured: Vec<Step> = captured(file).into_iter().map(|(_, step)| step).collect();
    assert!(captured.windows(steps.len()).any(|some| some == steps), "Celery does not declare {steps:?}");
}

#[test]
fn a_queue_is_declared_as_celery_declares_it() {
    let config = config();
    let plain = declaration::steps(&config, &QueueSpec::direct(queue("celery"))).unwrap();
    assert_eq!(plain.len(), 3);
    is_celerys(TOPOLOGY, &plain);
    let (exchange, key) = (ExchangeName::from_static("myx"), RoutingKey::from_static("my.rk"));
    let topic = QueueSpec::unbound(queue("myq")).bound_to(exchange, ExchangeKind::Topic, key);
    is_celerys(TOPOLOGY, &declaration::steps(&config, &topic).unwrap());
    let (exchange, key) = (ExchangeName::from_static("xh"), RoutingKey::from_static("qh"));
    let fanout = QueueSpec::unbound(queue("qh")).bound_to(exchange, ExchangeKind::Fanout, key);
    is_celerys(TOPOLOGY, &declaration::steps(&config, &fanout).unwrap());
}

#[test]
fn priorities_and_quorum_queues_are_declared_as_celery_declares_them() {
    let mut spec = QueueSpec::direct(queue("prio"));
    spec.max_priority = Some(10);
    is_celerys(TOPOLOGY, &declaration::steps(&config(), &spec).unwrap());
    let by_default = AmqpConfig { max_priority: Some(10), ..config() };
    is_celerys(TOPOLOGY, &declaration::steps(&by_default, &QueueSpec::direct(queue("prio"))).unwrap());
    let quorum = AmqpConfig { queue_type: QueueType::Quorum, max_priority: Some(10), ..config() };
    is_celerys(TOPOLOGY, &declaration::steps(&quorum, &QueueSpec::direct(queue("qq"))).unwrap());
    let mut spec = QueueSpec::direct(queue("qq"));
    spec.arguments.insert("x-queue-type", "quorum");
    is_celerys(TOPOLOGY, &declaration::steps(&config(), &spec).unwrap());
}

#[test]
fn the_delay_is_declared_as_celery_declares_it() {
    let ours = levels::steps(QueueType::Quorum);
    let theirs = captured(DELAY);
    // The levels between are left out of the capture.
    let levels: Vec<&Step> = theirs.iter().map(|(_, step)| step).filter(|step| is_of_the_delay(step)).collect();
    assert!(levels.len() > 10);
    for step in levels {
        assert!(ours.contains(step), "not declared: {step:?}");
    }
    // An exchange, a queue and two bindings of each level; and the exchange behind them.
    assert_eq!(ours.len(), 28 * 4 + 1);
}

/// Whether it declares a level, or the exchange behind them; not what leads on from there to Celery's queue.
fn is_of_the_delay(step: &Step) -> bool {
    let name = match step {
        Step::Exchange { name, .. } | Step::Queue { name, .. } => name,
        Step::Bind { queue, .. } => queue,
        Step::BindExchange { exchange, .. } => exchange,
        _ => return false,
    };
    name.as_str().starts_with("celery_delayed_")
}

#[test]
fn levels_of_classic_queues_are_declared_as_celery_declares_them() {
    let steps = levels::steps(QueueType::Classic);
    let queue =
        steps.iter().find(|step| matches!(step, Step::Queue { name, .. } if name.as_str() == "celery_delayed_0"));
    let Some(Step::Queue { arguments, .. }) = queue else { panic!("{queue:?}") };
    let expected: [(&str, Value); 4] = [
        ("x-queue-type", "classic".into()),
        ("x-overflow", "reject-publish".into()),
        ("x-message-ttl", 1_000.into()),
        ("x-dead-letter-exchange", "celery_delayed_delivery".into()),
    ];
    let expected: Map = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(*arguments, wire::table(&expected).unwrap());
}

#[test]
fn a_wish_that_rabbitmq_would_not_follow_is_refused_by_name() {
    let refused = |spec: &QueueSpec| declaration::steps(&config(), spec).unwrap_err();
    let spec = QueueSpec::direct(queue("q"));
    let with = |argument: &str, value: Value| {
        let mut spec = spec.clone();
        spec.arguments.insert(argument, value);
        spec
    };
    let error = refused(&with("x-max-prioritty", 9.into()));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`x-max-prioritty`"), "{error}");
    let error = refused(&{
        let mut spec = with("x-queue-type", "quorum".into());
        spec.max_priority = Some(9);
        spec
    });
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("`max_priority`"), "{error}");
    let error = refused(&{
        let mut spec = with("x-max-priority", 5.into());
        spec.max_priority = Some(9);
        spec
    });
    assert!(error.to_string().contains("both the option `max_priority` and the argument `x-max-priority`"), "{error}");
    let default = ExchangeName::DEFAULT;
    let error = refused(&spec.clone().bound_to(default, ExchangeKind::Direct, RoutingKey::from_static("k")));
    assert!(error.to_string().contains("default exchange"), "{error}");
    let mut arguments = Map::new();
    arguments.insert("x-match", "some");
    let error = refused(&spec.clone().bound_by_headers(ExchangeName::from_static("e"), arguments));
    assert!(error.to_string().contains("`x-match`"), "{error}");
}
