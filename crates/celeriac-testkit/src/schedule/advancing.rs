//! Steps: each is taken once, by the newest leader.

use std::sync::Arc;
use std::time::Duration;

use celeriac_broker::{ConsumeOptions, Outgoing, QueueSpec};
use celeriac_core::{EntryName, ErrorKind, ExchangeName, Message, QueueName, RoutingKey};
use celeriac_schedule::{Advance, Changes, Condition, Lead, Put, Revision, ScheduleStore, Step, Stepped, Term};
use tokio::time::timeout;

use super::kit::{ScheduleKit, limit, name, state, step};

fn message(queue: &QueueName) -> Outgoing {
    Outgoing::new(Message { body: "tick".into(), ..Message::default() }, queue)
}

async fn is_fenced(store: &Arc<dyn ScheduleStore>, term: Term, steps: Vec<Step>) -> bool {
    matches!(store.advance(term, steps).await.expect("an open store answers"), Advance::Fenced)
}

pub(super) async fn a_step_leaves_its_state(kit: &ScheduleKit) {
    let name = name("entry");
    kit.put(&name, "definition").await;
    let term = kit.lead("me").await;
    for (count, text) in (1..).zip(["", "one", "\u{1f331}\0\u{7f}"]) {
        assert!(kit.advances(term, step(&kit.get(&name).await, text)).await, "a step is taken");
        let entry = kit.get(&name).await;
        assert_eq!((state(&entry).as_deref(), entry.steps), (Some(text), count), "the state is as the step left it");
        assert_eq!(entry.definition, "definition", "the definition stays");
    }
    let outcomes = kit.advance(term, Vec::new()).await;
    assert!(outcomes.is_empty(), "no steps are no error");
}

pub(super) async fn a_state_of_any_bytes_comes_back(kit: &ScheduleKit) {
    let name = name("entry");
    let revision = kit.put(&name, "definition").await;
    let term = kit.lead("me").await;
    let every: Vec<u8> = (0..=u8::MAX).collect();
    for (count, bytes) in (0..).zip([Vec::new(), every.clone(), every.repeat(4096)]) {
        assert!(kit.advances(term, Step::new(name.clone(), revision, count, bytes.clone())).await, "a step is taken");
        let state = kit.get(&name).await.state.expect("there is a state");
        assert_eq!(state.len(), bytes.len(), "the state keeps its length");
        assert!(state == bytes, "the state keeps every byte");
    }
}

pub(super) async fn numbers_that_were_never_given_fit_nothing(kit: &ScheduleKit) {
    let name = name("entry");
    let revision = kit.put(&name, "definition").await;
    let term = kit.lead("me").await;
    // The second is the least that a float cannot tell from the one before.
    for number in [u64::MAX, (1 << 53) + 1, i64::MAX as u64, i64::MAX as u64 + 1] {
        let put = kit.put_if(&name, "other", Condition::At(Revision(number))).await;
        assert_eq!(put, Put::Unmet(Some(revision)), "{number} as a revision");
        let changes = kit.store.changes(Revision(number), limit(10)).await.expect("an open store tells changes");
        assert_eq!(changes, Changes::Unknown { until: revision }, "what comes after {number}");
        kit.store.resign(Term(number)).await.expect("resigning another term is no error");
        assert!(is_fenced(&kit.store, Term(number), Vec::new()).await, "{number} as a term");
        let steps = vec![
            Step::new(name.clone(), revision, number, "state"),
            Step::new(name.clone(), Revision(number), 0, "state"),
        ];
        let outcomes = kit.advance(term, steps).await;
        assert!(matches!(outcomes[..], [Stepped::Stale, Stepped::Stale]), "{number} in a step: {outcomes:?}");
    }
}

pub(super) async fn a_change_of_the_definition_leaves_the_state(kit: &ScheduleKit) {
    let name = name("entry");
    kit.put(&name, "1").await;
    let term = kit.lead("me").await;
    assert!(kit.advances(term, step(&kit.get(&name).await, "state")).await);
    kit.put(&name, "2").await;
    let entry = kit.get(&name).await;
    assert_eq!((state(&entry).as_deref(), entry.steps), (Some("state"), 1));
    assert!(kit.advances(term, step(&entry, "next")).await, "it goes on from there");
}

pub(super) async fn a_step_is_taken_once(kit: &ScheduleKit) {
    let name = name("entry");
    kit.put(&name, "definition").await;
    let term = kit.lead("me").await;
    let first = step(&kit.get(&name).await, "first");
    assert!(kit.advances(term, first.clone()).await);
    assert!(!kit.advances(term, first.clone()).await, "it was taken before");
    let second = step(&kit.get(&name).await, "second");
    let outcomes = kit.advance(term, vec![first, second.clone(), second]).await;
    assert!(matches!(outcomes[..], [Stepped::Stale, Stepped::Done, Stepped::Stale]), "{outcomes:?}");
    let entry = kit.get(&name).await;
    assert_eq!((state(&entry).as_deref(), entry.steps), (Some("second"), 2));
}

pub(super) async fn a_step_from_an_older_definition_is_stale(kit: &ScheduleKit) {
    let names = ["changed", "removed", "back", "stays"].map(name);
    for name in &names {
        kit.put(name, "1").await;
    }
    let term = kit.lead("me").await;
    let mut steps = Vec::new();
    for name in &names {
        steps.push(step(&kit.get(name).await, "state"));
    }
    steps.push(Step::new(name("never"), Revision(1), 0, "state"));
    let [changed, removed, back, _] = &names;
    kit.put(changed, "2").await;
    kit.remove(removed).await;
    kit.remove(back).await;
    kit.put(back, "1").await;
    let outcomes = kit.advance(term, steps).await;
    let expected =
        matches!(outcomes[..], [Stepped::Stale, Stepped::Stale, Stepped::Stale, Stepped::Done, Stepped::Stale]);
    assert!(expected, "{outcomes:?}");
    assert_eq!(kit.find(removed).await, None, "a step brings nothing back");
    for (name, expected) in [(changed, None), (back, None), (&names[3], Some("state"))] {
        assert_eq!(state(&kit.get(name).await).as_deref(), expected, "the state of `{name}`");
    }
}

pub(super) async fn a_former_leader_is_fenced(kit: &ScheduleKit) {
    let name = name("entry");
    kit.put(&name, "definition").await;
    let one = step(&kit.get(&name).await, "state");
    assert!(is_fenced(&kit.store, Term(1), vec![one.clone()]).await, "nobody leads");
    let Lead::Leading(former) = kit.try_lead("former", Duration::from_millis(300)).await else {
        panic!("nobody leads")
    };
    kit.pass(Duration::from_millis(400)).await;
    let term = kit.lead("present").await;
    assert!(is_fenced(&kit.store, former, vec![one.clone()]).await, "another leads");
    assert!(is_fenced(&kit.store, former, Vec::new()).await, "also without steps");
    assert!(is_fenced(&kit.store, Term(term.0 + 1), vec![one.clone()]).await, "a term that nobody was given");
    assert_eq!(kit.get(&name).await.state, None, "nothing was done");
    assert!(kit.advances(term, one).await, "the present leader goes on");
    kit.store.resign(term).await.expect("an open store lets go");
    let next = step(&kit.get(&name).await, "late");
    assert!(is_fenced(&kit.store, term, vec![next]).await, "who resigned does not lead");
    assert_eq!(state(&kit.get(&name).await).as_deref(), Some("state"));
}

pub(super) async fn an_ended_lease_is_no_hindrance(kit: &ScheduleKit) {
    let name = name("entry");
    kit.put(&name, "definition").await;
    let lease = Duration::from_millis(100);
    let Lead::Leading(term) = kit.try_lead("me", lease).await else { panic!("nobody leads") };
    kit.pass(lease * 2).await;
    assert!(kit.advances(term, step(&kit.get(&name).await, "state")).await, "nobody else leads");
}

pub(super) async fn of_two_leaders_steps_each_is_taken_once(kit: &ScheduleKit) {
    const STEPS: u64 = 50;
    let name = name("entry");
    let revision = kit.put(&name, "definition").await;
    let term = kit.lead("me").await;
    // As one that does not know of the other: both take the same steps.
    let leaders: Vec<_> = (0..2)
        .map(|_| {
            let (store, name) = (Arc::clone(&kit.store), name.clone());
            tokio::spawn(async move {
                let mut taken = 0;
                for number in 0..STEPS {
                    let step = Step::new(name.clone(), revision, number, number.to_string());
                    match store.advance(term, vec![step]).await.expect("an open store takes steps") {
                        Advance::Stepped(outcomes) => {
                            taken += outcomes.iter().filter(|one| matches!(one, Stepped::Done)).count();
                        }
                        Advance::Fenced => panic!("the term is the newest"),
                    }
                }
                taken
            })
        })
        .collect();
    let mut taken = 0;
    for leader in leaders {
        taken += leader.await.expect("taking steps does not panic");
    }
    let entry = kit.get(&name).await;
    assert_eq!((taken as u64, entry.steps), (STEPS, STEPS), "each step is taken once");
    assert_eq!(state(&entry), Some((STEPS - 1).to_string()));
}

pub(super) async fn a_batch_of_many_is_taken(kit: &ScheduleKit) {
    let names: Vec<EntryName> = (0..250).map(|number| name(format!("entry-{number}"))).collect();
    let mut steps = Vec::new();
    for name in &names {
        let revision = kit.put(name, "definition").await;
        steps.extend((0..4).map(|count| Step::new(name.clone(), revision, count, format!("{name} {count}"))));
    }
    let term = kit.lead("me").await;
    let outcomes = kit.advance(term, steps).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Stepped::Done)), "all are taken, in order");
    for name in &names {
        assert_eq!(state(&kit.get(name).await), Some(format!("{name} 3")), "the last state stays");
    }
}

pub(super) async fn publishing_without_the_capability_is_unsupported(kit: &ScheduleKit) {
    assert_eq!(kit.store.store_id(), None, "there is nothing to publish to");
    let name = name("entry");
    kit.put(&name, "definition").await;
    let term = kit.lead("me").await;
    let one = step(&kit.get(&name).await, "state").publishing(vec![message(&QueueName::DEFAULT)]);
    let error = kit.store.advance(term, vec![one]).await.expect_err("the store cannot publish");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

pub(super) async fn messages_are_published_with_their_step(kit: &ScheduleKit) {
    let Some(broker) = kit.broker().await else { return };
    assert!(kit.store.store_id().is_some() && kit.store.store_id() == broker.store_id(), "they are one store");
    let queue = QueueName::new(crate::unique("ticks")).expect("a valid name");
    let waiting = async || broker.depth(&queue).await.expect("an open broker counts");
    let name = name("entry");
    kit.put(&name, "definition").await;
    let former = kit.lead("former").await;
    kit.store.resign(former).await.expect("an open store lets go");
    let term = kit.lead("present").await;
    let one = step(&kit.get(&name).await, "state").publishing(vec![message(&queue), message(&queue)]);
    assert!(is_fenced(&kit.store, former, vec![one.clone()]).await);
    assert_eq!(waiting().await, 0, "a fenced leader publishes nothing");
    assert!(kit.advances(term, one.clone()).await);
    assert_eq!(waiting().await, 2, "the messages are published with the step");
    assert!(!kit.advances(term, one).await);
    assert_eq!(waiting().await, 2, "a stale step publishes nothing");
    broker.purge(&queue).await.expect("an open broker purges");
}

pub(super) async fn who_waits_for_messages_gets_those_of_steps_in_order(kit: &ScheduleKit) {
    let Some(broker) = kit.broker().await else { return };
    let queue = QueueName::new(crate::unique("ticks")).expect("a valid name");
    broker.declare(&QueueSpec::direct(queue.clone())).await.expect("an open broker declares");
    let mut consumer =
        broker.consume(ConsumeOptions::new([queue.clone()])).await.expect("an open broker has consumers");
    let waiting = tokio::spawn(async move {
        let mut came = Vec::new();
        while came.len() < 6 {
            for delivery in consumer.recv(limit(10)).await.expect("an open broker delivers") {
                came.push(String::from_utf8_lossy(&delivery.message.body).into_owned());
                delivery.ack().await.expect("an open broker takes acknowledgements");
            }
        }
        came
    });
    let names = ["one", "other"].map(name);
    let term = kit.lead("me").await;
    let mut steps = Vec::new();
    for name in &names {
        kit.put(name, "definition").await;
        let bodies = (1..=3).map(|number| format!("{name} {number}"));
        let messages = bodies.map(|body| Message { body: body.into(), ..Message::default() });
        let messages = messages.map(|message| Outgoing::new(message, &queue)).collect();
        steps.push(step(&kit.get(name).await, "state").publishing(messages));
    }
    // So that the consumer waits, most likely; one that comes later has to get them too.
    tokio::time::sleep(kit.quiet() / 2).await; // wait: that another task waits cannot be seen
    let outcomes = kit.advance(term, steps).await;
    assert!(matches!(outcomes[..], [Stepped::Done, Stepped::Done]), "{outcomes:?}");
    let came = timeout(kit.patience(), waiting).await.expect("who waits is woken by a step");
    let came = came.expect("receiving does not panic");
    assert_eq!(came, ["one 1", "one 2", "one 3", "other 1", "other 2", "other 3"], "in the order of the steps");
}

pub(super) async fn a_batch_that_publishes_is_taken_in_order(kit: &ScheduleKit) {
    const STEPS: u64 = 300;
    let Some(broker) = kit.broker().await else { return };
    let queue = QueueName::new(crate::unique("ticks")).expect("a valid name");
    let name = name("entry");
    let revision = kit.put(&name, "definition").await;
    let term = kit.lead("me").await;
    let steps: Vec<Step> = (0..STEPS)
        .map(|count| {
            let tick = Message { body: count.to_string().into(), ..Message::default() };
            Step::new(name.clone(), revision, count, "state").publishing(vec![Outgoing::new(tick, &queue)])
        })
        .collect();
    for expected in ["taken", "stale"] {
        let outcomes = kit.advance(term, steps.clone()).await;
        let taken = outcomes.iter().filter(|outcome| matches!(outcome, Stepped::Done)).count();
        assert_eq!(taken as u64, if expected == "taken" { STEPS } else { 0 }, "all are {expected}");
        assert_eq!(broker.depth(&queue).await.expect("an open broker counts"), STEPS, "one message for each");
    }
    let options = ConsumeOptions::new([queue.clone()]);
    let mut consumer = broker.consume(options).await.expect("an open broker consumes");
    let mut bodies = Vec::new();
    while (bodies.len() as u64) < STEPS {
        let received = timeout(kit.patience(), consumer.recv(limit(100))).await.expect("they are there");
        for delivery in received.expect("an open broker receives") {
            bodies.push(String::from_utf8_lossy(&delivery.message.body).into_owned());
            delivery.ack().await.expect("an open broker acknowledges");
        }
    }
    assert!(bodies.iter().eq(&(0..STEPS).map(|count| count.to_string()).collect::<Vec<_>>()), "{bodies:?}");
    consumer.cancel().await.expect("an open broker cancels");
}

pub(super) async fn a_step_that_cannot_be_published_is_refused(kit: &ScheduleKit) {
    let Some(broker) = kit.broker().await else { return };
    let queue = QueueName::new(crate::unique("ticks")).expect("a valid name");
    let names = ["before", "bad", "after"].map(name);
    let term = kit.lead("me").await;
    let mut steps = Vec::new();
    for name in &names {
        kit.put(name, "definition").await;
        let mut messages = vec![message(&queue)];
        if *name == "bad" {
            let mut lost = message(&queue);
            lost.destination.exchange = ExchangeName::new(crate::unique("nowhere")).expect("a valid name");
            lost.destination.routing_key = RoutingKey::from(&queue);
            messages.push(lost);
        }
        steps.push(step(&kit.get(name).await, "state").publishing(messages));
    }
    let outcomes = kit.advance(term, steps).await;
    let [Stepped::Done, Stepped::Refused(error), Stepped::Done] = &outcomes[..] else {
        panic!("one is refused, the others are taken: {outcomes:?}")
    };
    assert_eq!(error.kind(), ErrorKind::NotFound, "why is said as a broker says it: {error}");
    let entry = kit.get(&names[1]).await;
    assert_eq!((entry.state, entry.steps), (None, 0), "a refused step leaves no state");
    assert_eq!(broker.depth(&queue).await.expect("an open broker counts"), 2, "and publishes none of its messages");
    broker.purge(&queue).await.expect("an open broker purges");
}
