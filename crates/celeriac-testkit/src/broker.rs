//! The broker suite: its harness, its table of behaviours, and the macro that makes tests of them.

mod closing;
mod completion;
mod consuming;
mod kit;
mod messages;
mod order;
mod queues;
mod routing;
mod settling;
mod time;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_backend::ResultBackend;
use celeriac_broker::{Broker, Capabilities};
use celeriac_core::Timestamp;

use crate::suite::{Behaviour, Makes, Opens, suite};

pub use kit::BrokerKit;

/// How the suite gets at the broker under test.
///
/// A closure that opens a broker is a harness: `|| async { Arc::new(MyBroker::new()) as Arc<dyn Broker> }`. Implement the trait to have
/// more behaviours tested: those that need a second handle, the result backend on the same store, or that the time is moved by hand.
#[async_trait]
pub trait BrokerHarness: Send + Sync + 'static {
    /// Opens the broker: on a new store or a shared one. The suite uses names of its own for queues and exchanges.
    async fn open(&self) -> Arc<dyn Broker>;

    /// Opens another handle on the store of the latest [`BrokerHarness::open`], as another process would; of a durable broker, so that it
    /// sees what survived.
    async fn reopen(&self) -> Option<Arc<dyn Broker>> {
        None
    }

    /// The result backend on the store of the latest [`BrokerHarness::open`], when [`Broker::store_id`] says that they share it.
    async fn backend(&self) -> Option<Arc<dyn ResultBackend>> {
        None
    }

    /// The broker's time.
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Lets time pass: sleeps, unless the broker's clock can be moved by hand.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await; // wait: a broker's own clock cannot be moved by hand
    }

    /// How long to wait for what must come. Default ten seconds.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// How long to watch out for what must not come. Default 60 milliseconds.
    fn quiet(&self) -> Duration {
        Duration::from_millis(60)
    }
}

struct Opener<F>(F);

#[async_trait]
impl<F, Fut> BrokerHarness for Opener<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Arc<dyn Broker>> + Send,
{
    async fn open(&self) -> Arc<dyn Broker> {
        (self.0)().await
    }
}

/// What [`broker_conformance!`](crate::broker_conformance) takes: a function that makes a [`BrokerHarness`], or an async one that opens a
/// broker. `Kind` only tells the two apart.
pub trait IntoBrokerHarness<Kind> {
    /// The harness.
    fn into_harness(self) -> Arc<dyn BrokerHarness>;
}

impl<F, H> IntoBrokerHarness<Makes> for F
where
    F: FnOnce() -> H,
    H: BrokerHarness,
{
    fn into_harness(self) -> Arc<dyn BrokerHarness> {
        Arc::new(self())
    }
}

impl<F, Fut> IntoBrokerHarness<Opens> for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Arc<dyn Broker>> + Send + 'static,
{
    fn into_harness(self) -> Arc<dyn BrokerHarness> {
        Arc::new(Opener(self))
    }
}

/// One thing that every broker does.
pub type BrokerBehaviour = Behaviour<BrokerKit, Capabilities>;

impl BrokerBehaviour {
    /// Tests this behaviour; if the broker lacks what it needs, says so on stderr instead.
    ///
    /// # Panics
    /// If the broker does not behave so.
    pub async fn check(&self, harness: Arc<dyn BrokerHarness>) {
        let kit = Arc::new(BrokerKit::open(harness, self.name).await);
        if let Some(missing) = (self.missing)(&kit.broker.capabilities()) {
            crate::suite::skipped("broker", self.name, missing);
        } else {
            (self.run)(Arc::clone(&kit)).await;
        }
        // Most behaviours leave closing to the kit; those that test it did it already, which is allowed.
        kit.broker.close().await.expect("a broker can be closed, also twice");
    }
}

/// Tests the behaviour `name` on a runtime of its own: what [`broker_conformance!`](crate::broker_conformance) calls.
///
/// # Panics
/// If the broker does not behave so, or no behaviour has that name.
pub fn check<Kind>(harness: impl IntoBrokerHarness<Kind>, name: &str) {
    let behaviour = BEHAVIOURS.iter().find(|one| one.name == name).expect("the behaviour is one of `BEHAVIOURS`");
    let harness = harness.into_harness();
    crate::suite::run("broker", behaviour.name, behaviour.contract, behaviour.check(harness));
}

suite! { ($) broker, BrokerBehaviour,
    /// Makes one `#[test]` of every behaviour of a broker.
    ///
    /// Takes a function that makes a [`BrokerHarness`](crate::broker::BrokerHarness), or an async one that opens a broker.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use celeriac_broker::Broker;
    /// # fn open() -> Arc<dyn Broker> { std::process::abort() }
    /// mod my_broker {
    ///     # use super::*;
    ///     celeriac_testkit::broker_conformance!(|| async { open() });
    /// }
    /// ```
    macro broker_conformance;

    // What arrives.
    messages::a_message_arrives_as_it_was_published:
        "headers, known and unknown, and properties arrive as they were published";
    messages::headers_of_no_task_are_kept:
        "headers that are no task's arrive as they were published";
    messages::malformed_headers_are_kept:
        "headers that cannot be understood are kept and delivered, for the worker to reject";
    messages::an_empty_message_arrives:
        "a message without headers, properties and body arrives";
    messages::a_body_of_any_bytes_arrives_unchanged:
        "a body may hold any bytes, one mebibyte of them too, and arrives unchanged";
    messages::a_delivery_tells_where_it_was_published:
        "a delivery names the queue it was taken from, and the exchange and routing key it was published with";
    messages::delivery_tags_are_distinct:
        "a tag names one delivery";
    messages::an_empty_batch_is_published:
        "publishing nothing succeeds and does nothing";

    // In which order.
    order::messages_arrive_in_the_order_of_their_publishing:
        "within one queue: first in, first out";
    order::a_batch_is_published_in_order:
        "a batch is published in order, whichever queues its messages go to";
    order::a_message_that_came_back_goes_first needs keeps_place:
        "a message handed back or redelivered goes before the others of its priority";
    order::messages_that_came_back_keep_their_order needs keeps_place:
        "messages handed back go before the others of their priority, in their old order";
    order::more_urgent_messages_overtake needs priorities:
        "more urgent priorities first, by as many levels as the broker says; then first in, first out";
    order::priorities_hold_within_one_recv needs priorities:
        "also the messages of one `recv` come by priority, then first in, first out";
    order::a_redelivered_message_keeps_its_priority needs priorities:
        "a message handed back goes before the others of its priority, not before more urgent ones";

    // Consuming.
    consuming::recv_returns_at_most_its_limit_and_never_nothing:
        "`recv` returns at least one message and at most `limit`";
    consuming::recv_does_not_wait_for_more:
        "`recv` returns the messages that are there without waiting for more";
    consuming::a_waiting_recv_is_woken:
        "`recv` waits until a message is there";
    consuming::a_dropped_recv_loses_nothing:
        "dropping a pending `recv`, at whatever point, loses no message and doubles none";
    consuming::consuming_makes_the_queue:
        "consuming declares a plain queue by itself";
    consuming::consuming_no_queue_is_refused:
        "consuming without a queue is a `Config` error";
    consuming::several_queues_are_consumed_at_once:
        "one consumer takes from all of its queues";
    consuming::no_queue_is_starved:
        "with several queues, none is starved by another";
    consuming::two_consumers_share_a_queue:
        "each message goes to exactly one of the consumers of a queue";
    consuming::a_held_message_goes_to_nobody_else:
        "while a delivery is held, no other consumer gets the message";
    consuming::many_producers_and_consumers_lose_and_double_nothing:
        "many producers and consumers at once: each message is delivered, and to exactly one";
    consuming::a_cancelled_consumer_leaves_its_deliveries_settleable:
        "`cancel` leaves the deliveries already handed out with their holder, to be settled as usual";
    consuming::a_dropped_consumer_loses_nothing:
        "dropping a consumer loses no message";

    // Settling.
    settling::an_acked_message_is_gone:
        "an acknowledged message is not delivered again";
    settling::a_dropped_delivery_comes_back:
        "a delivery that is dropped unsettled is delivered again";
    settling::reject_with_requeue_brings_it_back:
        "a message rejected with `Requeue::Yes` goes back to its queue";
    settling::reject_without_requeue_drops_it:
        "a message rejected with `Requeue::No` is not delivered again";
    settling::only_what_came_back_is_redelivered:
        "`redelivered` is false on the first delivery and true on those after";
    settling::deliveries_are_counted needs delivery_count:
        "`delivery_count` is how many times the message has been delivered, this one included";
    settling::a_batch_of_mixed_verbs_is_settled:
        "`settle_all` settles many deliveries at once, each by its own verb";
    settling::receipts_of_several_consumers_settle_in_one_batch:
        "`settle_all` takes receipts of several queues and consumers";
    settling::a_split_receipt_settles_its_message:
        "the receipt split off a delivery settles it, and dropped hands it back";

    // Time.
    time::a_message_is_not_delivered_before_it_is_due needs delay:
        "a message with `deliver_at` in the future is kept until then, and delivered then";
    time::a_waiting_recv_gets_a_message_when_it_is_due needs delay:
        "a `recv` that waits already gets a message when it is due";
    time::a_message_due_in_the_past_is_delivered_at_once:
        "a message whose `deliver_at` is past is delivered at once, also by a broker that cannot delay";
    time::delayed_messages_come_when_they_are_due needs delay:
        "of several delayed messages, each comes at its own time, and others pass them";
    time::a_due_message_goes_before_what_is_published_later needs delay:
        "a message that was delayed or parked goes, once due, before those published after that instant";
    time::a_far_due_time_is_kept needs delay:
        "a `deliver_at` many years away is kept, and delays nothing else";
    time::a_parked_message_comes_back_when_it_is_due needs delay:
        "a parked message is delivered again at its instant, not before";
    time::parking_does_not_count needs delay:
        "a delivery that ended by parking is not counted, and does not make the next one redelivered";
    time::parking_until_the_past_hands_it_back_at_once needs delay:
        "a message parked until an instant that is past is delivered again at once";
    time::deliver_at_without_delay_is_unsupported without delay:
        "`deliver_at` in the future is refused as `Unsupported` by a broker that cannot delay, and nothing is published";
    time::park_without_delay_is_unsupported without delay:
        "`park` is refused as `Unsupported` by a broker that cannot delay, whatever the instant, and left to be settled otherwise";
    time::an_expired_message_is_dropped needs expiration:
        "a message whose `expiration` has passed is dropped instead of delivered";
    time::a_queue_drops_what_waited_too_long needs expiration:
        "a message that waited longer than its queue's `message_ttl` is dropped instead of delivered";
    time::expiration_counts_from_publishing needs expiration:
        "`expiration` counts from the publishing, also of a delayed message; `message_ttl` from when it was due";
    time::hints_that_cannot_be_followed_have_no_effect:
        "`priority`, `expiration` and `delivery_mode` of a message are accepted and kept by every broker";

    // Queues.
    queues::depth_counts_what_waits:
        "`depth` counts the messages that wait for a consumer, not those held by one";
    queues::depth_leaves_out_what_is_not_due needs delay:
        "`depth` does not count messages that are not due yet";
    queues::purge_drops_what_waits_and_leaves_what_is_held:
        "`purge` drops the messages that wait and tells how many; those held stay";
    queues::purge_drops_what_is_not_due needs purges_delayed:
        "`purge` drops also the messages that are not due, where the broker says so";
    queues::a_queue_that_does_not_exist_is_empty:
        "`depth` and `purge` of a queue that does not exist are 0";
    queues::declaring_the_same_again_changes_nothing:
        "declaring a queue again as it is changes nothing";
    queues::declaring_a_queue_otherwise_is_refused:
        "declaring a queue with an option other than it has is a `Config` error naming the option";
    queues::bindings_add_up:
        "declaring a queue with other bindings adds them to those it has";
    queues::max_priority_without_the_capability_is_unsupported without max_priority:
        "`max_priority` is refused as `Unsupported`, by name, by a broker without it";
    queues::message_ttl_without_expiration_is_unsupported without expiration:
        "`message_ttl` is refused as `Unsupported`, by name, by a broker without expiration";
    queues::auto_delete_is_obeyed_or_refused:
        "a queue with `auto_delete` goes with its last consumer, or is refused as `Unsupported`, by name";
    queues::expires_is_known_or_refused:
        "a queue that `expires` stays at least so long, or is refused as `Unsupported`, by name";
    queues::an_unknown_argument_is_refused_by_name:
        "an entry of `arguments` that the broker does not know is a `Config` error naming it";

    // Routing.
    routing::an_unknown_exchange_is_not_found:
        "publishing to an exchange that was never declared is `NotFound`";
    routing::an_unroutable_key_is_not_found:
        "a routing key that no queue of a direct exchange is bound by is `NotFound`";
    routing::a_batch_that_cannot_be_routed_publishes_nothing_unseen:
        "if a batch fails, none, a first part or all that can be may be published";
    routing::a_direct_exchange_routes_by_its_keys:
        "a direct exchange routes to the queues bound by exactly the routing key";
    routing::a_fanout_exchange_copies_to_every_queue needs fanout:
        "a fanout exchange copies each message to every bound queue, and each copy is settled on its own";
    routing::a_fanout_exchange_without_a_match_takes_everything needs fanout:
        "a fanout exchange ignores the routing key";
    routing::an_exchange_of_another_kind_is_refused needs fanout:
        "an exchange that exists with another kind is a `Config` error";
    routing::a_topic_exchange_routes_by_patterns needs topic:
        "a topic exchange routes to the queues whose pattern matches, one copy each";
    routing::a_headers_exchange_routes_by_headers needs headers:
        "a headers exchange routes to the queues whose arguments match the headers: all of them, or with `x-match` any; one copy each";
    routing::fanout_without_the_capability_is_unsupported without fanout:
        "binding to a fanout exchange is `Unsupported` where the broker has none";
    routing::headers_without_the_capability_is_unsupported without headers:
        "binding to a headers exchange is `Unsupported` where the broker has none";
    routing::topic_without_the_capability_is_unsupported without topic:
        "binding to a topic exchange is `Unsupported` where the broker has none";
    routing::a_bound_queue_is_still_fed_by_its_name:
        "the default exchange feeds every queue by its name, whatever else it is bound to";

    // Completion.
    completion::a_completion_publishes_what_follows_and_acks:
        "a completion publishes what follows and acknowledges the message";
    completion::a_completion_that_cannot_be_done_hands_the_message_back:
        "a completion that fails acknowledges nothing: the message is delivered again";
    completion::a_failed_settlement_keeps_those_after_it:
        "a batch that fails in the middle reports, in order, what failed and what after it is not done, and none of that is done; all else is, once";
    completion::a_result_without_a_store_is_unsupported:
        "a completion with a result is `Unsupported` on a broker that stores none, and the message stays";
    completion::a_completion_stores_its_result:
        "a completion stores its result where the paired result backend reads it";
    completion::a_final_result_is_not_overwritten_by_a_completion:
        "a result that may not replace the one stored is passed over, and the rest of the completion is done";

    // Closing.
    closing::close_ends_a_pending_recv:
        "`close` ends a pending `recv` with `Unavailable`";
    closing::calls_after_close_are_unavailable:
        "every call after `close` fails with `Unavailable`";
    closing::closing_twice_does_nothing:
        "closing again does nothing";
    closing::held_deliveries_come_back_after_close:
        "what a closed broker's consumers held is delivered again, to another handle";
    closing::settling_after_close_is_passed_over:
        "settling after the close is passed over, whatever the verb, or `Unavailable`: message, result and follow-ups are not touched";
    closing::closing_one_handle_leaves_the_others:
        "closing a handle closes no other";
    closing::closing_the_broker_leaves_the_backend:
        "closing a broker does not close the result backend on its store";
    closing::messages_cross_from_one_handle_to_another:
        "what one handle publishes, a consumer waiting on another handle receives";
    closing::messages_survive_a_reopening needs durable:
        "published messages survive the broker's restart; what was acknowledged stays gone";
}
