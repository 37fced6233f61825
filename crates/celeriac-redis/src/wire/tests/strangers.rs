//! Items that are not as they should be.

use celeriac_core::{Headers, Message};

use super::captured::{STRANGERS, bytes, case, cases};
use crate::wire::envelope::{Envelope, Unreadable, decode};

const TASK: &str = r#"[[1, 1], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;

fn read(name: &str) -> Envelope {
    decode(&bytes(&case(STRANGERS, name)).unwrap()).unwrap()
}

#[test]
fn whatever_a_python_worker_runs_is_read() {
    let mut count = 0;
    for case in cases(STRANGERS).iter().filter(|case| case["result_status"] == "SUCCESS") {
        let read = decode(&bytes(case).unwrap()).unwrap();
        let task = read.message.task().unwrap_or_else(|| panic!("{case}"));
        assert_eq!((task.task.as_str(), read.message.headers.malformed()), ("wire.add", None), "{case}");
        assert!(read.message.body.starts_with(b"[[1, 1]"), "{case}");
        assert_eq!(read.routing_key.as_deref(), Some("celery"), "{case}");
        count += 1;
    }
    assert!(count > 12, "only {count} messages were found");
}

#[test]
fn what_a_python_worker_loses_or_dies_of_is_read_too() {
    let read_body = |name| read(name).message.body;
    assert_eq!(read_body("foreign_no_delivery_tag"), TASK);
    assert_eq!(read_body("foreign_no_content_type"), TASK);
    assert_eq!(read("foreign_no_content_type").message.properties.content_type, None);
    let lost = read("foreign_no_delivery_info");
    assert_eq!((lost.message.body, lost.exchange.as_str(), lost.routing_key), (TASK.into(), "", None));
    // Nothing says that the body is base64.
    assert!(read("foreign_no_properties").message.body.starts_with(b"W1s"));
    let old = read("foreign_no_headers").message;
    assert_eq!(old.headers, Headers::new());
    assert!(old.body.starts_with(b"{\"task\": \"wire.add\""), "protocol 1 has it in the body");
}

#[test]
fn an_entry_of_a_dead_worker_is_read() {
    let case = case(STRANGERS, "foreign_unacked_restored");
    let entry: (Box<serde_json::value::RawValue>, String, String) =
        serde_json::from_str(case["hset"][2].as_str().unwrap()).unwrap();
    assert_eq!(decode(entry.0.get().as_bytes()).unwrap().message.body, TASK);
}

#[test]
fn a_body_that_is_not_what_it_claims_leaves_its_task_known() {
    let data =
        br#"{"body": "not base64!", "headers": {"task": "t", "id": "i"}, "properties": {"body_encoding": "base64"}}"#;
    let message = decode(data).unwrap().message;
    assert_eq!((message.task().unwrap().id.as_str(), &*message.body), ("i", &b"not base64!"[..]));
}

#[test]
fn base64_of_any_writer_is_read() {
    for body in ["W10=", "W10", "W1\\n0=\\n", "W11=", " W10= "] {
        let data = format!(r#"{{"body": "{body}", "properties": {{"body_encoding": "BASE64"}}}}"#);
        assert_eq!(decode(data.as_bytes()).unwrap().message.body, "[]", "{data}");
    }
}

#[test]
fn bodies_of_any_kind_become_bytes() {
    for (body, expected) in [
        (r#""""#, ""),
        ("null", ""),
        ("[[1], {}]", "[[1], {}]"),
        ("5", "5"),
        ("true", "true"),
        (r#""\u00e9\n""#, "é\n"),
        (r#"{"a": "}"}"#, r#"{"a": "}"}"#),
        ("1e3", "1e3"),
    ] {
        let data = format!(r#"{{"body": {body}, "properties": {{}}}}"#);
        assert_eq!(decode(data.as_bytes()).unwrap().message.body, expected, "{data}");
    }
}

#[test]
fn parts_of_the_wrong_type_count_as_absent() {
    for odd in ["null", "5", "[]", r#""text""#, r#"["redelivered"]"#] {
        let data = format!(r#"{{"body": "x", "headers": {odd}, "properties": {odd}, "celeriac": {odd}}}"#);
        let read = decode(data.as_bytes()).unwrap();
        assert_eq!(read.message, Message { body: "x".into(), ..Message::default() }, "{data}");
        assert!(!read.redelivered && read.stamp.is_none(), "{data}");
        let data =
            format!(r#"{{"properties": {{"delivery_info": {odd}, "body_encoding": {odd}, "delivery_tag": {odd}}}}}"#);
        assert_eq!(decode(data.as_bytes()).unwrap().message, Message::default(), "{data}");
    }
}

#[test]
fn of_a_key_that_comes_twice_the_last_counts_as_in_python() {
    let data = br#"{"headers": {"task": "a", "id": "b"}, "body": "1", "headers": {"task": "c", "task": "t", "id": "i", "eta": 1, "eta": null},
        "properties": {"priority": 1, "priority": 2}, "body": "2"}"#;
    let message = decode(data).unwrap().message;
    assert_eq!((message.task().unwrap().task.as_str(), &*message.body), ("t", &b"2"[..]));
    assert_eq!((message.headers.malformed(), message.priority().0), (None, 2));
}

#[test]
fn marks_and_names_are_told_whichever_way_they_come() {
    for (data, redelivered) in [
        (r#"{"headers": {"redelivered": true}}"#, true),
        (r#"{"headers": {"redelivered": false}}"#, false),
        (r#"{"headers": {}, "properties": {"delivery_info": {"redelivered": true}}}"#, true),
        (r#"{"headers": {}, "celeriac": [0, 1]}"#, true),
        (r#"{"headers": {}, "celeriac": [0, 0]}"#, false),
        (r#"{"headers": {}, "celeriac": [-1, 0]}"#, false),
    ] {
        let read = decode(data.as_bytes()).unwrap();
        assert_eq!((read.redelivered, read.message.headers), (redelivered, Headers::new()), "{data}");
    }
    let data = format!(
        r#"{{"properties": {{"delivery_info": {{"exchange": "{0}", "routing_key": "{0}"}}}}}}"#,
        "x".repeat(256)
    );
    let read = decode(data.as_bytes()).unwrap();
    assert_eq!((read.exchange.as_str(), read.routing_key), ("", None));
}

#[test]
fn what_is_no_envelope_tells_why_and_not_what() {
    for (data, reason) in [
        (&b""[..], "no JSON object"),
        (b"secret", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b"{}", "an object without body, headers and properties"),
        (br#"{"secret": 1}"#, "an object without body, headers and properties"),
        (br#"{"body": "secret"#, "a text without end at byte 10"),
        (br#"{"body": "secret""#, "no `,` or `}` in an object at byte 17"),
        (br#"{"body" "secret"}"#, "no `:` in an object at byte 8"),
        (br#"{"body": }"#, "no value at byte 9"),
        (br#"{"body": [}"#, "no `,` or `}` in an object at byte 11"),
        (br#"{"body": 1 secret}"#, "no `,` or `}` in an object at byte 11"),
        (br#"{"body": 1,}"#, "no text as key of an object at byte 11"),
        (br#"{"body": 1} secret"#, "bytes after the object at byte 12"),
        (br#"{"\x": 1}"#, "an unknown escape at byte 5"),
        (b"{\"body\": \"\xff\"}", "invalid utf-8 sequence of 1 bytes from index 10"),
    ] {
        assert_eq!(decode(data), Err(Unreadable { reason: reason.to_owned() }), "{}", String::from_utf8_lossy(data));
        assert_eq!(Unreadable::message(data.to_vec()).body, data);
    }
}

#[test]
fn nesting_of_any_depth_is_passed_over() {
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    let data = format!(r#"{{"body": {deep}, "headers": {{"a": {deep}, "task": "t", "id": "i", "stamps": {deep}}}}}"#);
    let message = decode(data.as_bytes()).unwrap().message;
    assert_eq!((message.body.len(), message.headers.get("a").unwrap().kind()), (2_000_000, "text"));
    assert!(decode("[".repeat(1_000_000).as_bytes()).is_err());
}
