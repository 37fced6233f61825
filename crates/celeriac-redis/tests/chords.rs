//! Groups and chords on a real server, beside what Python wrote: captured from celery 5.7.
#![allow(clippy::unwrap_used, reason = "a test that cannot reach its own server has failed")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use celeriac_core::{ContentType, ErrorKind, GroupId, Payload, ResultTuple, TaskId, TaskState};
use celeriac_redis::RedisStore;
use celeriac_redis::chord::{Chords, Claim, Part, Report};
use celeriac_serializer::{Msgpack, SerializerExt as _};
use celeriac_testkit::server::{RedisServer, Reply};
use common::{ask, open, until};
use tokio::sync::OnceCell;

const DAY: Duration = Duration::from_secs(86_400);
const FAILURE: &str = r#"{"exc_type": "ValueError", "exc_message": ["hdr"], "exc_module": "builtins"}"#;
/// What Python saved of a chord whose header has a group in it: `chord_header_group_result`.
const GROUP: &str = r#"{"result": [["e9aef9e8-afa8-4f4a-afd2-abae922509f2", null], [[["f4fb010e-2bd5-42fc-bece-4ba6d4fa5fb0", [["e163f2e3-395f-45b8-a1ab-6207cf4cd34e", null], null]], [[["5c524c2a-3e0c-41da-b2cb-71ac4250dd0c", null], null], [["d31b38a3-8092-43d9-bed6-9c345a95c2eb", null], null]]], [["2bb2c4e3-be51-487b-bdaf-5a6c3ffc7203", null], null]]]}"#;

/// The one server of this process.
async fn server() -> &'static RedisServer {
    static SERVER: OnceCell<RedisServer> = OnceCell::const_new();
    SERVER.get_or_init(RedisServer::start).await
}

async fn store() -> RedisStore {
    open(common::config(server().await)).await
}

async fn chords() -> Chords {
    store().await.chords()
}

fn json(text: &str) -> Option<Payload> {
    Some(Payload { content_type: ContentType::JSON, data: text.to_owned().into() })
}

/// A success whose result is this JSON.
fn part(task: &str, result: &str) -> Part {
    Part::new(task.parse().unwrap(), TaskState::Success, json(result))
}

fn report(group: &GroupId, index: i64, part: Part) -> Report {
    Report::new(group.clone(), Some(index), part).expires(DAY).result_expires(DAY)
}

fn key(group: &GroupId, end: &str) -> String {
    format!("celery-taskset-meta-{group}{end}")
}

/// The keys of a chord by their ends: type, value, seconds to live.
async fn state(group: &GroupId) -> BTreeMap<&'static str, (String, Vec<String>, i64)> {
    let server = server().await;
    let mut found = BTreeMap::new();
    for end in ["", ".c", ".d", ".j", ".s", ".t"] {
        let key = key(group, end);
        let kind = ask(server, &["TYPE", &key]).await;
        let value = match kind.as_str() {
            "none" => continue,
            "string" => vec![ask(server, &["GET", &key]).await],
            "set" => {
                let mut members = server.command(&["SMEMBERS", &key]).await.texts();
                members.sort();
                members
            }
            _ => server.command(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]).await.texts(),
        };
        let Reply::Integer(life) = server.command(&["TTL", &key]).await else { panic!("no time to live") };
        found.insert(end, (kind, value, life));
    }
    found
}

/// Whether a key is of this type and value, and lives so long, less what the test has taken.
fn is(found: &(String, Vec<String>, i64), kind: &str, value: &[&str], life: i64) {
    assert_eq!(
        (found.0.as_str(), &found.1[..]),
        (kind, &value.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>()[..])
    );
    assert!((life - 60..=life).contains(&found.2), "{found:?} does not live {life} seconds");
}

/// A chord of so many parts, all there; who got the claim, for so long.
async fn complete(chords: &Chords, size: i64, lasts: Duration) -> (GroupId, Claim) {
    let group = GroupId::random();
    chords.expect(&group, size.unsigned_abs(), Some(DAY)).await.unwrap();
    let mut claims = Vec::new();
    for index in 0..size {
        claims
            .extend(chords.report(&report(&group, index, part(&format!("t{index}"), "1")).claim(lasts)).await.unwrap());
    }
    assert_eq!(claims.len(), 1);
    (group, claims.pop().unwrap())
}

#[tokio::test]
async fn a_chord_has_the_keys_types_values_and_lives_that_celery_gives_it() {
    let (chords, group) = (chords().await, GroupId::random());
    // `chord_simple:mid`, then `chord_simple:after`.
    let (first, last) = ("bed9372b-879d-4639-bd0d-f841fe697809", "cd1e6111-6a26-4cec-90d0-40f146fdfbea");
    chords.expect(&group, 2, Some(DAY)).await.unwrap();
    assert_eq!(chords.report(&report(&group, 0, part(first, "2"))).await.unwrap(), None);
    let found = state(&group).await;
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [".d", ".j", ".s"]);
    is(&found[".d"], "set", &["bed9372b-879d-4639-bd0d-f841fe697809:0"], 86_400);
    is(&found[".j"], "zset", &[r#"[1, "bed9372b-879d-4639-bd0d-f841fe697809", "SUCCESS", 2]"#, "0"], 86_400);
    is(&found[".s"], "string", &["2"], 86_400);

    let claim = chords.report(&report(&group, 1, part(last, r#""slept""#))).await.unwrap().unwrap();
    let claimed = &state(&group).await[".c"];
    assert!(claimed.1[0].len() == 32 && (1..=6).contains(&claimed.2), "{claimed:?}");
    assert_eq!(chords.parts(claim.group()).await.unwrap(), [part(first, "2"), part(last, r#""slept""#)]);
    assert!(chords.extend(&claim, Duration::from_secs(21)).await.unwrap());
    assert!((15..=21).contains(&state(&group).await[".c"].2));
    assert!(chords.finish(&claim).await.unwrap());
    let found = state(&group).await;
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [".c"]);
    is(&found[".c"], "string", &["done"], 300);
}

#[tokio::test]
async fn failed_parts_are_kept_with_their_state_and_a_failed_chord_is_left_as_celery_leaves_it() {
    let (chords, group) = (chords().await, GroupId::random());
    // `chord_header_fails:after`.
    let failed = Part::new(TaskId::from_static("0084c248"), TaskState::Failure, json(FAILURE));
    let revoked = Part::new(TaskId::from_static("2b"), TaskState::Revoked, json(FAILURE));
    chords.expect(&group, 3, Some(DAY)).await.unwrap();
    assert_eq!(chords.report(&report(&group, 1, failed.clone())).await.unwrap(), None);
    assert_eq!(chords.report(&report(&group, 2, revoked.clone())).await.unwrap(), None);
    let claim = chords.report(&report(&group, 0, part("fe90f76f", "2"))).await.unwrap().unwrap();
    assert_eq!(chords.parts(&group).await.unwrap(), [part("fe90f76f", "2"), failed.clone(), revoked]);
    let written = format!(r#"[1, "0084c248", "FAILURE", {FAILURE}]"#);
    assert_eq!(ask(server().await, &["ZSCORE", &key(&group, ".j"), &written]).await, "1");

    chords.fail(&claim).await.unwrap();
    assert_eq!(state(&group).await.keys().copied().collect::<Vec<_>>(), [".c", ".d", ".j"]);
    server().await.command(&["DEL", &key(&group, ".c")]).await;
    assert_eq!(chords.report(&report(&group, 1, failed)).await.unwrap(), None, "it fails once");
    assert!(!chords.extend(&claim, DAY).await.unwrap());
}

#[tokio::test]
async fn a_part_counts_once_by_its_index_however_often_and_with_whatever_it_is_reported() {
    let (chords, group) = (chords().await, GroupId::random());
    chords.expect(&group, 3, None).await.unwrap();
    for result in ["1", "2", "2"] {
        assert_eq!(chords.report(&report(&group, 0, part("a", result))).await.unwrap(), None);
    }
    assert_eq!(chords.parts(&group).await.unwrap(), [part("a", "1")]);
    // One task may stand twice in a header, and a part without an index comes last.
    let no_index = Report::new(group.clone(), None, part("last", "9"));
    assert_eq!(chords.report(&no_index).await.unwrap(), None);
    assert!(chords.report(&report(&group, 1, part("a", "3"))).await.unwrap().is_some());
    assert_eq!(chords.parts(&group).await.unwrap(), [part("a", "1"), part("a", "3"), part("last", "9")]);
    let counted = &state(&group).await[".d"].1;
    assert_eq!(*counted, ["a:0", "a:1", "last:+inf"]);
    assert_eq!(chords.report(&no_index).await.unwrap(), None, "the claim is taken");
}

#[tokio::test]
async fn parts_may_be_reported_before_the_chord_is_expected() {
    let (chords, group) = (chords().await, GroupId::random());
    let of = |index: i64| report(&group, index, part(&format!("t{index}"), "1"));
    assert_eq!(chords.report(&of(0)).await.unwrap(), None);
    chords.expect(&group, 2, Some(DAY)).await.unwrap();
    assert!(chords.report(&of(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn one_of_fifty_concurrent_reporters_gets_the_claim() {
    let group = GroupId::random();
    let stores = [store().await, store().await];
    stores[0].chords().expect(&group, 50, Some(DAY)).await.unwrap();
    let reporting = (0..50_i64).flat_map(|index| {
        stores.each_ref().map(|store| {
            let (chords, report) =
                (store.chords(), report(&group, index, part(&format!("t{index:02}"), &index.to_string())));
            tokio::spawn(async move { chords.report(&report).await.unwrap() })
        })
    });
    let mut claims = Vec::new();
    for one in reporting.collect::<Vec<_>>() {
        claims.extend(one.await.unwrap());
    }
    assert_eq!(claims.len(), 1);
    let parts = stores[1].chords().parts(&group).await.unwrap();
    let wanted: Vec<Part> = (0..50).map(|index| part(&format!("t{index:02}"), &index.to_string())).collect();
    assert_eq!(parts, wanted);
}

#[tokio::test]
async fn a_claim_that_expired_is_got_by_who_reports_again_and_binds_the_first_no_more() {
    let chords = chords().await;
    let (group, first) = complete(&chords, 2, Duration::from_secs(1)).await;
    until(server().await, &["EXISTS", &key(&group, ".c")], "0").await;
    let second = chords.report(&report(&group, 1, part("t1", "1"))).await.unwrap().unwrap();
    assert_ne!(first, second);
    assert!(!chords.extend(&first, DAY).await.unwrap());
    assert!(!chords.finish(&first).await.unwrap());
    assert_eq!(chords.parts(&group).await.unwrap().len(), 2);
    assert!(chords.finish(&second).await.unwrap());
}

#[tokio::test]
async fn an_expired_claim_that_nobody_took_is_extended() {
    let chords = chords().await;
    let (group, claim) = complete(&chords, 1, Duration::from_secs(1)).await;
    until(server().await, &["EXISTS", &key(&group, ".c")], "0").await;
    assert!(chords.extend(&claim, Duration::from_secs(30)).await.unwrap());
    assert!(chords.finish(&claim).await.unwrap());
}

#[tokio::test]
async fn a_late_duplicate_changes_nothing_and_a_new_run_of_the_group_begins_anew() {
    let chords = chords().await;
    let (group, claim) = complete(&chords, 2, DAY).await;
    assert!(chords.finish(&claim).await.unwrap());
    assert_eq!(chords.report(&report(&group, 0, part("t0", "1"))).await.unwrap(), None);
    assert_eq!(state(&group).await.keys().copied().collect::<Vec<_>>(), [".c"]);
    assert!(!chords.extend(&claim, DAY).await.unwrap() && !chords.finish(&claim).await.unwrap());
    chords.expect(&group, 1, Some(DAY)).await.unwrap();
    assert!(chords.report(&report(&group, 0, part("t0", "1"))).await.unwrap().is_some());
}

#[tokio::test]
async fn what_was_added_to_a_chord_is_waited_for() {
    let (chords, group) = (chords().await, GroupId::random());
    chords.expect(&group, 1, Some(DAY)).await.unwrap();
    // As `add_to_chord` of Celery does it.
    server().await.command(&["INCR", &key(&group, ".t")]).await;
    assert_eq!(chords.report(&report(&group, 0, part("a", "1"))).await.unwrap(), None);
    is(&state(&group).await[".t"], "string", &["1"], 86_400);
    let claim = chords.report(&report(&group, 1, part("b", "2"))).await.unwrap().unwrap();
    assert!(chords.finish(&claim).await.unwrap());
    assert_eq!(state(&group).await.keys().copied().collect::<Vec<_>>(), [".c"]);
}

#[tokio::test]
async fn the_saved_group_lives_as_long_as_results_and_the_chord_do() {
    let (chords, group) = (chords().await, GroupId::random());
    let tuple = ResultTuple { id: group.to_string(), parent: None, children: Some(Vec::new()) };
    chords.save_group(&group, &tuple, None).await.unwrap();
    let short = Report::new(group.clone(), Some(0), part("a", "1")).expires(Duration::from_millis(999_500));
    chords.report(&short).await.unwrap();
    let found = state(&group).await;
    assert_eq!(found[""].2, -1, "results are kept for ever");
    assert!((900..=1_000).contains(&found[".j"].2));
    chords.report(&short.result_expires(DAY)).await.unwrap();
    assert!(state(&group).await[""].2 > 86_000);
}

#[tokio::test]
async fn a_group_is_saved_to_the_letter_as_python_does_it_and_read_back() {
    let (chords, group) = (chords().await, GroupId::from_static("e9aef9e8-afa8-4f4a-afd2-abae922509f2"));
    assert_eq!(chords.group(&group).await.unwrap(), None);
    server().await.command(&["SET", &key(&group, ""), GROUP]).await;
    let saved = chords.group(&group).await.unwrap().unwrap();
    assert_eq!(saved.id, *group);
    let children = saved.children.as_ref().unwrap();
    assert_eq!(children[0].parent.as_ref().unwrap().id, "e163f2e3-395f-45b8-a1ab-6207cf4cd34e");
    assert_eq!((children[0].children.as_ref().unwrap().len(), &children[1].children), (2, &None));
    chords.save_group(&group, &saved, Some(DAY)).await.unwrap();
    is(&state(&group).await[""], "string", &[GROUP], 86_400);
    chords.forget_group(&group).await.unwrap();
    assert_eq!(chords.group(&group).await.unwrap(), None);
    server().await.command(&["SET", &key(&group, ""), r#"{"result": 5}"#]).await;
    let error = chords.group(&group).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains(group.as_str()), "{error}");
    chords.forget_group(&group).await.unwrap();
}

#[tokio::test]
async fn parts_in_msgpack_are_kept_so_and_those_in_other_formats_are_refused() {
    let (chords, group) = (chords().await, GroupId::random());
    let of = |content_type, data: Vec<u8>| {
        Part::new(TaskId::from_static("m"), TaskState::Success, Some(Payload { content_type, data: data.into() }))
    };
    let packed = of(ContentType::MSGPACK, Msgpack.to_bytes(&[1, 2]).unwrap());
    chords.report(&report(&group, 0, packed.clone())).await.unwrap();
    assert_eq!(chords.parts(&group).await.unwrap(), [packed]);
    for (wrong, kind) in [
        (of(ContentType::BINCODE, vec![1]), ErrorKind::Unsupported),
        (of(ContentType::YAML, b"1".to_vec()), ErrorKind::Unsupported),
        (of(ContentType::JSON, b"1]".to_vec()), ErrorKind::Malformed),
        (of(ContentType::JSON, vec![b'"', 0xff, b'"']), ErrorKind::Malformed),
        (of(ContentType::MSGPACK, vec![0x92, 1]), ErrorKind::Malformed),
    ] {
        let error = chords.report(&report(&group, 1, wrong)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.report());
        assert!(error.to_string().contains("task `m`"), "{error}");
    }
    assert_eq!(chords.parts(&group).await.unwrap().len(), 1);
    // As Celery has it, when told to keep no order.
    server().await.command(&["DEL", &key(&group, ".j")]).await;
    server().await.command(&["RPUSH", &key(&group, ".j"), "[]"]).await;
    assert_eq!(chords.parts(&group).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(chords.report(&report(&group, 1, part("a", "1"))).await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn chords_are_closed_with_the_result_backend() {
    let store = store().await;
    let (chords, group) = (store.chords(), GroupId::random());
    store.broker().close().await.unwrap();
    chords.expect(&group, 1, Some(DAY)).await.unwrap();
    store.backend().close().await.unwrap();
    assert_eq!(chords.expect(&group, 1, Some(DAY)).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
