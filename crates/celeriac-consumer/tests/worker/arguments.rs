//! Arguments that fit, and those that do not.

use celeriac_consumer::Tasks;
use celeriac_core::{Signature, Value};
use celeriac_producer::signature;

use crate::support::{Bench, failed, output};

task!(async Divide(_cx, a: i64, b: i64) -> i64 { Ok(a / b) });
task!(async Greets(_cx, name: String, title: Option<String>) -> String {
    Ok(title.map_or(name.clone(), |title| format!("{title} {name}")))
});
task!(async Nothing(_cx) -> () { Ok(()) });

fn divide() -> Signature {
    Signature::named("Divide")
}

fn tasks() -> Tasks {
    Tasks::new().with::<Divide>().with::<Greets>().with::<Nothing>()
}

#[tokio::test]
async fn arguments_come_by_position_and_by_name() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    for call in [divide().arg(6).arg(3), divide().arg(6).kwarg("b", 3), divide().kwarg("b", 3).kwarg("a", 6)] {
        assert_eq!(output(&bench.producer.send(call).await.unwrap()).await, Value::from(2));
    }
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_a_type_error_that_names_them() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    for (call, text) in [
        (divide().arg("six").arg(3), "Divide() argument 'a' is of the wrong type"),
        (divide().arg(6).kwarg("b", 1.5), "Divide() argument 'b' is of the wrong type"),
        (divide().arg(6), "Divide() missing required argument: 'b'"),
        (divide(), "Divide() missing required argument: 'a'"),
        (divide().arg(6).arg(3).arg(1), "Divide() takes 2 positional arguments but 3 were given"),
        (divide().arg(6).arg(3).kwarg("c", 1), "Divide() got an unexpected keyword argument 'c'"),
        (divide().arg(6).arg(3).kwarg("a", 1), "Divide() got multiple values for argument 'a'"),
        (Signature::named("Nothing").arg(1), "Nothing() takes 0 positional arguments but 1 were given"),
    ] {
        let (class, message) = failed(&bench.producer.send(call).await.unwrap()).await;
        assert_eq!(class, "builtins.TypeError");
        assert!(message.contains(text), "{message}");
    }
}

#[tokio::test]
async fn an_optional_argument_may_be_missing_or_null() {
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let greets = || Signature::named("Greets").arg("Curie");
    for (call, expected) in [
        (greets(), "Curie"),
        (greets().arg(Value::Null), "Curie"),
        (greets().kwarg("title", Value::Null), "Curie"),
        (greets().kwarg("title", "Dr"), "Dr Curie"),
    ] {
        assert_eq!(output(&bench.producer.send(call).await.unwrap()).await, Value::from(expected));
    }
}

#[tokio::test]
async fn a_task_that_is_not_registered_fails_by_its_name() {
    let bench = Bench::new();
    let worker = bench.start(tasks());
    let result = bench.producer.send(Signature::named("nope.nope")).await.unwrap();
    assert_eq!(failed(&result).await, ("celery.exceptions.NotRegistered".to_owned(), "nope.nope".to_owned()));
    worker.shut_down().await;
    assert_eq!(bench.depth().await, 0);
}

#[tokio::test]
async fn what_follows_a_task_is_not_lost_in_silence() {
    use celeriac_broker::{Broker as _, Destination, Outgoing};
    use celeriac_core::{Headers, Message, Properties, QueueName, TaskHeaders, TaskId, TaskName};
    let bench = Bench::new();
    let _worker = bench.start(tasks());
    let id = TaskId::random();
    let headers = TaskHeaders::new(TaskName::from_static("Divide"), id.clone());
    let body = r#"[[6, 3], {}, {"callbacks": [{"task": "Divide", "args": [1]}], "errbacks": null, "chain": null, "chord": null}]"#;
    let properties = Properties { content_type: Some(celeriac_core::ContentType::JSON), ..Properties::default() };
    let message = Message { headers: Headers::from(headers), properties, body: body.into() };
    bench.store.publish(vec![Outgoing::new(message, Destination::queue(&QueueName::DEFAULT))]).await.unwrap();
    let (class, text) = failed(&bench.producer.result::<i64>(id)).await;
    assert!(class == "celeriac.Unsupported" && text.contains("`Divide`"), "{class}: {text}");
}

#[tokio::test]
async fn types_are_read_straight_from_the_message() {
    task!(async Echo(_cx, number: u128, list: Vec<(u8, char)>, unit: ()) -> (u128, Vec<(u8, char)>) {
        let () = unit;
        Ok((number, list))
    });
    let bench = Bench::new();
    let _worker = bench.start(Tasks::new().with::<Echo>());
    let sent = (u128::MAX, vec![(1_u8, 'é'), (2, '☃')]);
    let result = bench.producer.send(signature::<Echo, _>((sent.0, sent.1.clone(), ()))).await.unwrap();
    assert_eq!(output(&result).await, sent);
}
