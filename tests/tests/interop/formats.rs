//! Formats and compressions, both ways.

use celeriac::{AppBuilder, Signature};
use celeriac_tests::python::PythonWorker;
use serde_json::{Value as Json, json};

use crate::support::{Bench, PATIENCE, RustWorker, json_of, value};

/// A worker of each kind: in Rust on the queue `rust`, in Python on `celery`.
struct Both {
    bench: Bench,
    _rust: RustWorker,
    _python: PythonWorker,
}

impl Both {
    async fn with(settings: Json, more: impl FnOnce(AppBuilder) -> AppBuilder) -> Self {
        let bench = Bench::with(&settings, "", more).await;
        let (rust, python) =
            tokio::join!(RustWorker::start(bench.app.worker().queues(["rust"])), bench.solo(settings.clone()));
        Self { bench, _rust: rust, _python: python }
    }

    /// Has Python send to Rust.
    async fn to_rust(&self, name: &str, args: Json, mut options: Json) -> String {
        options["queue"] = json!("rust");
        self.bench.client.send(name, args, json!({}), options).await
    }

    /// Has Rust call a task in Python.
    async fn of_python(&self, signature: Signature) -> Json {
        json_of(&self.bench.app.send(signature).await.unwrap().get_timeout(PATIENCE).await.unwrap())
    }
}

fn contents() -> Json {
    json!({"text": "Grüße 🦀", "numbers": [1, -1, 0.5, u64::MAX, i64::MIN], "none": null, "yes": true, "deep": {"a": [{}]}})
}

#[tokio::test]
async fn messagepack_is_understood_both_ways() {
    let settings = json!({
        "task_serializer": "msgpack", "result_serializer": "msgpack",
        "accept_content": ["json", "msgpack"], "result_accept_content": ["json", "msgpack"],
    });
    let both = Both::with(settings, |app| app.serializer("msgpack").result_serializer("msgpack")).await;
    let client = &both.bench.client;
    let id = both.to_rust("rust.echo", json!([contents()]), json!({})).await;
    assert_eq!(client.get(&id).await.unwrap(), contents());
    assert_eq!(client.raw(&id).await.unwrap()[0] & 0xf0, 0x80, "the record is a map of MessagePack");
    assert_eq!(json_of(&both.bench.result(&id).get_timeout(PATIENCE).await.unwrap()), contents());
    // Each end may choose for itself.
    let id = both.to_rust("rust.echo", json!([contents()]), json!({"serializer": "json"})).await;
    assert_eq!(client.get(&id).await.unwrap(), contents());
    let bytes = r"app.send_task('rust.echo', (b'\x00\xff',), queue='rust').get(timeout=60) == b'\x00\xff'";
    assert_eq!(client.evaluate(bytes).await, true);
    let id = both.to_rust("rust.fail", json!(["CustomError"]), json!({})).await;
    let error = client.get(&id).await.unwrap_err();
    assert_eq!((error.class.as_str(), error.args), ("peer_app.CustomError", vec![json!(7), json!("detail")]));

    let echo = Signature::named("peers.echo").arg(value(contents())).kwarg("key", 1);
    assert_eq!(both.of_python(echo.clone()).await, json!([[contents()], {"key": 1}]));
    assert_eq!(both.of_python(echo.option("serializer", "json")).await, json!([[contents()], {"key": 1}]));
    let fail = Signature::named("peers.custom_fail").arg(7).arg("detail");
    let error = both.bench.app.send(fail).await.unwrap().get_timeout(PATIENCE).await.unwrap_err();
    assert_eq!(error.failure().unwrap().exc_message, [7.into(), "detail".into()]);
}

#[tokio::test]
async fn results_in_json_answer_calls_in_messagepack() {
    let both = Both::with(json!({"accept_content": ["json", "msgpack"]}), |app| app.accept(["msgpack"])).await;
    let id = both.to_rust("rust.echo", json!([contents()]), json!({"serializer": "msgpack"})).await;
    assert_eq!(both.bench.client.get(&id).await.unwrap(), contents());
    assert_eq!(both.bench.client.raw(&id).await.unwrap()[0], b'{');
    let echo = Signature::named("peers.echo").arg(value(contents())).option("serializer", "msgpack");
    assert_eq!(both.of_python(echo).await, json!([[contents()], {}]));
}

#[tokio::test]
async fn every_compression_that_both_have_is_understood_both_ways() {
    let both = Both::with(json!({}), |app| app).await;
    let known = both.bench.client.evaluate("__import__('kombu.compression').compression.encoders()").await;
    let known: Vec<&str> = known.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut tried = Vec::new();
    for (name, mime) in [
        ("zlib", "application/x-gzip"),
        ("gzip", "application/x-gzip"),
        ("bzip2", "application/x-bz2"),
        ("lzma", "application/x-lzma"),
        ("brotli", "application/x-brotli"),
        ("zstd", "application/zstd"),
    ] {
        if !known.contains(&mime) {
            continue;
        }
        let text = "all the same ".repeat(1_000);
        let id = both.to_rust("rust.echo", json!([text]), json!({"compression": name})).await;
        assert_eq!(both.bench.client.get(&id).await.unwrap(), text, "{name} from Python");
        let echo = Signature::named("peers.echo").arg(text.as_str()).option("compression", name);
        assert_eq!(both.of_python(echo).await, json!([[text], {}]), "{name} from Rust");
        tried.push(name);
    }
    // The others are packages of their own, which Python may have or not.
    assert!(tried.starts_with(&["zlib", "gzip", "bzip2", "lzma"]), "tried {tried:?} of {known:?}");
}

#[tokio::test]
async fn rust_reads_what_python_stores_compressed() {
    let settings = json!({"result_compression": "gzip"});
    let both = Both::with(settings, |app| app).await;
    let echo = Signature::named("peers.echo").arg("again and again ".repeat(100));
    let result = both.bench.app.send(echo).await.unwrap();
    let text = json_of(&result.get_timeout(PATIENCE).await.unwrap());
    assert_eq!(text[0][0].as_str().unwrap().len(), 1_600);
    assert_eq!(both.bench.client.raw(result.id()).await.unwrap()[0], 0, "the record is compressed");
    // What Rust stores uncompressed is read by Python all the same.
    let id = both.to_rust("rust.echo", json!([1]), json!({})).await;
    assert_eq!(both.bench.client.get(&id).await.unwrap(), 1);
}

#[tokio::test]
async fn what_json_cannot_say_by_itself_keeps_its_type() {
    let both = Both::with(json!({}), |app| app).await;
    for value in [
        r"b'\x00\xff'",
        "__import__('uuid').UUID('12345678-1234-5678-1234-567812345678')",
        "__import__('decimal').Decimal('1.10')",
        "__import__('datetime').datetime(2026, 8, 1, 12, 30, 1, 5, __import__('datetime').timezone.utc)",
        "__import__('datetime').date(2026, 8, 1)",
    ] {
        let code = format!(
            "(lambda value: [app.send_task('rust.echo', (value,), queue='rust').get(timeout=60) == value, repr(app.send_task('rust.echo', ([value],), queue='rust').get(timeout=60))])({value})"
        );
        let seen = both.bench.client.evaluate(&code).await;
        assert_eq!(seen[0], true, "{value}: {seen}");
    }
}

#[tokio::test]
async fn a_format_that_is_not_accepted_is_refused_and_python_learns_of_it() {
    let both = Both::with(json!({"accept_content": ["json", "pickle", "msgpack"]}), |app| app).await;
    for format in ["pickle", "msgpack"] {
        let id = both.to_rust("rust.echo", json!([1]), json!({"serializer": format})).await;
        let error = both.bench.client.get(&id).await.unwrap_err();
        assert_eq!(error.class, "kombu.exceptions.ContentDisallowed", "{format}: {error:?}");
    }
    both.bench.is_empty("rust").await;
}

#[tokio::test]
async fn messages_of_protocol_1_are_worked() {
    let settings = json!({"task_protocol": 1});
    let both = Both::with(settings.clone(), |app| app.accept(["msgpack"])).await;
    let client = &both.bench.client;
    let ids = [
        both.to_rust("peers.add", json!([2, 3]), json!({})).await,
        both.to_rust("peers.add", json!([2, 3]), json!({"serializer": "msgpack"})).await,
        both.to_rust("peers.add", json!([2, 3]), json!({"compression": "bzip2"})).await,
        both.to_rust("peers.add", json!([2, 3]), json!({"countdown": 0.2, "expires": 600})).await,
    ];
    for id in ids {
        assert_eq!(client.get(&id).await.unwrap(), 5);
    }
    let options = json!({"queue": "rust"});
    let joined = client.send("rust.join", json!(["a"]), json!({"b": "🦀"}), options.clone()).await;
    assert_eq!(client.get(&joined).await.unwrap(), "a🦀");
    let expired = client.send("rust.now", json!([]), json!({}), json!({"queue": "rust", "expires": -60})).await;
    assert_eq!(client.get(&expired).await.unwrap_err().class, "celery.exceptions.TaskRevokedError");
    let unknown = client.send("rust.unknown", json!([]), json!({}), options.clone()).await;
    assert_eq!(client.get(&unknown).await.unwrap_err().class, "celery.exceptions.NotRegistered");
    let seen = client.send("peers.request", json!([]), json!({}), options).await;
    let seen_by_rust = client.get(&seen).await.unwrap();
    assert_eq!((&seen_by_rust["id"], &seen_by_rust["by"]), (&json!(seen), &json!("Rust")));
    // A client of protocol 2 beside it.
    let other = both.bench.other_client(&json!({}));
    let id = other.send("peers.add", json!([1, 1]), json!({}), json!({"queue": "rust"})).await;
    assert_eq!(other.get(&id).await.unwrap(), 2);
    both.bench.is_empty("rust").await;
}
