//! What Celery declares for its native delayed delivery.

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::step::Step;
use crate::config::QueueType;
use crate::delay::{DELIVERY, LEVELS, PREFIX};

/// The level that a message takes for 2^`level` seconds, or passes.
pub(crate) fn name(level: usize) -> ShortString {
    format!("{PREFIX}{level}").into()
}

/// The levels, their queues, and the exchange behind them.
///
/// # Wire format
/// As `kombu/transport/native_delayed_delivery.py` (kombu 5.7) declares them.
pub(crate) fn steps(queue_type: QueueType) -> Vec<Step> {
    let mut steps: Vec<Step> = (0..LEVELS).rev().flat_map(|level| one(level, queue_type)).collect();
    steps.push(Step::Exchange { name: DELIVERY.into(), kind: ExchangeKind::Topic });
    // Where each leads when its bit is not set.
    steps.extend((0..LEVELS).rev().map(|level| Step::BindExchange {
        exchange: below(level),
        source: name(level),
        key: key(level, 0),
    }));
    steps
}

fn one(level: usize, queue_type: QueueType) -> [Step; 3] {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let millis = 1_000_i64 << level;
    let millis = i32::try_from(millis).map_or(AMQPValue::LongLongInt(millis), AMQPValue::LongInt);
    let quorum = queue_type == QueueType::Quorum;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(if quorum { "quorum" } else { "classic" }));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-message-ttl".into(), millis);
    arguments.insert("x-dead-letter-exchange".into(), text(below(level).as_str()));
    if quorum {
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    }
    [
        Step::Exchange { name: name(level), kind: ExchangeKind::Topic },
        Step::Queue { name: name(level), durable: true, auto_delete: false, arguments },
        Step::Bind { queue: name(level), exchange: name(level), key: key(level, 1), arguments: FieldTable::default() },
    ]
}

/// Where a message goes on from a level.
fn below(level: usize) -> ShortString {
    level.checked_sub(1).map_or_else(|| DELIVERY.into(), name)
}

/// The pattern for keys with this bit at the place of this level.
fn key(level: usize, bit: u8) -> ShortString {
    format!("{}{bit}.#", "*.".repeat(LEVELS - 1 - level)).into()
}
