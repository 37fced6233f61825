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
