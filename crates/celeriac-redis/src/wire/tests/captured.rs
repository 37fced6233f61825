//! What was captured from Celery 5.7: `tests/vectors/` of the workspace.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(super) const ENVELOPES: &str = include_str!("../../../../../tests/vectors/redis_envelopes.json");
pub(super) const STRANGERS: &str = include_str!("../../../../../tests/vectors/foreign_interop_redis.json");
const CANVAS: &str = include_str!("../../../../../tests/vectors/canvas_redis.json");
const RETRIES: &str = include_str!("../../../../../tests/vectors/retry_republish.json");

/// The cases of one file.
pub(super) fn cases(file: &str) -> Vec<Value> {
    serde_json::from_str(file).unwrap()
}

/// The case `name` of a file.
pub(super) fn case(file: &str, name: &str) -> Value {
    cases(file).into_iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("no case `{name}`"))
}

/// The bytes that stood in Redis; `None` if the case has none.
pub(super) fn bytes(case: &Value) -> Option<Vec<u8>> {
    Some(STANDARD.decode(case["value_b64"].as_str()?).unwrap())
}

/// Every envelope that Python sent over Redis, by name; not those that it sent back.
pub(super) fn envelopes() -> Vec<(String, Vec<u8>)> {
    let sent = |case: Value| {
        let is_message = matches!(case["command"].as_str(), Some("LPUSH" | "PUBLISH"));
        let is_new = case["envelope"]["headers"].get("redelivered").is_none();
        (is_message && is_new).then(|| Some((case["name"].as_str()?.to_owned(), bytes(&case)?))).flatten()
    };
    [ENVELOPES, CANVAS, RETRIES].into_iter().flat_map(cases).filter_map(sent).collect()
}

/// The envelope `name` of the first file.
pub(super) fn envelope(name: &str) -> Vec<u8> {
    bytes(&case(ENVELOPES, name)).unwrap()
}

pub(super) fn json(data: &[u8]) -> Value {
    serde_json::from_slice(data).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(data)))
}
