//! Records of tasks: Python's, captured from Celery 5.7 (`tests/vectors/` of the workspace), and our own.

#![cfg(test)]
#![cfg(all(feature = "json", feature = "msgpack", feature = "yaml", feature = "zlib", feature = "zstd"))]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use celeriac_core::{
    ContentType, ErrorKind, Payload, ResultTuple, TaskFailure, TaskId, TaskMeta, TaskState, Timestamp, Value,
};
use celeriac_serializer::record::{decode, encode};
use celeriac_serializer::{Compression, Json, SerializerExt as _, Serializers};
use serde_json::Value as Case;

const RESULTS: &str = include_str!("../../../tests/vectors/results_redis.json");
const FOREIGN_RESULTS: &str = include_str!("../../../tests/vectors/foreign_interop_results.json");
const LIMIT: usize = 1 << 20;

/// The cases of one file.
fn cases(file: &str) -> Vec<Case> {
    serde_json::from_str(file).unwrap()
}

/// The case `name` of a file.
fn case(file: &str, name: &str) -> Case {
    cases(file).into_iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("no case `{name}`"))
}

/// The bytes that were stored; `None` if the case has none.
fn bytes(case: &Case) -> Option<Vec<u8>> {
    Some(STANDARD.decode(case["value_b64"].as_str()?).unwrap())
}

fn json(data: &[u8]) -> Case {
    serde_json::from_slice(data).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(data)))
}

fn encoded(meta: &TaskMeta) -> Vec<u8> {
    let mut out = Vec::new();
    let format = encode(meta, &mut out).unwrap();
    let read = decode(None, &out, LIMIT).unwrap().result;
    // Which is that of its result, or JSON.
    assert!(format == ContentType::JSON || read.is_some_and(|payload| payload.content_type == format), "{format}");
    out
}

fn text(meta: &TaskMeta) -> String {
    String::from_utf8(encoded(meta)).unwrap()
}

fn id() -> TaskId {
    TaskId::from_static("i")
}

fn payload(content_type: ContentType, data: impl Into<Bytes>) -> Payload {
    Payload { content_type, data: data.into() }
}

fn read(data: &[u8]) -> TaskMeta {
    decode(None, data, LIMIT).unwrap()
}

/// The value of the result, in whichever format it is.
fn value(meta: &TaskMeta) -> Value {
    meta.result.as_ref().map_or(Value::Null, |payload| {
        let formats = Serializers::new();
        formats.by_name(&payload.content_type).unwrap().decode_value(&payload.data).unwrap()
    })
}

/// The captured records of tasks: name, bytes, and what is in them if it is JSON.
fn captured() -> impl Iterator<Item = (String, Vec<u8>, Case)> {
    cases(RESULTS).into_iter().filter_map(|case| {
        let is_record = case["key"].as_str()?.contains("celery-task-meta-");
        is_record.then(|| Some((case["name"].as_str()?.to_owned(), bytes(&case)?, case["value"].clone()))).flatten()
    })
}

#[test]
fn every_captured_record_is_read_and_written_as_python_wrote_it() {
    let (mut all, mut plain) = (0, 0);
    for (name, data, raw) in captured() {
        let meta = read(&data);
        all += 1;
        assert_ne!(meta.state, TaskState::Pending, "{name}");
        assert_eq!(meta.state.is_ready(), meta.date_done.is_some(), "{name}");
        if raw.get("status").is_none() {
            continue;
        }
        let mut expected = raw;
        // The instant is the same, told in UTC.
        if let Some(date) = expected["date_done"].as_str() {
            expected["date_done"] = date.parse::<Timestamp>().unwrap().to_string().into();
        }
        assert_eq!(json(&encoded(&meta)), expected, "{name}");
        plain += 1;
    }
    assert!(all > 75 && plain > 60, "only {all} records were found, {plain} of them in plain JSON");
}

#[test]
fn keys_stand_in_celerys_order() {
    for name in [
        "success",
        "failure_custom",
        "ext_stamped",
        "ext_group_member",
        "revoked",
        "started_in_progress",
        "spawn_children",
    ] {
        let data = bytes(&case(RESULTS, name)).unwrap();
        let close = |text: &str| text.replace(", ", ",").replace(": ", ":");
        assert_eq!(close(&text(&read(&data))), close(std::str::from_utf8(&data).unwrap()), "{name}");
    }
}

#[test]
fn the_same_is_read_in_every_format_and_compression() {
    for form in ["msgpack", "yaml", "compress_gzip", "compress_zstd", "tz_kolkata", "expires_none"] {
        let read = |end: &str| read(&bytes(&case(RESULTS, &format!("{form}_{end}"))).unwrap());
        let success = read("success");
        assert_eq!(success.state, TaskState::Success, "{form}");
        assert_eq!(Json.to_bytes(&value(&success)).unwrap(), br#"[[1],{"k":2}]"#, "{form}");
        assert_eq!(success.children, Some(vec![]), "{form}");
        let failure = read("failure");
        assert_eq!(failure.state, TaskState::Failure, "{form}");
        assert_eq!(TaskFailure::from_value(value(&failure)).to_string(), "ValueError: x", "{form}");
        assert!(failure.traceback.unwrap().ends_with("ValueError: x\n"), "{form}");
    }
    let msgpack = read(&bytes(&case(RESULTS, "msgpack_success")).unwrap());
    assert_eq!(msgpack.result, Some(payload(ContentType::MSGPACK, &b"\x92\x91\x01\x81\xa1k\x02"[..])));
}

#[test]
fn records_of_other_clients_are_read() {
    let mut count = 0;
    for case in cases(FOREIGN_RESULTS) {
        let Some(data) = bytes(&case).filter(|_| case["value"]["status"].is_string()) else { continue };
        let meta = decode(Some(&id()), &data, LIMIT).unwrap();
        assert_eq!(meta.state.as_str(), case["value"]["status"], "{case}");
        assert_eq!(meta.task_id, id(), "the key names the task");
        count += 1;
    }
    assert!(count > 10, "only {count} records were found");
}

fn everything() -> TaskMeta {
    let mut meta = TaskMeta::new(id(), TaskState::Success);
    meta.traceback = Some("a\n\"b\"\\\u{1}é\u{1f331}".to_owned());
    meta.children = Some(vec![
        ResultTuple::task(&id()),
        ResultTuple {
            id: "group".to_owned(),
            parent: Some(Box::new(ResultTuple::task(&id()))),
            children: Some(vec![ResultTuple::task(&id())]),
        },
    ]);
    meta.date_done = Some(Timestamp::from_micros(1_767_225_600_123_456));
    meta.group_id = "g".parse().ok();
    meta.parent_id = "p".parse().ok();
    meta.extended.insert("args", vec![Value::from(1), Value::from("zwei")]);
    meta.extended.insert("queue", Value::Null);
    meta.extended.insert("worker\"", Value::Date("2026-01-02".parse().unwrap()));
    meta
}

#[test]
fn a_record_comes_back_as_it_was_in_every_format() {
    let results = [
        None,
        Some(payload(ContentType::JSON, r#"{"é": [1.50, NaN, 12345678901234567890123]}"#)),
        Some(payload(ContentType::JSON, "null")),
        Some(payload(ContentType::MSGPACK, &b"\x93\x01\xc4\x02\x00\xff\xa1x"[..])),
        Some(payload(ContentType::MSGPACK, &b"\xc0"[..])),
        Some(payload(ContentType::YAML, r#"{"a": [1, .nan, "\U0001f331"]}"#)),
        Some(payload(ContentType::BINCODE, &b"\x00\x01\xff"[..])),
        Some(payload(ContentType::from_static("application/x-mine"), Bytes::new())),
        // Not what they claim to be; a stranger to the last one's author would take it for one of ours.
        Some(payload(ContentType::JSON, "")),
        Some(payload(ContentType::JSON, "1}, \"status\": 2, \"x\": {")),
        Some(payload(ContentType::JSON, "1 2")),
        Some(payload(ContentType::JSON, &b"\"\xff\""[..])),
        Some(payload(ContentType::MSGPACK, &b"\xc0\xc0"[..])),
        Some(payload(ContentType::MSGPACK, &b"\xa5ab"[..])),
        Some(payload(ContentType::YAML, "[1")),
        Some(payload(ContentType::JSON, r#"{"__celeriac__": {"content_type": "a/b", "data": ""}}"#)),
    ];
    for result in results {
        let mut meta = everything();
        meta.state = if result.is_none() { TaskState::Revoked } else { TaskState::Success };
        meta.result = result;
        let data = encoded(&meta);
        let (read, shown) = (read(&data), String::from_utf8_lossy(&data));
        if meta
            .result
            .as_ref()
            .is_some_and(|payload| payload.content_type == ContentType::YAML && payload.data.len() > 5)
        {
            // YAML is read and written anew.
            assert_eq!(format!("{:?}", value(&read)), format!("{:?}", value(&meta)), "{shown}");
            assert_eq!(read.result.as_ref().unwrap().content_type, ContentType::YAML);
            meta.result.clone_from(&read.result);
        }
        assert_eq!(read, meta, "{shown}");
    }
}

#[test]
fn what_was_left_out_stays_left_out() {
    let mut meta = TaskMeta::new(id(), TaskState::from("MINE \"é\""));
    meta.children = None;
    let shown = text(&meta);
    assert_eq!(
        shown,
        r#"{"status": "MINE \"é\"", "result": null, "traceback": null, "children": null, "date_done": null, "task_id": "i"}"#
    );
    assert_eq!(read(shown.as_bytes()), meta);
}

#[test]
fn a_success_without_a_value_holds_null_and_other_states_hold_nothing() {
    let record = |state: &str, data: &str| {
        read(format!(r#"{{"task_id": "i", "result": {data}, "status": "{state}"}}"#).as_bytes())
    };
    assert_eq!(record("SUCCESS", " null ").result, Some(payload(ContentType::JSON, "null")));
    assert_eq!(record("SUCCESS", "\"null\"").result, Some(payload(ContentType::JSON, "\"null\"")));
    assert_eq!(record("RETRY", "null").result, None);
    assert_eq!(record("MINE", "{}").result, Some(payload(ContentType::JSON, "{}")));
    let nil = b"\x83\xa6result\xc0\xa6status\xa5RETRY\xa7task_id\xa1i";
    assert_eq!(read(nil).result, None);
}

#[test]
fn a_script_finds_the_status_first() {
    let mut meta = everything();
    assert!(text(&meta).starts_with(r#"{"status": "SUCCESS", "#));
    meta.result = Some(payload(ContentType::BINCODE, &b"\x00"[..]));
    assert!(text(&meta).starts_with(r#"{"status": "SUCCESS", "result": {"__celeriac__": {"content_type": "application/x-bincode", "data": "AA=="}}, "#));
    meta.result = Some(payload(ContentType::MSGPACK, &b"\x05"[..]));
    assert!(encoded(&meta).starts_with(b"\x8b\xa6status\xa7SUCCESS\xa6result\x05\xa9traceback"));
    for n in 0..8 {
        meta.extended.insert(format!("stamp {n}"), n);
    }
    assert!(encoded(&meta).starts_with(b"\xde\x00\x13\xa6status\xa7SUCCESS\xa6result\x05"));
    meta.result = Some(payload(ContentType::YAML, "- 1\n- a: 2\n"));
    assert!(
        text(&meta).starts_with("--- {? \"status\" : \"SUCCESS\", ? \"result\" : [1, {\"a\": 2}], "),
        "{}",
        text(&meta)
    );
}

#[test]
fn what_bears_the_name_of_a_field_does_not_stand_for_it() {
    let mut meta = TaskMeta::new(id(), TaskState::Failure);
    for name in ["status", "result", "task_id", "group_id", "tenant"] {
        meta.extended.insert(name, "SUCCESS");
    }
    let read = read(&encoded(&meta));
    assert_eq!((&read.state, &read.task_id, &read.group_id, &read.result), (&TaskState::Failure, &id(), &None, &None));
    assert_eq!(read.extended.keys().collect::<Vec<_>>(), ["tenant"]);
}

#[test]
fn what_only_informs_may_be_odd() {
    let data =
        br#"{"status": "FAILURE", "result": 1, "task_id": 5, "traceback": ["x"], "children": [5], "date_done": "soon",
        "group_id": "", "parent_id": 7, "odd": {"__type__": "nobody's", "__value__": 1}}"#;
    let meta = decode(Some(&id()), data, LIMIT).unwrap();
    let mut expected = TaskMeta::new(id(), TaskState::Failure).with_result(payload(ContentType::JSON, "1"));
    expected.children = None;
    expected.extended.insert("odd", r#"{"__type__": "nobody's", "__value__": 1}"#);
    assert_eq!(meta, expected);
    for date in ["2026-01-02T03:04:05", "2026-01-02T03:04:05Z", "2026-01-02T08:34:05+05:30"] {
        let data = format!(r#"{{"status": "SUCCESS", "task_id": "i", "date_done": "{date}"}}"#);
        assert_eq!(read(data.as_bytes()).date_done.unwrap().to_string(), "2026-01-02T03:04:05+00:00");
    }
}

#[test]
fn a_record_that_cannot_be_read_is_told_by_its_task() {
    let error = |data: &[u8]| decode(Some(&TaskId::from_static("the-id")), data, LIMIT).unwrap_err();
    for data in [
        &b""[..],
        b"5",
        b"[]",
        b"{}",
        b"{\"status\": 5}",
        b"{\"status\": \"SUCCESS\"",
        b"\x80",
        // A pickle, as old workers wrote it.
        b"\x80\x04}.",
        b"\x81\xa6status",
        b"\0celery-compressed",
        b"\0celery-compressed\0application/x-gzip",
        b"\0celery-compressed\0application/x-gzip\0junk",
        b"\0celery-compressed\0\xff\0junk",
        b"--- [",
        b"\xff\xff",
    ] {
        let error = error(data);
        assert_eq!(error.kind(), ErrorKind::Malformed, "{data:?}: {}", error.report());
        assert!(error.message().contains("`the-id`"), "{error}");
    }
    assert_eq!(error(b"\0celery-compressed\0application/rot13\0x").kind(), ErrorKind::Unsupported);
    let nameless = decode(None, br#"{"status": "SUCCESS"}"#, LIMIT).unwrap_err();
    assert!(nameless.report().contains("it has no `task_id`"), "{}", nameless.report());
}

#[test]
fn a_compressed_record_is_decompressed_only_so_far() {
    let meta = TaskMeta::new(id(), TaskState::Success)
        .with_result(payload(ContentType::JSON, format!("{:?}", "x".repeat(5000))));
    let mut data = b"\0celery-compressed\0application/zstd\0".to_vec();
    data.extend(Compression::Zstd.compress(&encoded(&meta)).unwrap());
    assert_eq!(read(&data), meta);
    assert_eq!(decode(Some(&id()), &data, 4000).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn pythons_failure_reaches_the_reader_with_its_traceback() {
    let meta = read(&bytes(&case(RESULTS, "failure")).unwrap());
    let mut failure = TaskFailure::from_value(value(&meta));
    failure.traceback = meta.traceback;
    assert_eq!(failure.to_string(), "ValueError: boom");
    assert!(failure.traceback.unwrap().starts_with("Traceback (most recent call last):\n"));
}
