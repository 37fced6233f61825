//! Deliveries that are held for longer than RabbitMQ waits for them.

use std::time::Duration;

use celeriac_amqp::{AmqpConfig, AmqpStore, QueueType};
use celeriac_broker::{Completion, QueueSpec, Requeue, Settled, Verb};
use celeriac_core::{QueueName, Timestamp, Value};
use celeriac_testkit::eventually;
use celeriac_testkit::proxy::FaultProxy;
use celeriac_testkit::server::{RabbitServer, Vhost};
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::support::*;

/// How long the server waits.
const TIMEOUT: Duration = Duration::from_secs(3);
/// By then a delivery is held as a copy.
const SHELTERED: Duration = Duration::from_millis(2_500);
/// Some consumer timeouts.
const LONG: Duration = Duration::from_secs(10);

const BOTH: [QueueType; 2] = [QueueType::Classic, QueueType::Quorum];

/// A server that does not wait long.
async fn hasty() -> Vhost<'static> {
    static SERVER: OnceCell<RabbitServer> = OnceCell::const_new();
    let start = async || {
        let server =
            RabbitServer::builder().config(&format!("consumer_timeout = {}", TIMEOUT.as_millis())).start().await;
        // It looks every minute by itself.
        server.eval("application:set_env(rabbit, channel_tick_interval, 200)").await;
        server
    };
    SERVER.get_or_init(start).await.vhost().await
}

fn patient(url: &str, queue_type: QueueType) -> AmqpConfig {
    config(url).consumer_timeout(TIMEOUT).queue_type(queue_type)
}

async fn open_patient(vhost: &Vhost<'_>, queue_type: QueueType) -> AmqpStore {
    AmqpStore::open(patient(&vhost.url(), queue_type)).await.unwrap()
}

/// The queues where copies are.
async fn shelters(vhost: &Vhost<'_>) -> Vec<String> {
    let names =
        format!("[Name || {{resource, _, queue, Name}} <- rabbit_amqqueue:list_names(<<\"{}\">>)]", vhost.name());
    let names = vhost.server().eval(&names).await;
    names.split('"').filter(|name| name.starts_with("celeriac.held.")).map(str::to_owned).collect()
}

/// Waits until something is held as a copy: the queue of which it is one.
async fn sheltered(vhost: &Vhost<'_>, copies: u64) -> String {
    let held = async || {
        for name in shelters(vhost).await {
            if vhost.queue_info(&name).await.is_some_and(|info| (info.ready, info.unacked) == (0, copies)) {
                return Some(name);
            }
        }
        None
    };
    eventually(PATIENCE, async || held().await.is_some()).await;
    held().await.unwrap()
}

#[tokio::test]
async fn a_delivery_is_held_for_as_long_as_it_takes() {
    for queue_type in BOTH {
        let (vhost, jobs) = (hasty().await, queue("jobs"));
        let store = open_patient(&vhost, queue_type).await;
        publish(&store, &jobs, 0..3).await;
        let mut consumer = consumer(&store, &[&jobs], 3).await;
        let other = open_patient(&vhost, queue_type).await;
        let held = take(&mut consumer, 3).await;
        let mut idle = crate::support::consumer(&other, &[&jobs], 10).await;
        none(&mut idle, LONG).await;
        none(&mut consumer, Duration::from_millis(10)).await;
        for delivery in held {
            assert_eq!(delivery.ack().await.unwrap(), Settled::Done, "{queue_type:?}");
        }
        sheltered(&vhost, 0).await;
        none(&mut idle, TIMEOUT).await;
        until_depth(&vhost, &jobs, 0, 0).await;
        store.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_queue_for_which_the_server_waits_less_says_so_itself() {
    let (vhost, mut spec) = (hasty().await, QueueSpec::direct(queue("hasty")));
    let millis = i64::try_from(TIMEOUT.as_millis()).unwrap();
    // The store is not told of any timeout; and it looks after what another consumer holds by then.
    for told in [Duration::ZERO, Duration::from_secs(1800)] {
        let store = AmqpStore::open(config(&vhost.url()).consumer_timeout(told)).await.unwrap();
        let _idle = consumer(&store, &[&queue("others")], 1).await;
        spec.arguments.insert("x-consumer-timeout", millis);
        store.broker().declare(&spec).await.unwrap();
        publish(&store, &spec.name, 0..1).await;
        let mut consumer = crate::support::consumer(&store, &[&spec.name], 1).await;
        let delivery = one(&mut consumer).await;
        sheltered(&vhost, 1).await;
        assert_eq!(delivery.ack().await.unwrap(), Settled::Done);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_made_for_tasks_that_are_not_long_and_what_is_goes_by_itself() {
    for queue_type in BOTH {
        let (vhost, jobs) = (hasty().await, queue("jobs"));
        let store = open_patient(&vhost, queue_type).await;
        let mut consumer = consumer(&store, &[&jobs], 1).await;
        for n in 0..5 {
            publish(&store, &jobs, n..n + 1).await;
            let delivery = one(&mut consumer).await;
            sleep(TIMEOUT / 5).await; // wait: so long a task takes
            delivery.ack().await.unwrap();
        }
        assert!(shelters(&vhost).await.is_empty());
        for _ in 0..2 {
            publish(&store, &jobs, 0..1).await;
            let delivery = one(&mut consumer).await;
            let shelter = sheltered(&vhost, 1).await;
            delivery.ack().await.unwrap();
            // Some minutes later the server deletes what nobody consumes.
            let left = async || vhost.queue_info(&shelter).await.is_none_or(|info| info.consumers == 0);
            eventually(PATIENCE, left).await;
            let info = vhost.queue_info(&shelter).await.unwrap();
            assert_eq!((info.ready, info.unacked), (0, 0));
            assert_eq!(info.arguments["x-expires"], "300000");
        }
        store.close().await.unwrap();
        assert_eq!(shelters(&vhost).await.len(), 1, "{queue_type:?}");
    }
}

#[tokio::test]
async fn what_is_held_for_long_ends_in_every_way() {
    for queue_type in BOTH {
        let (vhost, jobs) = (hasty().await, queue("jobs"));
        let store = open_patient(&vhost, queue_type).await;
        publish(&store, &jobs, 0..5).await;
        let mut consumer = consumer(&store, &[&jobs], 5).await;
        let mut held = take(&mut consumer, 5).await;
        sheltered(&vhost, 5).await;
        let mut next = || held.remove(0);
        assert_eq!(next().reject(Requeue::No).await.unwrap(), Settled::Done);
        assert_eq!(next().reject(Requeue::Yes).await.unwrap(), Settled::Done);
        let again = one(&mut consumer).await;
        assert_eq!((text(&again).as_str(), again.redelivered), ("1", true));
        if queue_type == QueueType::Quorum {
            assert_eq!(again.delivery_count, Some(2));
        }
        again.ack().await.unwrap();
        assert_eq!(next().park(Timestamp::now() + Duration::from_millis(300)).await.unwrap(), Settled::Done);
        let again = one(&mut consumer).await;
        assert_eq!((text(&again).as_str(), again.redelivered), ("2", false), "parking does not count");
        again.ack().await.unwrap();
        let follows = Completion::new().then(outgoing("follows", &queue("next")));
        let done = next().into_receipt().settle(Verb::Complete(Box::new(follows))).await.unwrap();
        assert_eq!(done, Settled::Done);
        until_depth(&vhost, &queue("next"), 1, 0).await;
        // Somebody forgets it.
        drop(next());
        let again = one(&mut consumer).await;
        assert_eq!((text(&again).as_str(), again.redelivered), ("4", true));
        again.ack().await.unwrap();
        until_depth(&vhost, &jobs, 0, 0).await;
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_rejected_for_good_after_long_goes_to_where_its_queue_sends_it() {
    let (vhost, jobs) = (hasty().await, queue("jobs"));
    let store = open_patient(&vhost, QueueType::Classic).await;
    store.broker().declare(&QueueSpec::direct(queue("dead"))).await.unwrap();
    let mut spec = QueueSpec::direct(jobs.clone());
    spec.arguments.insert("x-dead-letter-exchange", "");
    spec.arguments.insert("x-dead-letter-routing-key", "dead");
    store.broker().declare(&spec).await.unwrap();
    publish(&store, &jobs, 0..1).await;
    let mut consumer = consumer(&store, &[&jobs], 1).await;
    let delivery = one(&mut consumer).await;
    sheltered(&vhost, 1).await;
    delivery.reject(Requeue::No).await.unwrap();
    let mut dead = crate::support::consumer(&store, &[&queue("dead")], 1).await;
    let letter = one(&mut dead).await;
    assert_eq!(text(&letter), "0");
    letter.ack().await.unwrap();
    until_depth(&vhost, &jobs, 0, 0).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_a_dead_process_held_for_long_goes_to_another_soon_and_as_it_was() {
    for queue_type in BOTH {
        let (vhost, jobs) = (hasty().await, queue("jobs"));
        let store = open_patient(&vhost, queue_type).await;
        let mut spec = QueueSpec::direct(jobs.clone());
        spec.max_priority = (queue_type == QueueType::Classic).then_some(9);
        store.broker().declare(&spec).await.unwrap();
        let mut sent = outgoing("long", &jobs);
        sent.message.properties.priority = Some(celeriac_core::Priority(7));
        sent.message.properties.expiration = Some(Duration::from_secs(600));
        sent.message.properties.correlation_id = Some("that".parse().unwrap());
        sent.message.headers.set_extra("mine", Value::from(vec![Value::from(1), Value::from("two")]));
        store.broker().publish(vec![sent.clone()]).await.unwrap();

        let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
        let dies = AmqpStore::open(patient(&vhost.url_at(proxy.address()), queue_type)).await.unwrap();
        let mut consumer = consumer(&dies, &[&jobs], 1).await;
        let held = one(&mut consumer).await;
        sheltered(&vhost, 1).await;
        sleep(TIMEOUT).await; // wait: it is the copy of a copy by then
        let mut other = crate::support::consumer(&store, &[&jobs], 10).await;
        proxy.refuse().await;
        proxy.cut();
        let again = one(&mut other).await;
        assert!(again.redelivered);
        if queue_type == QueueType::Quorum {
            assert_eq!(again.delivery_count, Some(2));
        }
        assert_eq!((&again.queue, &again.exchange, again.routing_key.as_str()), (&jobs, &held.exchange, "jobs"));
        assert_eq!(again.message, held.message);
        assert_eq!(again.message.headers.to_map(), sent.message.headers.to_map());
        assert_eq!(held.ack().await.unwrap(), Settled::Lost);
        again.ack().await.unwrap();
        none(&mut other, Duration::from_millis(300)).await;
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_is_closed_or_dropped_hands_back_what_it_held_for_long() {
    for (queue_type, close) in [(QueueType::Classic, true), (QueueType::Classic, false), (QueueType::Quorum, true)] {
        let (vhost, jobs) = (hasty().await, queue("jobs"));
        let store = open_patient(&vhost, queue_type).await;
        publish(&store, &jobs, 0..2).await;
        let mut consumer = consumer(&store, &[&jobs], 2).await;
        let held = take(&mut consumer, 2).await;
        sheltered(&vhost, 2).await;
        if close {
            store.close().await.unwrap();
        }
        drop((store, consumer, held));
        until_depth(&vhost, &jobs, 2, 0).await;
        let store = open_patient(&vhost, queue_type).await;
        let mut consumer = crate::support::consumer(&store, &[&jobs], 2).await;
        for delivery in take(&mut consumer, 2).await {
            assert!(delivery.redelivered);
            delivery.ack().await.unwrap();
        }
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_held_for_long_when_the_connection_was_cut_is_lost_and_comes_again_once() {
    let (vhost, jobs) = (hasty().await, queue("jobs"));
    let proxy = FaultProxy::start_opaque(vhost.server().address()).await;
    let store = AmqpStore::open(patient(&vhost.url_at(proxy.address()), QueueType::Classic)).await.unwrap();
    publish(&store, &jobs, 0..3).await;
    let mut consumer = consumer(&store, &[&jobs], 3).await;
    let held = take(&mut consumer, 3).await;
    sheltered(&vhost, 3).await;
    proxy.cut();
    let mut again = take(&mut consumer, 3).await;
    again.sort_by_key(text);
    assert_eq!(texts(&again), ["0", "1", "2"]);
    for delivery in held {
        assert_eq!(delivery.ack().await.unwrap(), Settled::Lost);
    }
    // What came again is held for as long.
    none(&mut consumer, 2 * TIMEOUT).await;
    for delivery in again {
        assert!(delivery.redelivered);
        assert_eq!(delivery.ack().await.unwrap(), Settled::Done);
    }
    none(&mut consumer, Duration::from_millis(300)).await;
    until_depth(&vhost, &jobs, 0, 0).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_is_held_for_long_counts_as_on_the_way() {
    let (vhost, jobs) = (hasty().await, queue("jobs"));
    let store = open_patient(&vhost, QueueType::Classic).await;
    publish(&store, &jobs, 0..6).await;
    let mut consumer = consumer(&store, &[&jobs], 2).await;
    let mut held = take(&mut consumer, 2).await;
    sheltered(&vhost, 2).await;
    none(&mut consumer, SHELTERED).await;
    until_depth(&vhost, &jobs, 4, 0).await;
    // What ends makes place for one more.
    held.remove(0).ack().await.unwrap();
    let _next = one(&mut consumer).await;
    none(&mut consumer, Duration::from_millis(300)).await;
    until_depth(&vhost, &jobs, 3, 1).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_waits_to_be_taken_for_long_goes_back_and_comes_again() {
    let (vhost, mut spec) = (hasty().await, QueueSpec::direct(queue("brief")));
    // Such a queue is consumed also while nobody asks, and what comes is kept.
    spec.expires = Some(Duration::from_secs(60));
    let store = open_patient(&vhost, QueueType::Classic).await;
    store.broker().declare(&spec).await.unwrap();
    let mut consumer = consumer(&store, &[&spec.name], 5).await;
    publish(&store, &spec.name, 0..1).await;
    sleep(LONG).await; // wait: nobody asks for so long
    assert_eq!(text(&one(&mut consumer).await), "0");
    assert!(shelters(&vhost).await.is_empty());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_delivery_is_held_on_when_its_shelter_is_deleted() {
    let (vhost, jobs) = (hasty().await, queue("jobs"));
    let store = open_patient(&vhost, QueueType::Classic).await;
    publish(&store, &jobs, 0..1).await;
    let mut consumer = consumer(&store, &[&jobs], 1).await;
    let held = one(&mut consumer).await;
    let shelter = sheltered(&vhost, 1).await;
    vhost.server().ctl(&["delete_queue", "-p", vhost.name(), &shelter]).await;
    let mut other = crate::support::consumer(&store, &[&jobs], 10).await;
    // Longer than a copy would lie in a shelter from which nobody takes it.
    none(&mut other, Duration::from_secs(13)).await;
    sheltered(&vhost, 1).await;
    assert_eq!(held.ack().await.unwrap(), Settled::Done);
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_sheltered_disturbs_no_other() {
    let (vhost, jobs) = (hasty().await, queue("jobs"));
    let store = open_patient(&vhost, QueueType::Classic).await;
    publish(&store, &jobs, 0..1).await;
    let mut consumer = consumer(&store, &[&jobs], 5).await;
    let held = one(&mut consumer).await;
    // It fits into a frame just so: not with what a copy has beside it.
    let wide = async |bytes: usize| {
        let mut wide = outgoing("wide", &queue("wide"));
        wide.message.headers.set_extra("wide", "x".repeat(bytes));
        store.broker().publish(vec![wide]).await
    };
    let mut bytes = 131_072;
    while wide(bytes).await.is_err() {
        bytes -= 1;
    }
    let mut others = crate::support::consumer(&store, &[&queue("wide")], 5).await;
    let large = one(&mut others).await;
    sheltered(&vhost, 1).await;
    let again = one(&mut others).await;
    assert!(again.redelivered);
    assert_eq!(large.ack().await.unwrap(), Settled::Lost);
    again.ack().await.unwrap();
    assert_eq!(held.ack().await.unwrap(), Settled::Done);
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_comes_early_and_cannot_be_parked_disturbs_no_other() {
    let (vhost, wordy) = (hasty().await, QueueName::new("x".repeat(200)).unwrap());
    let store = open_patient(&vhost, QueueType::Classic).await;
    let mut early = outgoing("early", &wordy);
    let due = Timestamp::now() + LONG;
    early.message.headers.set_extra("celeriac-due", due.as_micros());
    store.broker().publish(vec![early]).await.unwrap();
    let mut consumer = consumer(&store, &[&wordy], 5).await;
    none(&mut consumer, Duration::from_millis(300)).await;
    loop {
        publish(&store, &wordy, 0..1).await;
        let delivery = one(&mut consumer).await;
        let is_early = text(&delivery) == "early";
        sleep(TIMEOUT / 10).await; // wait: so long a task takes
        assert_eq!(delivery.ack().await.unwrap(), Settled::Done);
        if is_early {
            break;
        }
    }
    assert!(Timestamp::now() >= due);
    store.close().await.unwrap();
}
