//! From a `QueueSpec` to what is declared, as Celery declares it.

use std::time::Duration;

use celeriac_broker::{ExchangeKind, QueueSpec, check_headers_binding};
use celeriac_core::{Error, Map, Result, Value};

use super::DECLARE;
use super::step::Step;
use crate::config::{AmqpConfig, QueueType};
use crate::wire;

const QUEUE_TYPE: &str = "x-queue-type";
const MAX_PRIORITY: &str = "x-max-priority";
const MESSAGE_TTL: &str = "x-message-ttl";
const EXPIRES: &str = "x-expires";

/// The options of a [`QueueSpec`] that RabbitMQ takes as arguments.
pub(super) const OPTIONS: [(&str, &str); 3] =
    [(MAX_PRIORITY, "max_priority"), (MESSAGE_TTL, "message_ttl"), (EXPIRES, "expires")];

/// The arguments that RabbitMQ 3.8 to 4.2 know. Others it would pass over in silence.
const KNOWN: [&str; 25] = [
    "x-consumer-timeout",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-expires",
    "x-initial-cluster-size",
    "x-max-age",
    "x-max-in-memory-bytes",
    "x-max-in-memory-length",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-message-ttl",
    "x-overflow",
    "x-queue-leader-locator",
    "x-queue-master-locator",
    "x-queue-mode",
    "x-queue-type",
    "x-queue-version",
    "x-quorum-initial-group-size",
    "x-quorum-target-group-size",
    "x-single-active-consumer",
    "x-stream-filter-size-bytes",
    "x-stream-max-segment-size-bytes",
];

/// What makes the queue, its exchanges and its bindings, in Celery's order.
///
/// # Errors
/// `Config` or `Unsupported`, naming the option, for what RabbitMQ would not do, or would pass over.
pub(super) fn steps(config: &AmqpConfig, spec: &QueueSpec) -> Result<Vec<Step>> {
    let name = spec.name.as_str();
    let mut steps = Vec::with_capacity(1 + 2 * spec.bindings.len());
    for binding in &spec.bindings {
        if binding.exchange.name.is_empty() {
            let why = format!("queue `{name}` cannot be bound to the default exchange, which feeds it anyway");
            return Err(Error::config(DECLARE, why));
        }
        let step = Step::Exchange { name: binding.exchange.name.as_str().into(), kind: kind(binding.exchange.kind)? };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    let arguments = wire::table(&arguments(config, spec)?)?;
    steps.push(Step::Queue { name: name.into(), durable: spec.durable, auto_delete: spec.auto_delete, arguments });
    for binding in &spec.bindings {
        if binding.exchange.kind == ExchangeKind::Headers {
            check_headers_binding(&binding.arguments)?;
        }
        steps.push(Step::Bind {
            queue: name.into(),
            exchange: binding.exchange.name.as_str().into(),
            key: binding.key.as_str().into(),
            arguments: wire::table(&binding.arguments)?,
        });
    }
    Ok(steps)
}

fn kind(kind: ExchangeKind) -> Result<lapin::ExchangeKind> {
    Ok(match kind {
        ExchangeKind::Direct => lapin::ExchangeKind::Direct,
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
        ExchangeKind::Headers => lapin::ExchangeKind::Headers,
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        other => return Err(Error::unsupported(DECLARE, format!("an exchange of kind `{}`", other.as_str()))),
    })
}

/// Whether the queue is to be a quorum queue: if it says so, else if queues are to be by default and this one can.
pub(super) fn is_quorum(config: &AmqpConfig, spec: &QueueSpec) -> bool {
    match spec.arguments.get(QUEUE_TYPE) {
        Some(wished) => wished.as_str() == Some("quorum"),
        // RabbitMQ has quorum queues only as durable ones that stay.
        None => config.queue_type == QueueType::Quorum && spec.durable && !spec.auto_delete,
    }
}

fn arguments(config: &AmqpConfig, spec: &QueueSpec) -> Result<Map> {
    let name = &spec.name;
    if let Some(unknown) = spec.arguments.keys().find(|argument| !KNOWN.contains(argument)) {
        let why = format!("argument `{unknown}` of queue `{name}` is not one that RabbitMQ knows");
        return Err(Error::config(DECLARE, why));
    }
    let quorum = is_quorum(config, spec);
    if quorum && spec.max_priority.is_some() {
        let why = format!("`max_priority` of queue `{name}`: RabbitMQ's quorum queues have none");
        return Err(Error::unsupported(DECLARE, why));
    }
    // Streams and the like have no priorities either.
    let classic = spec.arguments.get(QUEUE_TYPE).is_none_or(|wished| wished.as_str() == Some("classic")) && !quorum;
    let given_already = |argument: &str| spec.arguments.contains_key(argument);
    let by_default = config.max_priority.filter(|_| classic && !given_already(MAX_PRIORITY));
    let max_priority = spec.max_priority.or(by_default).map(|level| Value::from(i64::from(level)));
    let millis = |time: Duration| Value::Int(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    let values = [max_priority, spec.message_ttl.map(millis), spec.expires.map(millis)];
    let mut arguments = spec.arguments.clone();
    for ((argument, option), value) in OPTIONS.into_iter().zip(values) {
        let Some(value) = value else { continue };
        if arguments.insert(argument, value).is_some() {
            let why = format!("queue `{name}` has both the option `{option}` and the argument `{argument}`");
            return Err(Error::config(DECLARE, why));
        }
    }
    if quorum {
        arguments.insert(QUEUE_TYPE, "quorum");
    }
    Ok(arguments)
}
