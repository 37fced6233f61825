//! What cannot be of a declared entry is told when the app is built, by entry and field.

use celeriac::broker::Broker as _;
use celeriac::memory::MemoryStore;
use celeriac::prelude::*;
use celeriac::{AppBuilder, ErrorKind, Priority};
use std::sync::Arc;

use crate::world::{World, mail, note, silent};

fn call() -> TypedSignature<()> {
    note::s("x".to_owned())
}

fn hourly(app: AppBuilder, call: Signature) -> AppBuilder {
    app.schedule("clean", every(1.hours()), call)
}

#[tokio::test]
async fn mistakes_are_told_by_entry_and_field() {
    let world = World::new();
    let named = |task: &str| Signature::new(task.parse().unwrap());
    let app = || world.app();
    let hourly = |call| hourly(app(), call);
    let cases = [
        (
            app().schedule("clean", crontab("61 * * * *"), call()),
            "entry `clean`: schedule: minute `61`: must be 0 to 59",
        ),
        (
            app().schedule("clean", every(1.hours()).tz("Europe/Berln"), call()),
            "entry `clean`: schedule: zone `Europe/Berln`: no such time zone; did you mean `Europe/Berlin`?",
        ),
        (app().schedule("clean", "hourly", call()), "entry `clean`: schedule: schedule `hourly`: must begin with"),
        (app().schedule("", every(1.hours()), call()), "entry ``: name: entry name `` is empty"),
        (app().schedule("x".repeat(300), every(1.hours()), call()), "x`: name: entry name `"),
        (
            app().schedule("clean", every(1.hours()), call()).schedule("clean", every(2.hours()), call()),
            "entry `clean`: name: two entries have it",
        ),
        (
            app().schedule_with("clean", every(1.hours()), call(), |entry| entry.jitter(2.days())),
            "entry `clean`: jitter: must be a day at most",
        ),
        (app().schedule("clean", every(1.hours()), call().queue("")), "entry `clean`: task: queue name `` is empty"),
        (hourly(named("shop.note").option("que", "x")), "entry `clean`: task: unknown option `que`"),
        (hourly(named("shop.note").option("priority", "high")), "entry `clean`: task: option `priority`"),
        (hourly(named("shop.note").option("serializer", "morse")), "entry `clean`: task: "),
        (hourly(named("shop.note").option("task_id", "one")), "entry `clean`: task: option `task_id`: each tick has"),
        (hourly(Signature::chain(vec![named("a"), named("b")])), "entry `clean`: task: `celery.chain` is a canvas"),
        (
            hourly(named("shop.ntoe")),
            "entry `clean`: task: `shop.ntoe` is no task of this app, whose own workers take from queue `celery` by its configuration (`queues`); did you mean `shop.note`?",
        ),
        (hourly(named("reports.yearly")), "whose own workers take from queue `celery`"),
        (hourly(named("reports.yearly").option("queue", "celery")), "entry `clean`: task: `reports.yearly` is no task"),
        (
            app().route("reports.*", "reports").default_queue("reports").schedule(
                "clean",
                every(1.hours()),
                named("reports.yearly"),
            ),
            "workers take from queue `reports`",
        ),
        (
            app().default_queue("mail").schedule("clean", every(1.hours()), mail::s("a".to_owned(), "b".to_owned())),
            "entry `clean`: task: `shop.mail` is no task of this app, whose own workers take from queue `mail`",
        ),
        (
            app().schedule_with("clean", every(1.hours()), silent::s(), |entry| entry.no_overlap(1.hours())),
            "entry `clean`: no_overlap: the task ignores its result",
        ),
        (
            app().schedule_with("clean", every(1.hours()), named("shop.silent"), |entry| entry.no_overlap(1.hours())),
            "entry `clean`: no_overlap: the task ignores its result",
        ),
    ];
    for (app, told) in cases {
        let error = app.build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.message().contains(told), "{error}\nis not: {told}");
        assert!(error.message().starts_with("entry `"), "{error}");
    }
}

#[tokio::test]
async fn no_overlap_takes_a_result_backend() {
    let broker = Arc::new(MemoryStore::new());
    let app = App::builder("shop").read_env(false).broker(broker.clone()).schedule_store(broker);
    let app = app.schedule_with("clean", every(1.hours()), call(), |entry| entry.no_overlap(1.hours()));
    let error = app.build().await.unwrap_err();
    assert!(error.message().starts_with("entry `clean`: no_overlap: there is no result backend"), "{error}");
}

#[tokio::test]
async fn tasks_of_other_workers_may_be_scheduled_by_name() {
    let world = World::new();
    let python = || Signature::named("reports.yearly");
    let apps = [
        world.app().schedule("a", every(1.hours()), python().option("queue", "python")),
        world.app().route("reports.*", "python").schedule("a", every(1.hours()), python()),
        world.app_of("shop").schedule("a", every(1.hours()), python()),
        world.app().schedule("a", every(1.hours()), mail::s("a".to_owned(), "b".to_owned()).priority(Priority(3))),
        world.app().schedule_with("a", every(1.hours()), silent::s().ignore_result(false), |entry| {
            entry.no_overlap(1.hours())
        }),
    ];
    for app in apps {
        let app = app.build().await.unwrap();
        assert_eq!(app.broker().depth(&celeriac::QueueName::DEFAULT).await.unwrap(), 0, "building sends nothing");
    }
    assert_eq!(world.store.depth(&celeriac::QueueName::DEFAULT).await.unwrap(), 0);
}
