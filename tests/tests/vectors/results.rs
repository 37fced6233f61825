//! Stored and replied results.

use celeriac_core::{ResultTuple, TaskFailure, TaskState, Timestamp, Value};
use celeriac_serializer::{Json, Serializer as _, Serializers};
use serde_json::Value as Case;

use crate::captured::{Captured, assert_same, bytes, case, cases, json};

/// Every captured result in JSON: its name, as it was read, and as it is in the file.
fn results() -> Vec<(String, Value, Case)> {
    let mut results = Vec::new();
    for case in cases("results_redis").into_iter().chain(cases("foreign_interop_results")) {
        if case["value"].get("status").is_some() {
            results.push((case["name"].to_string(), bytes(&case["value_b64"]), case["value"].clone()));
        }
    }
    for case in cases("results_rpc") {
        if let Some(reply) = Captured::of("results_rpc", &case).filter(|reply| reply.body.get("status").is_some()) {
            results.push((reply.name, reply.message.body.to_vec(), reply.body));
        }
    }
    results.into_iter().map(|(name, data, raw)| (name, Json.decode_value(&data).unwrap(), raw)).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn every_captured_state_is_known_and_agrees_with_the_record() {
    let results = results();
    assert!(results.len() > 120, "only {} results were found", results.len());
    for (name, record, raw) in results {
        let state = TaskState::from(text(&record, "status"));
        assert_eq!(state.as_str(), text(&record, "status"), "{name}");
        assert!(!matches!(&state, TaskState::Custom(_)) || state == TaskState::PROGRESS, "{name}");
        if raw.get("children").is_some() {
            let done = record.get("date_done").is_some_and(|date| !date.is_null());
            assert_eq!(state.is_ready(), done, "{name}");
        }
    }
}

#[test]
fn every_captured_date_is_read() {
    let mut dates = 0;
    for (name, record, _) in results() {
        if let Some(date) = record.get("date_done").and_then(Value::as_str) {
            let read: Timestamp = date.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
            if date.ends_with("+00:00") {
                assert_eq!(read.to_string(), date, "{name}");
            }
            dates += 1;
        }
    }
    assert!(dates > 80, "only {dates} dates were found");
    let kolkata = case("results_redis", "tz_kolkata_success")["value"]["date_done"].as_str().unwrap().to_owned();
    assert!(kolkata.ends_with("+05:30"));
    let written = kolkata.parse::<Timestamp>().unwrap().to_string();
    assert_eq!(written.parse::<Timestamp>().unwrap(), kolkata.parse::<Timestamp>().unwrap());
}

#[test]
fn every_captured_failure_is_written_as_it_came() {
    let mut failures = 0;
    for (name, record, raw) in results() {
        let state = TaskState::from(text(&record, "status"));
        let result = record.get("result").cloned().unwrap_or_default();
        if raw.get("children").is_none() || !state.is_exception() || result.is_null() {
            continue;
        }
        let failure = TaskFailure::from_value(result);
        assert_eq!(failure.exc_type, raw["result"]["exc_type"].as_str().unwrap(), "{name}");
        assert_same(&json(&failure.to_value()), &raw["result"], &name);
        failures += 1;
    }
    assert!(failures > 40, "only {failures} failures were found");
}

#[test]
fn failures_read_well() {
    let shown = |name| {
        let value = Json.decode_value(&bytes(&case("results_redis", name)["value_b64"])).unwrap();
        TaskFailure::from_value(value.get("result").cloned().unwrap_or_default()).to_string()
    };
    assert_eq!(shown("failure"), "ValueError: boom");
    assert_eq!(shown("failure_custom"), "wireapp.WireError: 42, custom text");
    assert_eq!(shown("failure_nested_class"), "wireapp.Outer.InnerError: nested class");
    assert_eq!(shown("soft_limit"), "billiard.exceptions.SoftTimeLimitExceeded");
    assert_eq!(shown("hard_limit"), "billiard.exceptions.TimeLimitExceeded: 1");
    assert_eq!(shown("rejected"), "celery.exceptions.Reject: no thanks, False");
    assert_eq!(shown("revoked"), "celery.exceptions.TaskRevokedError: revoked");
}

#[test]
fn what_other_clients_store_under_a_failed_task_is_a_failure() {
    for (name, class, message) in [
        ("fail_builtin", "ValueError", "boom"),
        ("fail_unknown_module", "MyRustError", "boom, 3"),
        ("fail_no_module", "MyRustError", "boom"),
        ("fail_message_string", "ValueError", "plain"),
        ("fail_module_not_exception", "system", "x"),
        // Python cannot read these two; here they are failures of no known class.
        ("fail_result_string", "Exception", "just a string"),
        ("fail_missing_exc_type", "Exception", "{'exc_message': ['x']}"),
        ("fail_rust_path_module", "Error", "x"),
        ("revoked", "TaskRevokedError", "revoked"),
    ] {
        let value = Json.decode_value(&bytes(&case("foreign_interop_results", name)["value_b64"])).unwrap();
        let failure = TaskFailure::from_value(value.get("result").cloned().unwrap_or_default());
        assert_eq!((failure.exc_type.as_str(), failure.message().as_str()), (class, message), "{name}");
    }
}

#[test]
fn children_and_saved_groups_are_written_as_they_came() {
    let (mut children, mut groups) = (0, 0);
    for (name, record, raw) in results() {
        for (at, child) in record.get("children").and_then(Value::as_list).unwrap_or_default().iter().enumerate() {
            let tuple = ResultTuple::from_value(child).unwrap_or_else(|| panic!("{name}: child {at}"));
            assert_same(&json(&tuple.to_value()), &raw["children"][at], &name);
            children += 1;
        }
    }
    for case in cases("results_redis") {
        if case["name"].as_str().is_some_and(|name| name.ends_with("_saved")) {
            let value = Json.decode_value(&bytes(&case["value_b64"])).unwrap();
            let tuple = ResultTuple::from_value(value.get("result").unwrap()).unwrap();
            assert!(tuple.children.as_ref().is_some_and(|members| members.len() > 1));
            assert_same(&json(&tuple.to_value()), &case["value"]["result"], "saved group");
            groups += 1;
        }
    }
    assert!(children > 5 && groups == 3, "{children} children, {groups} groups");
}

#[test]
fn results_in_other_formats_say_the_same() {
    let formats = Serializers::new();
    for (format, success, failure) in
        [("msgpack", "msgpack_success", "msgpack_failure"), ("yaml", "yaml_success", "yaml_failure")]
    {
        let read = |name| {
            let data = bytes(&case("results_redis", name)["value_b64"]);
            formats.by_name(format).unwrap().decode_value(&data).unwrap()
        };
        let record = read(success);
        assert_eq!(text(&record, "status"), "SUCCESS", "{format}");
        assert!(record.get("result").is_some_and(|result| !result.is_null()), "{format}");
        let record = read(failure);
        let failed = TaskFailure::from_value(record.get("result").cloned().unwrap_or_default());
        assert_eq!(failed.exc_type, "ValueError", "{format}");
    }
}
