//! Tests of headers: typed, malformed, unknown.

use super::*;

fn read(json: &str) -> Headers {
    serde_json::from_str(json).unwrap()
}

#[test]
fn the_least_that_python_accepts_is_a_task() {
    let headers = read(r#"{"task": "add", "id": "1"}"#);
    let task = headers.task().unwrap();
    assert_eq!((task.task.as_str(), task.id.as_str(), task.retries), ("add", "1", 0));
    assert_eq!(headers.malformed(), None);
}

#[test]
fn headers_that_nobody_knows_are_kept() {
    let headers = read(r#"{"task": "add", "id": "1", "traceparent": "00-ab", "x": [1, {"y": null}]}"#);
    let again: Headers = serde_json::from_str(&serde_json::to_string(&headers).unwrap()).unwrap();
    assert_eq!(again.get("traceparent"), Some(Value::from("00-ab")));
    assert_eq!(headers.task().unwrap().extra, again.task().unwrap().extra);
}

#[test]
fn a_header_of_the_wrong_type_is_named_and_kept() {
    let headers = read(r#"{"task": "add", "id": "1", "eta": "tomorrow", "retries": "many"}"#);
    assert!(headers.malformed().unwrap().contains("header `eta`"), "{:?}", headers.malformed());
    assert_eq!(headers.to_map().get("eta"), Some(&Value::from("tomorrow")));
    let text = serde_json::to_string(&headers).unwrap();
    assert_eq!(text.matches("\"eta\"").count(), 1);
}

#[test]
fn what_is_wrong_is_told_without_the_value() {
    for (header, kind) in [
        (r#""eta": "hunter2""#, "text"),
        (r#""retries": "hunter2""#, "text"),
        (r#""timelimit": {"hunter2": 1}"#, "map"),
        (r#""stamps": ["hunter2"]"#, "list"),
        (r#""compression": ["hunter2"]"#, "list"),
    ] {
        let headers = read(&format!(r#"{{"task": "add", "id": "1", {header}}}"#));
        let reason = headers.malformed().unwrap();
        assert!(!reason.contains("hunter2") && reason.ends_with(kind), "{reason}");
    }
    let headers = read(r#"{"task": {"hunter2": 1}, "id": "1"}"#);
    assert_eq!(headers.malformed(), Some("header `task` should be text of 1 to 255 bytes; it came as map"));
}

#[test]
fn a_header_that_only_informs_does_not_make_a_task_malformed() {
    for name in ["lang", "shadow", "argsrepr", "kwargsrepr", "origin"] {
        let headers = read(&format!(r#"{{"task": "add", "id": "1", "{name}": [2, 3]}}"#));
        assert_eq!(headers.malformed(), None, "{name}");
        let task = headers.task().unwrap();
        assert_eq!((task.argsrepr.as_str(), &task.shadow, &task.origin), ("", &None, &None));
        let kept = Value::from(vec![2, 3]);
        assert_eq!(headers.get(name), Some(kept.clone()), "{name}");

        let text = serde_json::to_string(&headers).unwrap();
        assert_eq!(text.matches(&format!("\"{name}\"")).count(), 1, "{text}");
        assert_eq!(read(&text), headers);

        let (mut shown, mut reader) = (0, Headers::reader());
        headers.visit(|header, value| {
            shown += usize::from(header == name);
            reader.put(header, value.to_value());
        });
        assert_eq!((shown, reader.finish()), (1, headers), "{name}");
    }
}

#[test]
fn a_task_without_an_id_is_a_table_with_a_reason() {
    let headers = read(r#"{"task": "add"}"#);
    assert!(headers.task().is_none());
    assert_eq!(headers.malformed(), Some("header `id` is missing"));
    assert_eq!(headers.get("task"), Some(Value::from("add")));
}

#[test]
fn an_id_is_kept_when_the_task_cannot_be_read() {
    let headers = read(r#"{"task": "", "id": "1"}"#);
    assert!(headers.task().is_none());
    assert!(headers.malformed().unwrap().contains("header `task`"), "{:?}", headers.malformed());
    assert_eq!(headers.get("id"), Some(Value::from("1")));
    assert_eq!(read(r#"{"task": null, "id": "1"}"#).malformed(), None);
}

#[test]
fn headers_without_a_task_are_a_plain_table() {
    let headers = read(r#"{"clock": 4, "expires": 5}"#);
    assert!(headers.task().is_none() && headers.malformed().is_none());
    assert_eq!(headers.get("expires"), Some(Value::from(5)));
}

#[test]
fn time_limits_are_hard_first() {
    let headers = read(r#"{"task": "add", "id": "1", "timelimit": [30, 20.5]}"#);
    let limits = headers.task().unwrap().timelimit;
    assert_eq!(limits.hard, Some(Duration::from_secs(30)));
    assert_eq!(limits.soft, Some(Duration::from_millis(20_500)));
    assert_eq!(headers.get("timelimit"), Some(Value::from(vec![Value::from(30), Value::from(20.5)])));
}
