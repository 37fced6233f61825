//! Native delayed delivery, as Celery lays it out: a queue for each power of two of seconds, left by dead-lettering.
//!
//! A message that is to wait `n` seconds goes to the exchange `celery_delayed_27` with the 28 bits of `n` before its routing key. Level by level
//! each bit that is set leads it through a queue where it stays for that power of two of seconds. What comes out at the end, at the exchange
//! `celery_delayed_delivery`, is led on by bindings: see [`Exit`].
//!
//! Seconds are too coarse for an instant, and clocks differ: so the message says in a header when it is due, and is let in early rather than
//! late. Whoever receives it holds it until then.

use std::borrow::Cow;
use std::time::Duration;

use celeriac_broker::{Destination, ExchangeKind, Outgoing};
use celeriac_core::{Clock, ExchangeName, Message, RoutingKey, SystemClock, Timestamp, Value};

/// When the message is due: microseconds since 1970.
pub(crate) const DUE: &str = "celeriac-due";
/// When it expires, in microseconds since 1970, and after how many milliseconds that was to be. A queue of the delay would take the property
/// `expiration` for the end of the delay.
pub(crate) const EXPIRES: &str = "celeriac-expires";
/// The exchange and the routing key that it was published with.
const PUBLISHED: &str = "celeriac-published";

/// Where a delayed message is published to.
pub(crate) const ENTRY: &str = "celery_delayed_27";
/// The exchange that it comes out of.
pub(crate) const DELIVERY: &str = "celery_delayed_delivery";
/// What the names of all queues and exchanges of the delay begin with.
pub(crate) const PREFIX: &str = "celery_delayed_";
/// One level for each bit of the seconds.
pub(crate) const LEVELS: usize = 28;

/// Keys and patterns must not be longer, by AMQP.
const LONGEST_KEY: usize = 255;
/// The bits and their dots.
const BITS: usize = 2 * LEVELS;

/// How a message finds its queues when it comes out: what stands behind the bits in its routing key.
///
/// Bindings name 28 words before it, no more and no fewer, so that no other key that ends alike matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit<'a> {
    /// To the queue of this name, by a binding of that queue.
    Queue(&'a str),
    /// To the queues that are bound to this direct exchange by this key, by a binding of each queue.
    Key(&'a ExchangeName, &'a RoutingKey),
    /// To an exchange that looks at no key, by a binding of the exchange.
    Exchange(&'a ExchangeName),
    /// To a topic exchange, with the key itself behind its name, by bindings of the exchange and of each queue to it.
    ///
    /// COMPAT: Celery has the key alone, and binds by `#.` and the key: then an exchange gets also what was delayed for others by a key that ends
    /// alike, and a queue what was published without a delay by such a key. Queues that are bound so get this too.
    Topic(&'a ExchangeName, &'a RoutingKey),
}

impl<'a> Exit<'a> {
    /// The way to `destination`, of an exchange of this kind; `None` if this is a kind that is not known.
    pub(crate) fn of(destination: &'a Destination, kind: ExchangeKind) -> Option<Self> {
        let Destination { exchange, routing_key } = destination;
        Some(match kind {
            _ if exchange.is_empty() => Self::Queue(routing_key),
            ExchangeKind::Direct => Self::Key(exchange, routing_key),
            ExchangeKind::Fanout | ExchangeKind::Headers => Self::Exchange(exchange),
            ExchangeKind::Topic => Self::Topic(exchange, routing_key),
            _ => return None,
        })
    }

    fn key(self) -> Cow<'a, str> {
        match self {
            Self::Queue(name) => format!("celeriac-queue:{}", word(name)).into(),
            Self::Key(exchange, key) => format!("celeriac-key:{}:{}", word(exchange), word(key)).into(),
            Self::Exchange(exchange) => format!("celeriac-exchange:{}", word(exchange)).into(),
            Self::Topic(exchange, key) => topic(exchange, key).into(),
        }
    }

    /// The routing key of a message that is to wait for `seconds`; `None` if that would be longer than AMQP allows.
    pub(crate) fn routing_key(self, seconds: u32) -> Option<String> {
        let key = self.key();
        (BITS + key.len() <= LONGEST_KEY).then(|| bits(seconds) + &key)
    }

    /// The binding of what comes out.
    pub(crate) fn binding(self) -> Option<String> {
        match self {
            Self::Topic(exchange, _) => pattern(&topic(exchange, "#")),
            other => pattern(&other.key()),
        }
    }
}

fn topic(exchange: &ExchangeName, key: &str) -> String {
    format!("celeriac-topic:{}.{key}", word(exchange))
}

/// The binding of a queue to a topic exchange for what was delayed, if it is bound by `key` for the rest.
pub(crate) fn inlet(exchange: &ExchangeName, key: &RoutingKey) -> Option<String> {
    pattern(&topic(exchange, key))
}

/// A pattern for keys that `pattern` matches, behind any 28 words; `None` if that would be longer than AMQP allows.
pub(crate) fn pattern(pattern: &str) -> Option<String> {
    (BITS + pattern.len() <= LONGEST_KEY).then(|| "*.".repeat(LEVELS) + pattern)
}

/// A name as one word of a routing key, which no pattern takes for anything else.
fn word(name: &str) -> Cow<'_, str> {
    if !name.contains(['%', '.', ':']) {
        return name.into();
    }
    name.replace('%', "%25").replace('.', "%2E").replace(':', "%3A").into()
}

/// The bits of `seconds`, the greatest first, each with a dot behind it.
fn bits(seconds: u32) -> String {
    (0..LEVELS).rev().map(|level| if seconds >> level & 1 == 1 { "1." } else { "0." }).collect()
}

/// How long a message that is due then waits in the levels: whole seconds, so that it does not come late, and as many as they hold.
pub(crate) fn seconds(due: Timestamp, now: Timestamp) -> u32 {
    const MOST: u32 = (1 << LEVELS) - 1;
    u32::try_from(due.since(now).as_secs()).unwrap_or(MOST).min(MOST)
}

/// Writes into a message what its receiver has to know: when it is due, when it expires, and where it was published to.
///
/// Returns the instant, if it is still to come. A message that has waited before, and says when it expires, keeps that.
pub(crate) fn mark(outgoing: &mut Outgoing, now: Timestamp) -> Option<Timestamp> {
    let Outgoing { message, destination, deliver_at, .. } = outgoing;
    let due = deliver_at.filter(|due| *due > now);
    let expires = match message.properties.expiration {
        Some(expiration) => read_expiry(message.headers.take_extra(EXPIRES)).or(Some((now + expiration, expiration))),
        None => None,
    };
    let Some(due) = due else {
        if let (true, Some((expires, _))) = (deliver_at.is_some(), expires) {
            message.properties.expiration = Some(expires.since(now));
        }
        return None;
    };
    if let Some((expires, expiration)) = expires {
        set_expiry(message, expires, expiration);
        // For the case that it waits in its queue, and not in the delay.
        message.properties.expiration = Some(expires.since(now));
    }
    message.headers.set_extra(DUE, due.as_micros());
    let Destination { exchange, routing_key } = destination;
    let published = vec![Value::from(exchange.as_str()), Value::from(routing_key.as_str())];
    message.headers.set_extra(PUBLISHED, published);
    // RabbitMQ drops what seems to go in circles: what it was told of earlier ways would make it think so.
    forget_deaths(message);
    Some(due)
}

/// Has `message`, which is to be published anew, expire at the instant that its [`Arrival`] told, instead of beginning to count again.
pub(crate) fn keep_expiry(message: &mut Message, expires: Timestamp) {
    if let Some(expiration) = message.properties.expiration {
        set_expiry(message, expires, expiration);
    }
}

fn set_expiry(message: &mut Message, expires: Timestamp, expiration: Duration) {
    let expiry = vec![Value::from(expires.as_micros()), Value::from(millis(expiration))];
    message.headers.set_extra(EXPIRES, expiry);
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn read_expiry(header: Option<Value>) -> Option<(Timestamp, Duration)> {
    let header = header?;
    let instant = header.at(0)?.as_i64().map(Timestamp::from_micros)?;
    let expiration = header.at(1)?.as_u64().map(Duration::from_millis)?;
    Some((instant, expiration))
}

/// What a message that was received tells beside itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The exchange it was published to.
    pub(crate) exchange: ExchangeName,
    /// The routing key it was published with.
    pub(crate) routing_key: RoutingKey,
    /// Not to be delivered before this instant, which is still to come.
    pub(crate) due: Option<Timestamp>,
    /// Not to be delivered after this instant. Whoever publishes the message anew hands it to [`keep_expiry`].
    pub(crate) expires: Option<Timestamp>,
    /// It expires before it is due, or has expired: to be dropped.
    pub(crate) expired: bool,
}

/// Reads what a received message says of its delay, and restores it to what was published.
pub(crate) fn arrived(message: &mut Message, exchange: &str, routing_key: &str) -> Arrival {
    arrived_at(SystemClock.now(), message, exchange, routing_key)
}

fn arrived_at(now: Timestamp, message: &mut Message, exchange: &str, routing_key: &str) -> Arrival {
    let due = message.headers.take_extra(DUE).and_then(|due| due.as_i64()).map(Timestamp::from_micros);
    let expiry = read_expiry(message.headers.take_extra(EXPIRES));
    if let Some((_, expiration)) = expiry {
        message.properties.expiration = Some(expiration);
    }
    let published = message.headers.take_extra(PUBLISHED);
    let text = |at: usize| published.as_ref().and_then(|published| published.at(at)?.as_str());
    let key = strip(routing_key);
    if key.len() < routing_key.len() {
        forget_queues(message, PREFIX);
    }
    let due = due.filter(|due| *due > now);
    let expires = expiry.map(|(expires, _)| expires);
    Arrival {
        exchange: text(0).unwrap_or(exchange).parse().unwrap_or(ExchangeName::DEFAULT),
        routing_key: text(1).unwrap_or(key).parse().unwrap_or(RoutingKey::from_static("")),
        expired: expires.is_some_and(|expires| expires <= due.unwrap_or(now)),
        due,
        expires,
    }
}

/// The routing key without the bits of a delay.
fn strip(routing_key: &str) -> &str {
    let Some((bits, key)) = routing_key.split_at_checked(BITS) else { return routing_key };
    let bit = |pair: &[u8]| matches!(pair, b"0." | b"1.");
    if bits.as_bytes().chunks(2).all(bit) { key } else { routing_key }
}

const DEATHS: &str = "x-death";
const FIRST_AND_LAST: [&str; 6] = [
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
];

fn forget_deaths(message: &mut Message) {
    for name in FIRST_AND_LAST.into_iter().chain([DEATHS]) {
        message.headers.take_extra(name);
    }
}

/// Takes queues whose names begin so out of the list of those where the message was dead-lettered: they are how it waited, and nothing happened
/// to it.
pub(crate) fn forget_queues(message: &mut Message, prefix: &str) {
    let ours = |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|name| name.starts_with(prefix));
    match message.headers.take_extra(DEATHS) {
        Some(Value::List(deaths)) => {
            let others: Vec<Value> = deaths.into_iter().filter(|death| !ours(death.get("queue"))).collect();
            if others.is_empty() {
                return forget_deaths(message);
            }
            message.headers.set_extra(DEATHS, others);
        }
        Some(other) => message.headers.set_extra(DEATHS, other),
        None => {}
    }
    for three in FIRST_AND_LAST.chunks(3) {
        let queue = three.iter().find(|name| name.ends_with("-queue"));
        if queue.is_some_and(|name| ours(message.headers.get(name).as_ref())) {
            three.iter().for_each(|name| drop(message.headers.take_extra(name)));
        }
    }
}

#[cfg(test)]
mod tests;
