//! Queues, exchanges and bindings: kombu's tables, and what it does not write down.

use celeriac_broker::{Destination, ExchangeKind, Outgoing, QueueSpec};
use celeriac_core::{Error, ExchangeName, Message, Result, Value};
use deadpool_redis::redis::{self, Pipeline};

use crate::error::unexpected;
use crate::keys::{binding_member, read_binding, topic_pattern};
use crate::link::Link;
use crate::push::{Exchange, Exchanges};
use crate::script;
use crate::store::Shared;

/// The argument of a queue that Python works on: messages with an ETA go to it in Celery's own form, at once.
const CELERY_ETA: &str = "x-celery-eta";

/// Declares a queue, its exchanges and its bindings.
pub(crate) async fn declare(shared: &Shared, link: &Link, queue: &QueueSpec) -> Result<()> {
    const DECLARE: &str = "declare queue";
    let celerys_form = check(queue)?;
    let name = queue.name.as_str();
    let mut command = script::DECLARE.call();
    command.arg(3).arg(&shared.keys.queues).arg(&shared.keys.exchanges).arg(shared.keys.fanouts(name));
    let options = if queue.durable { "durable" } else { "transient" };
    command.arg(name).arg(options);
    for binding in &queue.bindings {
        let (exchange, key) = (binding.exchange.name.as_str(), binding.key.as_str());
        if exchange.is_empty() {
            continue;
        }
        // As kombu: only topics have patterns, and fanouts ignore their key.
        let pattern = if binding.exchange.kind == ExchangeKind::Topic { topic_pattern(key) } else { String::new() };
        let (table, permanent) = (shared.keys.binding(exchange), shared.keys.permanent_binding(exchange));
        command.arg(exchange).arg(binding.exchange.kind.as_str()).arg(table).arg(permanent);
        command.arg(binding_member(key, &pattern, name)).arg(shared.keys.fanout_queues(exchange));
    }
    let answer: Vec<String> =
        redis::from_redis_value(link.query(DECLARE, &command).await?).map_err(|error| unexpected(DECLARE, error))?;
    match answer.as_slice() {
        [first, known] if first == "queue" => {
            let why = format!("option `durable` of queue `{name}`: it exists as {known}, and was to be {options}");
            Err(Error::config(DECLARE, why))
        }
        [exchange, kind] => Err(Error::config(DECLARE, format!("exchange `{exchange}` exists with kind `{kind}`"))),
        _ => {
            shared.declared(&queue.name, celerys_form);
            Ok(())
        }
    }
}

/// Whether Redis can do what is wished for, and whether messages with an ETA are to keep Celery's form.
fn check(queue: &QueueSpec) -> Result<bool> {
    const DECLARE: &str = "declare queue";
    let unsupported = [
        ("auto_delete", queue.auto_delete),
        ("expires", queue.expires.is_some()),
        ("max_priority", queue.max_priority.is_some()),
        ("message_ttl", queue.message_ttl.is_some()),
    ];
    if let Some((option, _)) = unsupported.into_iter().find(|(_, wished)| *wished) {
        return Err(Error::unsupported(DECLARE, format!("`{option}` of queue `{}`: not on Redis", queue.name)));
    }
    let mut celerys_form = false;
    for (name, value) in &queue.arguments {
        match value {
            Value::Bool(wished) if name == CELERY_ETA => celerys_form = *wished,
            _ if name == CELERY_ETA => {
                let why = format!("argument `{CELERY_ETA}` of queue `{}` is true or false, not {value:?}", queue.name);
                return Err(Error::config(DECLARE, why));
            }
            _ => {
                let why = format!("argument `{name}` of queue `{}` is not known; there is `{CELERY_ETA}`", queue.name);
                return Err(Error::config(DECLARE, why));
            }
        }
    }
    for binding in &queue.bindings {
        if !matches!(binding.exchange.kind, ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::Topic) {
            let kind = binding.exchange.kind.as_str();
            return Err(Error::unsupported(DECLARE, format!("Redis has no exchanges of kind `{kind}`")));
        }
    }
    Ok(celerys_form)
}

/// The exchanges that these messages are published to, but for the default one.
pub(crate) fn named<'a>(messages: impl IntoIterator<Item = &'a Outgoing>) -> Vec<ExchangeName> {
    let mut names: Vec<ExchangeName> = Vec::new();
    for message in messages {
        let name = &message.destination.exchange;
        if !name.is_empty() && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// What is known of these exchanges.
pub(crate) async fn exchanges(
    shared: &Shared,
    link: &Link,
    operation: &'static str,
    names: Vec<ExchangeName>,
) -> Result<Exchanges> {
    if names.is_empty() {
        return Ok(Exchanges::new());
    }
    let mut pipeline = Pipeline::new();
    for name in &names {
        pipeline.cmd("HGET").arg(&shared.keys.exchanges).arg(name.as_str());
        pipeline.cmd("SMEMBERS").arg(shared.keys.binding(name));
        pipeline.cmd("SMEMBERS").arg(shared.keys.fanout_queues(name));
    }
    let answers = link.pipeline(operation, &pipeline).await?;
    let mut answers = answers.into_iter();
    let mut known = Exchanges::new();
    for name in names {
        let (Some(kind), Some(members), Some(ours)) = (answers.next(), answers.next(), answers.next()) else { break };
        let kind: Option<String> = redis::from_redis_value(kind).map_err(|error| unexpected(operation, error))?;
        let members: Vec<String> = redis::from_redis_value(members).map_err(|error| unexpected(operation, error))?;
        let members: Vec<(&str, &str, &str)> = members.iter().filter_map(|member| read_binding(member)).collect();
        let kind = match kind.as_deref() {
            Some("fanout") => ExchangeKind::Fanout,
            Some("topic") => ExchangeKind::Topic,
            Some(_) => ExchangeKind::Direct,
            // Declared by Python alone, which writes no kinds down; but only topics have patterns.
            None if members.is_empty() => continue,
            None if members.iter().any(|(_, pattern, _)| !pattern.is_empty()) => ExchangeKind::Topic,
            None => ExchangeKind::Direct,
        };
        let mut bindings: Vec<(String, String)> = match kind {
            ExchangeKind::Fanout => {
                let queues: Vec<String> =
                    redis::from_redis_value(ours).map_err(|error| unexpected(operation, error))?;
                queues.into_iter().map(|queue| (String::new(), queue)).collect()
            }
            _ => members.into_iter().map(|(key, _, queue)| (key.to_owned(), queue.to_owned())).collect(),
        };
        // A set has no order of its own.
        bindings.sort();
        known.insert(name, Exchange { kind, bindings });
    }
    Ok(known)
}

/// The queues that a key of an exchange leads to.
pub(crate) async fn lookup(
    shared: &Shared,
    link: &Link,
    operation: &'static str,
    exchange: &str,
    key: &str,
) -> Result<Vec<String>> {
    let destination =
        Destination { exchange: exchange.to_owned().try_into()?, routing_key: key.to_owned().try_into()? };
    let outgoing = Outgoing::new(Message::default(), destination);
    let exchanges = exchanges(shared, link, operation, named([&outgoing])).await?;
    Ok(shared.queues_of(operation, &outgoing, &exchanges)?.into_iter().map(str::to_owned).collect())
}
