//! What is due is sent, as Celery's beat sends it, and run.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use celeriac::broker::{Broker as _, ConsumeOptions};
use celeriac::prelude::*;
use celeriac::{QueueName, TaskState, Timestamp, Value};

use crate::world::{Beating, Working, World, mail, name, note, pass, slow};

#[tokio::test(start_paused = true)]
async fn a_worker_runs_each_tick_of_a_beat_once() {
    let world = World::new();
    let app = world
        .app()
        .schedule("often", every(10.minutes()), note::s("often".to_owned()))
        .schedule("daily", crontab("30 1 * * *").tz("Europe/Berlin"), note::s("daily".to_owned()))
        .schedule("by-text", "every 20m", Signature::named("shop.note").kwarg("what", "text"));
    let app = app.build().await.unwrap();
    let (working, beating) = (Working::start(&app), Beating::start(&app));
    pass(65.minutes()).await;
    let runs = world.runs();
    let of = |what| runs.iter().filter(move |run| run.what == what).map(|run| run.at.as_str()).collect::<Vec<_>>();
    assert_eq!(of("often"), ["00:10:00", "00:20:00", "00:30:00", "00:40:00", "00:50:00", "01:00:00"]);
    assert_eq!(of("daily"), ["00:30:00"]);
    assert_eq!(of("text"), ["00:20:00", "00:40:00", "01:00:00"]);
    assert_eq!(runs.iter().map(|run| &run.id).collect::<HashSet<_>>().len(), runs.len());
    assert!(runs.iter().all(|run| run.by_beat));
    let known = app.schedule().unwrap().get(&name("often")).await.unwrap().unwrap();
    assert_eq!((known.count, known.entry.owner.as_deref()), (6, Some("shop")));
    assert_eq!(app.result::<()>(known.last_task.unwrap()).state().await.unwrap(), TaskState::Success);
    beating.stop().await;
    working.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tick_bears_the_options_of_task_call_and_route_and_expires_from_its_sending_on() {
    let world = World::new();
    let app = world
        .app_of("shop")
        .route("other.*", "others")
        .schedule("mail", every(30.minutes()), mail::s("a@b".to_owned(), "hi".to_owned()).priority(9))
        .schedule("other", every(30.minutes()), Signature::named("other.task").arg(1).option("expires", 90))
        .build()
        .await
        .unwrap();
    let beating = Beating::start(&app);
    pass(31.minutes()).await;
    beating.stop().await;
    let queues = ["mail", "others"].map(QueueName::from_static);
    let mut consumer = world.store.consume(ConsumeOptions::new(queues)).await.unwrap();
    let mut deliveries = Vec::new();
    while deliveries.len() < 2 {
        deliveries.extend(consumer.recv(NonZeroUsize::MIN).await.unwrap());
    }
    deliveries.sort_by_key(|delivery| delivery.queue.to_string());
    let mut expiries = Vec::new();
    for delivery in deliveries {
        let priority = delivery.message.properties.priority;
        let headers = delivery.message.headers.clone().into_task().unwrap();
        assert_eq!(headers.root_id.as_ref(), Some(&headers.id));
        assert_eq!(headers.extra.get("celery_beat_task"), Some(&Value::from(true)));
        let expires: Timestamp = headers.expires.as_ref().unwrap().as_str().parse().unwrap();
        expiries.push((headers.task.to_string(), priority.unwrap().0, expires.to_string()[11..19].to_owned()));
        delivery.ack().await.unwrap();
    }
    let expected = [("shop.mail", 9, "00:40:00"), ("other.task", 0, "00:31:30")];
    assert_eq!(expiries, expected.map(|(task, priority, at)| (task.to_owned(), priority, at.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_nobody_ran_in_time_is_revoked() {
    let world = World::new();
    let call = note::s("late".to_owned()).expires(5.minutes());
    let app = world.app().schedule("often", every(20.minutes()), call).build().await.unwrap();
    let beating = Beating::start(&app);
    pass(26.minutes()).await;
    let first = app.schedule().unwrap().get(&name("often")).await.unwrap().unwrap().last_task.unwrap();
    let working = Working::start(&app);
    pass(15.minutes()).await;
    assert_eq!(app.result::<()>(first).state().await.unwrap(), TaskState::Revoked);
    assert_eq!(world.times("late"), ["00:40:00"]);
    beating.stop().await;
    working.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tick_is_skipped_while_the_task_of_the_one_before_runs() {
    let world = World::new();
    let app = world
        .app()
        .schedule_with("slow", every(10.minutes()), slow::s("slow".to_owned()), |entry| entry.no_overlap(1.days()));
    let app = app.build().await.unwrap();
    let (working, beating) = (Working::start(&app), Beating::start(&app));
    pass(95.minutes()).await;
    assert_eq!(world.times("slow"), ["00:10:00", "00:40:00", "01:10:00"]);
    beating.stop().await;
    working.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_without_a_record_is_unfinished_until_the_limit_is_over() {
    let world = World::new();
    let lost = Signature::named("python.task").option("queue", "python");
    let app = world
        .app()
        .schedule_with("lost", every(10.minutes()), lost, |entry| entry.no_overlap(25.minutes()))
        .build()
        .await
        .unwrap();
    let beating = Beating::start(&app);
    pass(65.minutes()).await;
    let known = app.schedule().unwrap().get(&name("lost")).await.unwrap().unwrap();
    assert_eq!(known.count, 2, "at 10 and 40 minutes");
    beating.stop().await;
}
