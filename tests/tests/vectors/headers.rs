//! Headers and properties: read as they came, written as they came.

use std::time::Duration;

use celeriac_core::{Headers, Properties, TaskHeaders, Timestamp, Value};
use celeriac_serializer::{Json, SerializerExt as _};
use serde_json::Value as Case;

use crate::captured::{Captured, assert_same, json_map, tasks};

fn task(file: &str, name: &str) -> TaskHeaders {
    Captured::named(file, name).message.headers.task().unwrap().clone()
}

#[test]
fn every_captured_task_has_typed_headers_and_none_is_malformed() {
    let tasks = tasks();
    assert!(tasks.len() > 180, "only {} tasks were found", tasks.len());
    for Captured { name, headers, message, .. } in tasks {
        assert_eq!(message.headers.malformed(), None, "{name}");
        let task = message.task().unwrap_or_else(|| panic!("{name} is no task"));
        assert_eq!(
            (task.task.as_str(), task.id.as_str()),
            (headers["task"].as_str().unwrap(), headers["id"].as_str().unwrap()),
            "{name}"
        );
        assert_eq!(task.lang, "py", "{name}");
        assert_eq!(Case::from(task.retries), headers["retries"], "{name}");
        assert_eq!(Case::from(task.replaced_task_nesting), headers["replaced_task_nesting"], "{name}");
        assert_eq!(Case::from(task.group_index), headers["group_index"], "{name}");
        assert_eq!(Case::from(task.ignore_result), headers["ignore_result"], "{name}");
        for (ours, header) in [
            (task.root_id.as_deref(), "root_id"),
            (task.parent_id.as_deref(), "parent_id"),
            (task.group.as_deref(), "group"),
            (task.shadow.as_deref(), "shadow"),
            (task.origin.as_deref(), "origin"),
            (task.eta.as_ref().map(|eta| eta.as_str()), "eta"),
            (task.expires.as_ref().map(|expires| expires.as_str()), "expires"),
        ] {
            assert_eq!(ours, headers[header].as_str(), "{name}: {header}");
        }
    }
}

#[test]
fn captured_headers_are_written_as_they_came() {
    for Captured { name, headers, message, .. } in tasks() {
        let text = Json.to_bytes(&message.headers).unwrap();
        assert_same(&serde_json::from_slice(&text).unwrap(), &headers, &name);
        assert_same(&json_map(&message.headers.to_map()), &headers, &name);
        assert_eq!(Json.from_bytes::<Headers>(&text).unwrap(), message.headers, "{name}");
    }
}

#[test]
fn headers_are_written_in_celerys_order() {
    let order = |table: &str| -> Vec<String> {
        table.split("\"").skip(1).step_by(2).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    // The raw item of Redis keeps Python's own order.
    let case = crate::captured::case("redis_envelopes", "basic_args");
    let raw = String::from_utf8(crate::captured::bytes(&case["value_b64"])).unwrap();
    let (_, headers) = raw.split_once("\"headers\": ").unwrap();
    let (headers, _) = headers.split_once(", \"properties\"").unwrap();
    let ours = Json.to_bytes(&Captured::named("redis_envelopes", "basic_args").message.headers).unwrap();
    assert_eq!(order(&String::from_utf8(ours).unwrap()), order(headers));
}

#[test]
fn captured_properties_are_written_as_they_came() {
    for Captured { name, mut properties, message, .. } in crate::captured::messages() {
        // Absent and null mean the same, and are written as absent.
        properties.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let written = json_map(&message.properties.to_map());
        assert_same(&written, &properties, &name);
        let again: Properties = Json.from_bytes(&Json.to_bytes(&message.properties).unwrap()).unwrap();
        assert_eq!(again, message.properties, "{name}");
        if properties.get("content_type").is_some() {
            assert!(message.properties.content_type.is_some(), "{name}");
            assert_eq!(message.properties.correlation_id.as_deref(), properties["correlation_id"].as_str(), "{name}");
        }
    }
}

#[test]
fn typed_properties_hold_what_was_sent() {
    let properties = |name| Captured::named("amqp_task_messages", name).message.properties;
    assert_eq!(properties("priority_5").priority.unwrap().0, 5);
    assert_eq!(properties("queue_other").priority, None);
    assert_eq!(properties("expires_seconds").expiration, Some(Duration::from_secs(60)));
    assert_eq!(properties("expires_past").expiration, Some(Duration::ZERO));
    assert_eq!(properties("delivery_mode_transient").delivery_mode, Some(celeriac_core::DeliveryMode::Transient));
    assert!(properties("extra_property_app_id").extra.contains_key("app_id"));
}

#[test]
fn times_mean_the_instants_that_python_meant() {
    // Computed by Python's `datetime`; a time without an offset is in UTC.
    for (name, eta, expires) in [
        ("countdown_10", Some(1_795_330_584_179_077), None),
        ("countdown_fraction", Some(1_795_330_574_430_611), None),
        ("countdown_zero", None, None),
        ("eta_aware_utc", Some(1_893_553_445_678_901), None),
        ("eta_aware_offset", Some(1_893_533_645_000_000), None),
        ("eta_naive", Some(1_893_553_445_000_000), None),
        ("eta_string", Some(1_893_553_445_000_000), None),
        ("expires_seconds", None, Some(1_795_330_634_189_886)),
        ("expires_float", None, Some(1_795_330_575_691_312)),
        ("expires_datetime_aware", None, Some(1_795_334_174_000_000)),
        ("expires_past", None, Some(1_577_923_200_000_000)),
        ("countdown_and_expires", Some(1_795_330_579_196_899), Some(1_795_330_594_196_899)),
        ("tz_kolkata_countdown", Some(1_795_330_634_257_208), None),
        ("tz_kolkata_noutc_countdown", Some(1_795_330_634_270_325), None),
        ("tz_kolkata_noutc_expires", None, Some(1_795_330_634_275_519)),
    ] {
        let task = task("amqp_task_messages", name);
        assert_eq!(task.eta.map(|eta| eta.instant()), eta.map(Timestamp::from_micros), "{name}");
        assert_eq!(task.expires.map(|expires| expires.instant()), expires.map(Timestamp::from_micros), "{name}");
    }
}

#[test]
fn every_form_of_time_that_python_read_is_read() {
    for case in crate::captured::cases("foreign_interop_redis") {
        let Some(captured) = Captured::of("foreign_interop_redis", &case) else { continue };
        let Some(task) = captured.message.task() else { continue };
        assert_eq!(captured.message.headers.malformed(), None, "{}", captured.name);
        if let Some(eta) = captured.headers["eta"].as_str() {
            let read = task.eta.as_ref().unwrap();
            assert_eq!(read.as_str(), eta);
            let second = read.instant().as_micros() / 1_000_000;
            assert_eq!(second, 1_577_836_800, "{eta} is the first second of 2020");
        }
    }
}

#[test]
fn a_callers_own_headers_are_kept() {
    let extra = task("amqp_task_messages", "custom_headers").extra;
    let mut names: Vec<&str> = extra.keys().collect();
    names.sort_unstable();
    assert_eq!(names, ["f", "list", "map", "n", "none", "t", "x-str"]);
    assert_eq!(extra.get("none"), Some(&Value::Null));
    let extra = task("amqp_task_messages", "custom_headers_types").extra;
    assert_eq!(extra.get("big"), Some(&Value::from(1_099_511_627_776_i64)));
    assert_eq!(extra.get("neg"), Some(&Value::from(-1_099_511_627_776_i64)));
    let extra = task("beat", "beat_amqp:wire.add:plain").extra;
    assert_eq!(extra.get("celery_beat_task"), Some(&Value::from(true)));
}

#[test]
fn a_callers_header_may_stand_for_one_of_the_protocols() {
    let task = task("amqp_task_messages", "header_overrides_builtin");
    assert_eq!(task.shadow.as_deref(), Some("viaheader"));
    assert!(task.extra.is_empty());
}

#[test]
fn time_limits_and_stamps_are_typed() {
    let limits = |name| task("amqp_task_messages", name).timelimit;
    let captured =
        |name: &str, at: usize| Captured::named("amqp_task_messages", name).headers["timelimit"][at].as_f64();
    for name in ["time_limits", "time_limit_float", "conf_time_limits"] {
        assert_eq!(limits(name).hard.map(|hard| hard.as_secs_f64()), captured(name, 0), "{name}");
        assert_eq!(limits(name).soft.map(|soft| soft.as_secs_f64()), captured(name, 1), "{name}");
    }
    let stamped = task("amqp_task_messages", "stamped_one");
    let names = stamped.stamped_headers.unwrap();
    assert!(!names.is_empty() && names.iter().all(|name| stamped.stamps.contains_key(name)));
}
