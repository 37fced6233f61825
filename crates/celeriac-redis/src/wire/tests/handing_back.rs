//! Envelopes that go back to their lists.

use super::captured::{ENVELOPES, case, envelope, envelopes, json};
use crate::wire::envelope::{Stamp, decode, handed_back};

const STAMP: Stamp = Stamp { order: 18_446_744_073_709_551_615, deliveries: 4_294_967_295 };

fn text(data: &[u8], stamp: Stamp) -> String {
    String::from_utf8(handed_back(data, stamp)).unwrap()
}

#[test]
fn the_stamp_is_the_last_key_to_the_letter() {
    let back = text(&envelope("basic_args"), Stamp { order: 7, deliveries: 2 });
    assert!(back.ends_with(r#""}, "celeriac": [7, 2]}"#), "{back}");
}

#[test]
fn every_captured_envelope_comes_back_the_same_but_for_the_marks() {
    for (name, data) in envelopes() {
        let back = handed_back(&data, STAMP);
        let (before, after) = (decode(&data).unwrap(), decode(&back).unwrap());
        assert_eq!(after.message, before.message, "{name}");
        assert_eq!((after.exchange, after.routing_key), (before.exchange, before.routing_key), "{name}");
        assert!(after.redelivered, "{name}");
        assert_eq!(after.stamp, Some(STAMP), "{name}");
        let mut expected = json(&data);
        expected["headers"]["redelivered"] = true.into();
        expected["properties"]["delivery_info"]["redelivered"] = true.into();
        expected["celeriac"] = serde_json::json!([STAMP.order, STAMP.deliveries]);
        assert_eq!(json(&back), expected, "{name}");
    }
}

#[test]
fn kombu_marks_the_same_places() {
    let mut restored = 0;
    for name in ["reject_requeue", "restore_on_channel_close", "restore_visible", "worker_unacked_and_warm_shutdown"] {
        for command in case(ENVELOPES, name)["commands"].as_array().unwrap() {
            if !matches!(command[0].as_str(), Some("LPUSH" | "RPUSH")) {
                continue;
            }
            let kombus = command[2].as_str().unwrap();
            let read = decode(kombus.as_bytes()).unwrap();
            assert!(read.redelivered && read.stamp.is_none(), "{name}");
            // As it was before kombu marked it.
            let plain = kombus.replace(r#", "redelivered": true"#, "").replace(r#"{"redelivered": true}"#, "{}");
            let expected = kombus.strip_suffix('}').unwrap().to_owned() + r#", "celeriac": [1, 2]}"#;
            assert_eq!(text(plain.as_bytes(), Stamp { order: 1, deliveries: 2 }), expected, "{name}");
            assert_eq!(text(kombus.as_bytes(), Stamp { order: 1, deliveries: 2 }), expected, "{name}");
            restored += 1;
        }
    }
    assert!(restored > 8, "only {restored} envelopes were found");
}

#[test]
fn a_stamp_replaces_the_one_before_wherever_it_stands() {
    let stamp = Stamp { order: 3, deliveries: 1 };
    let expected = r#"{"x": 1, "body": "", "celeriac": [3, 1]}"#;
    for data in [
        r#"{"x": 1, "body": ""}"#,
        r#"{"x": 1, "body": "", "celeriac": [1, 2]}"#,
        r#"{"x": 1, "celeriac": [1, 2], "body": ""}"#,
        r#"{"celeriac": [1, 2], "x": 1, "body": ""}"#,
        r#"{"celeriac": [1, 2], "celeriac": "odd", "x": 1, "celeriac": {}, "body": "", "celeriac": null}"#,
        "{\"x\": 1, \"body\": \"\"} \n",
    ] {
        assert_eq!(text(data.as_bytes(), stamp), expected, "{data}");
    }
}

#[test]
fn all_else_stays_byte_for_byte() {
    let stamp = Stamp { order: 1, deliveries: 2 };
    let data = r#" {"new" :1.50e+3,"headers":{ "redelivered":false,"\u00e9":[1,{"a":"}"}]},"body":"\u00e4",
        "properties":{"delivery_info":{},"priority":NaN}}"#;
    let expected = r#" {"new" :1.50e+3,"headers":{ "redelivered": true,"\u00e9":[1,{"a":"}"}]},"body":"\u00e4",
        "properties":{"delivery_info":{"redelivered": true},"priority":NaN}, "celeriac": [1, 2]}"#;
    assert_eq!(text(data.as_bytes(), stamp), expected);
    // Without a place for the mark the stamp alone tells that it came back.
    let bare = handed_back(br#"{"body": "x", "headers": null, "properties": {"delivery_info": 5}}"#, stamp);
    assert!(decode(&bare).unwrap().redelivered);
}

#[test]
fn what_is_no_envelope_goes_back_as_it_is() {
    for data in [&b"\xff\xfe"[..], b"", b"5", b"[]", b"{}", b"{\"x\": 1}", b"{\"body\": \"x\"", b"{\"body\": 1} 2"] {
        assert_eq!(handed_back(data, STAMP), data);
    }
}
