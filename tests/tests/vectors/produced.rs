//! What our producer sends for a call, beside what Python sent for the same call.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use celeriac::{App, System, once};
use celeriac_broker::{Broker as _, ConsumeOptions};
use celeriac_core::{EntryName, Error, QueueName, Signature, Timestamp, Value};
use celeriac_memory::MemoryStore;
use celeriac_producer::Producer;
use celeriac_serializer::{Body, Json, SerializerExt as _, Serializers};
use celeriac_testkit::ManualClock;
use serde_json::{Value as Case, json};

use crate::captured::{Captured, assert_same, json_map};

/// The captured call again, without its options: the same task with the same arguments.
fn call(captured: &Captured) -> Signature {
    let formats = Serializers::new().accept(["json", "msgpack", "yaml"]).unwrap();
    let format = formats.for_content_type(captured.message.properties.content_type.as_deref()).unwrap();
    let plain = captured.plain_body();
    let body = Body::split(format.as_ref(), &plain).unwrap();
    let mut signature = Signature::new(captured.headers["task"].as_str().unwrap().parse().unwrap());
    signature.args = body.args.iter().map(|arg| format.decode_value(arg).unwrap()).collect();
    signature.kwargs =
        body.kwargs.iter().map(|(name, value)| (name.as_ref(), format.decode_value(value).unwrap())).collect();
    signature
}

/// Sends `call` at the instant `now`; the message as a worker gets it.
async fn send(call: Signature, now: Timestamp) -> Result<Captured, Error> {
    let queue = call.options.get("queue").and_then(Value::as_str).unwrap_or("celery").to_owned();
    // The broker's clock is ahead, so that nothing waits in it for its time.
    let store = MemoryStore::with_clock(Arc::new(ManualClock::at("2031-01-01T00:00:00+00:00".parse()?)));
    let clock = Arc::new(ManualClock::at(now));
    let producer = Producer::builder(Arc::new(store.clone())).backend(Arc::new(store.clone())).clock(clock).build()?;
    producer.send(call).await?;
    receive(&store, queue).await
}

/// As [`send`], by the beat of an app that declares `call` for that instant.
async fn send_by_beat(call: Signature, now: Timestamp) -> Result<Captured, Error> {
    let (store, clock) = (MemoryStore::new(), ManualClock::at(now - Duration::from_secs(1)));
    let handle = store.clone();
    let app = App::builder("wire")
        .read_env(false)
        .clock(Arc::new(clock.clone()))
        .scheme("here", move |_| {
            let store = Arc::new(handle.clone());
            async { Ok(System::new().broker(store.clone()).backend(store.clone()).schedule(store)) }
        })
        .broker_url("here://")
        .schedule("once", once(now), call);
    let app = app.build().await?;
    let beat = app.beat().build()?;
    let stop = beat.handle();
    let beating = tokio::spawn(beat.run());
    while app.schedule()?.get(&EntryName::from_static("once")).await?.is_none() {
        tokio::task::yield_now().await;
    }
    clock.set(now);
    stop.wake();
    let message = receive(&store, "celery".to_owned()).await?;
    stop.stop();
    beating.await.unwrap()?;
    Ok(message)
}

async fn receive(store: &MemoryStore, queue: String) -> Result<Captured, Error> {
    let mut consumer = store.consume(ConsumeOptions::new([QueueName::new(queue)?])).await?;
    let delivery = consumer.recv(NonZeroUsize::MIN).await?.remove(0);
    assert_eq!((delivery.exchange.as_str(), &*delivery.routing_key), ("", delivery.queue.as_str()));
    let message = delivery.message.clone();
    delivery.ack().await?;
    Ok(Captured {
        name: "ours".to_owned(),
        headers: serde_json::from_slice(&Json.to_bytes(&message.headers)?).unwrap(),
        properties: json_map(&message.properties.to_map()),
        body: Case::Null,
        message,
    })
}

/// The bytes without the space between JSON's tokens: Python puts some there, we do not.
fn compact(json: &[u8]) -> String {
    let (mut text, mut escaped) = (false, false);
    let kept = json.iter().filter(|byte| {
        let inside = text;
        if !escaped && **byte == b'"' {
            text = !text;
        }
        escaped = inside && !escaped && **byte == b'\\';
        inside || **byte != b' '
    });
    String::from_utf8(kept.copied().collect()).unwrap()
}

async fn compare(file: &str, name: &str, options: &[(&str, Value)]) {
    compare_sent(file, name, options, send).await;
}

/// Compares one call, field by field. What may differ is listed here, and only here.
async fn compare_sent(
    file: &str,
    name: &str,
    options: &[(&str, Value)],
    send: impl AsyncFn(Signature, Timestamp) -> Result<Captured, Error>,
) {
    let mut captured = Captured::named(file, name);
    let mut call = call(&captured);
    let is_one = call.args.len() == 1;
    let seconds = |option: &str| {
        let found = options.iter().find(|(name, _)| *name == option);
        found.and_then(|(_, value)| value.as_f64()).map(Duration::from_secs_f64)
    };
    // Our clock stands where Python's stood, so that the times must be equal to the microsecond.
    let at = |header: &str, after: Duration| {
        captured.headers[header].as_str().unwrap().parse::<Timestamp>().unwrap() - after
    };
    let now = match (seconds("countdown").filter(|wait| !wait.is_zero()), seconds("expires")) {
        (Some(countdown), _) => at("eta", countdown),
        (None, Some(expires)) => at("expires", expires),
        (None, None) => Timestamp::from_micros(1_795_330_574_000_000),
    };
    call.options = options.iter().cloned().collect();
    let mut ours = send(call, now).await.unwrap_or_else(|error| panic!("{name}: {error}"));

    // The body: the same bytes.
    if captured.message.properties.content_type.as_deref() == Some("application/json") {
        let plain = captured.plain_body();
        if plain.is_ascii() && !plain.contains(&b'\\') {
            assert_eq!(compact(&ours.plain_body()), compact(&plain), "{name}");
        }
    }
    let formats = Serializers::new();
    let format = formats.by_name(captured.message.properties.content_type.as_deref().unwrap()).unwrap();
    assert_eq!(
        format.decode_value(&ours.plain_body()).unwrap(),
        format.decode_value(&captured.plain_body()).unwrap(),
        "{name}"
    );

    // The sender says what it is.
    assert_eq!((ours.headers["lang"].take(), captured.headers["lang"].take()), (json!("rs"), json!("py")));
    let origin = |message: &mut Captured| message.headers["origin"].take().as_str().unwrap().to_owned();
    for origin in [origin(&mut ours), origin(&mut captured)] {
        let (pid, host) = origin.strip_prefix("gen").and_then(|rest| rest.split_once('@')).unwrap();
        assert!(pid.parse::<u32>().is_ok() && !host.is_empty(), "{name}: {origin}");
    }
    // Each call has an id of its own; root and correlation repeat it.
    for message in [&mut ours, &mut captured] {
        let id = message.headers["id"].clone();
        assert_eq!((&message.headers["root_id"], &message.properties["correlation_id"]), (&id, &id), "{name}");
        assert!(
            options.iter().any(|(option, value)| *option == "task_id" && id == value.as_str().unwrap())
                || id.as_str().unwrap().len() == 36
        );
        for field in ["id", "root_id"] {
            message.headers[field].take();
        }
        message.properties["correlation_id"].take();
        // Any text that is unique to the sender.
        assert_eq!(message.properties["reply_to"].take().as_str().map(str::len), Some(36), "{name}");
    }
    // Python writes its task's own default; we leave it to the worker's task unless the call says something.
    if !options.iter().any(|(option, _)| *option == "ignore_result") {
        assert_eq!(ours.headers["ignore_result"], Case::Null, "{name}");
        captured.headers["ignore_result"].take();
    }
    // On purpose: with it a broker drops an expired task in silence, where the worker stores that it was revoked.
    assert_eq!(ours.properties.get("expiration"), None, "{name}");
    captured.properties.as_object_mut().unwrap().remove("expiration");
    // Python leaves the priority out if the call names a queue; absent means 0.
    captured.properties.as_object_mut().unwrap().entry("priority").or_insert(json!(0));
    // Redis puts its own into the properties.
    for field in ["delivery_info", "delivery_tag", "body_encoding"] {
        captured.properties.as_object_mut().unwrap().remove(field);
    }
    // A list given by name is shown as a list, though it is sent as any arguments are.
    if let Some(list) = captured.headers["argsrepr"].as_str().and_then(|repr| repr.strip_prefix('[')?.strip_suffix(']'))
    {
        let comma = if is_one { "," } else { "" };
        captured.headers["argsrepr"] = json!(format!("({list}{comma})"));
    }

    assert_same(&ours.headers, &captured.headers, name);
    assert_same(&ours.properties, &captured.properties, name);
}

#[tokio::test]
async fn calls_without_options_are_sent_as_python_sends_them() {
    for name in
        ["basic_args", "basic_kwargs", "args_and_kwargs_unicode", "no_args", "send_task_by_name", "immutable_signature"]
    {
        compare("amqp_task_messages", name, &[]).await;
    }
    compare("redis_envelopes", "basic_args", &[]).await;
    compare("redis_envelopes", "unicode", &[]).await;
}

#[tokio::test]
async fn options_are_sent_as_python_sends_them() {
    let headers = |name: &str, keys: &[&str]| {
        let extra = Captured::named("amqp_task_messages", name).message.task().unwrap().extra.clone();
        Value::Map(extra.into_iter().filter(|(key, _)| keys.is_empty() || keys.contains(&key.as_str())).collect())
    };
    for (name, options) in [
        ("task_id_explicit", vec![("task_id", Value::from("my-own-id-1"))]),
        ("countdown_zero", vec![("countdown", Value::from(0))]),
        ("eta_aware_utc", vec![("eta", Value::from("2030-01-02T03:04:05.678901+00:00"))]),
        ("expires_seconds", vec![("expires", Value::from(60))]),
        ("expires_float", vec![("expires", Value::from(1.5))]),
        ("expires_datetime_aware", vec![("expires", Value::from("2026-11-22T07:56:14+00:00"))]),
        ("expires_past", vec![("expires", Value::from("2020-01-02T00:00:00+00:00"))]),
        ("priority_0", vec![("priority", Value::from(0))]),
        ("priority_5", vec![("priority", Value::from(5))]),
        ("priority_9", vec![("priority", Value::from(9))]),
        ("queue_other", vec![("queue", Value::from("other"))]),
        ("shadow", vec![("shadow", Value::from("shown-name"))]),
        ("ignore_result_call", vec![("ignore_result", Value::from(true))]),
        ("ignore_result_task", vec![("ignore_result", Value::from(true))]),
        ("custom_headers", vec![("headers", headers("custom_headers", &[]))]),
        ("custom_headers_types", vec![("headers", headers("custom_headers_types", &[]))]),
        ("header_overrides_builtin", vec![("headers", Value::Map([("shadow", "viaheader")].into_iter().collect()))]),
    ] {
        compare("amqp_task_messages", name, &options).await;
    }
}

#[tokio::test]
async fn a_beat_sends_what_celerys_beat_sends() {
    let mine = Value::Map([("mine", "v")].into_iter().collect());
    let registered = ("ignore_result", Value::from(false));
    for (name, options) in [
        ("beat_amqp:remote.job:plain", vec![]),
        ("beat_amqp:wire.add:plain", vec![registered.clone()]),
        (
            "beat_amqp:wire.add:options",
            vec![registered, ("expires", Value::from(15.0)), ("priority", Value::from(4)), ("headers", mine)],
        ),
    ] {
        compare_sent("beat", name, &options, send_by_beat).await;
    }
}

#[tokio::test]
async fn delays_are_sent_as_python_sends_them() {
    for (file, name, options) in [
        ("amqp_task_messages", "countdown_10", vec![("countdown", Value::from(10))]),
        ("amqp_task_messages", "countdown_fraction", vec![("countdown", Value::from(0.25))]),
        (
            "amqp_task_messages",
            "countdown_and_expires",
            vec![("countdown", Value::from(5)), ("expires", Value::from(20))],
        ),
        ("redis_envelopes", "countdown", vec![("countdown", Value::from(10))]),
    ] {
        compare(file, name, &options).await;
    }
}

#[tokio::test]
async fn other_formats_are_sent_as_python_sends_them() {
    for (name, options) in [
        ("serializer_msgpack", vec![("serializer", Value::from("msgpack"))]),
        ("serializer_yaml", vec![("serializer", Value::from("yaml"))]),
        ("compression_gzip", vec![("compression", Value::from("gzip"))]),
        (
            "compression_zstd_msgpack",
            vec![("serializer", Value::from("msgpack")), ("compression", Value::from("zstd"))],
        ),
    ] {
        compare("redis_envelopes", name, &options).await;
    }
}

#[tokio::test]
async fn arguments_are_shown_as_python_shows_them() {
    // Written out here, for a tuple comes off the wire as a list.
    for name in ["argsrepr_truncation"] {
        compare("amqp_task_messages", name, &[]).await;
    }
    let captured = Captured::named("amqp_task_messages", "argsrepr_levels");
    let ours = send(call(&captured), Timestamp::now()).await.unwrap();
    let python = captured.headers["argsrepr"].as_str().unwrap().replace("(1,)", "[1]");
    assert_eq!(ours.headers["argsrepr"].as_str().unwrap(), python);
}

#[tokio::test]
async fn a_header_that_cannot_be_the_protocols_is_refused_at_the_call() {
    let with = |name: &str, value: Value| {
        let headers: Value = Value::Map([(name.to_owned(), value)].into_iter().collect());
        send(Signature::named("wire.add").option("headers", headers), Timestamp::now())
    };
    let error = with("retries", Value::from("many")).await.unwrap_err();
    assert!(error.to_string().contains("header `retries`"), "{error}");
    for name in ["id", "task"] {
        let error = with(name, Value::from("other")).await.unwrap_err();
        assert!(error.to_string().contains(&format!("header `{name}`")), "{error}");
    }
}
