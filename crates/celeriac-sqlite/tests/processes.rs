//! Several processes on one database: the test binary starts itself again for each.
#![cfg(unix)]

mod common;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use celeriac_broker::{Completion, Verb, settle_all};
use celeriac_core::{EntryName, StoreResult, TaskId, TaskMeta, TaskState};
use celeriac_schedule::{Advance, Condition, Lead, Put, Revision, ScheduleStore, Step, Stepped};
use celeriac_sqlite::SqliteConfig;
use celeriac_testkit::soon;
use common::*;
use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "CELERIAC_SQLITE_TEST_ROLE";
const DATABASE: &str = "CELERIAC_SQLITE_TEST_DATABASE";
const LEASE: Duration = Duration::from_secs(1);

fn entry() -> EntryName {
    EntryName::from_static("entry")
}

/// Another process. Killed when it is dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(role: &str, database: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a test has a binary"))
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(DATABASE, database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let input = child.stdin.take().expect("it has an input");
        let output = BufReader::new(child.stdout.take().expect("it has an output")).lines();
        Self { child, input, output }
    }

    /// The next thing it says; `None` at its end.
    fn hear(&mut self) -> Option<String> {
        loop {
            let line = self.output.next()?.expect("it says text");
            // What the test harness says in between is not meant for us.
            if let Some((_, said)) = line.split_once("> ") {
                return Some(said.to_owned());
            }
        }
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.input, "{word}").expect("it listens");
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("it has an id");
        kill_process(pid, signal).expect("it gets the signal");
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, perhaps.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "> {word}").and_then(|()| out.flush()).expect("the parent listens");
}

fn asked() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the parent speaks");
    line.trim().to_owned()
}

/// What the other processes do; in the tests' own process, nothing.
#[tokio::test]
async fn child() {
    let (Ok(role), Ok(path)) = (std::env::var(ROLE), std::env::var(DATABASE)) else { return };
    let jobs = queue("jobs");
    let store = open(SqliteConfig::new(path).lease(LEASE)).await;
    match role.as_str() {
        "hold" => {
            let mut consumer = consumer(&store, &jobs).await;
            let held = take(&mut consumer, 2).await;
            say("held");
            if asked() == "settle" {
                let id = TaskId::new("late").unwrap();
                let done = || {
                    let result = StoreResult::new(TaskMeta::new(id.clone(), TaskState::Success));
                    Completion::new().result(result).then(outgoing("late", &queue("next")))
                };
                let batch = held.into_iter().map(|one| (one.into_receipt(), Verb::Complete(Box::new(done()))));
                settle_all(batch.collect()).await.expect("lost deliveries are passed over");
                say("settled");
            }
            asked();
        }
        "echo" => {
            let mut consumer = consumer(&store, &jobs).await;
            say("ready");
            loop {
                let delivery = one(&mut consumer).await;
                let echo = outgoing(text(&delivery), &queue("echo"));
                delivery.complete(Completion::new().then(echo)).await.unwrap();
            }
        }
        "produce" => {
            for n in 0.. {
                let body = format!("{}-{n}", std::process::id());
                store.broker().publish(vec![outgoing(body.clone(), &jobs)]).await.unwrap();
                say(&body);
            }
        }
        "consume" => {
            let mut consumer = consumer(&store, &jobs).await;
            loop {
                for delivery in take(&mut consumer, 1).await {
                    let body = text(&delivery);
                    delivery.ack().await.unwrap();
                    say(&body);
                }
            }
        }
        "store" => {
            say("ready");
            for n in 0..50 {
                asked();
                let id = TaskId::new(format!("task-{n}")).unwrap();
                let meta = TaskMeta::new(id, TaskState::Success);
                store.backend().store(vec![StoreResult::new(meta)]).await.unwrap();
            }
        }
        "advance" => {
            let schedule = store.schedule();
            let Lead::Leading(term) = schedule.lead(&std::process::id().to_string(), Duration::ZERO).await.unwrap()
            else {
                panic!("no lease is longer than nothing")
            };
            loop {
                let now = schedule.get(&entry()).await.unwrap().unwrap();
                let ticks = vec![outgoing("tick", &jobs), outgoing("tock", &jobs)];
                let step = Step::new(entry(), now.revision, now.steps, "state").publishing(ticks);
                let advanced = schedule.advance(term, vec![step]).await.unwrap();
                assert!(
                    matches!(advanced, Advance::Stepped(ref one) if matches!(one[..], [Stepped::Done])),
                    "{advanced:?}"
                );
                say("taken");
            }
        }
        "change" => {
            let schedule = store.schedule();
            say("ready");
            for n in 0.. {
                if asked() == "put" {
                    schedule.put(&entry(), n.to_string().into(), Condition::Always).await.unwrap();
                } else {
                    let lead = schedule.lead("child", Duration::from_secs(3_600)).await.unwrap();
                    let Lead::Leading(term) = lead else { panic!("nobody else leads") };
                    schedule.resign(term).await.unwrap();
                }
            }
        }
        other => panic!("no role {other}"),
    }
}

#[tokio::test]
async fn what_a_killed_process_held_comes_back_within_seconds() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    publish(&store, &jobs, &["a", "b", "c"]).await;
    let mut other = Process::start("hold", &place.path());
    assert_eq!(other.hear().as_deref(), Some("held"));
    let mut consumer = consumer(&store, &jobs).await;
    let last = one(&mut consumer).await;
    assert_eq!(text(&last), "c");
    last.ack().await.unwrap();
    other.kill();
    let start = Instant::now();
    let back = take(&mut consumer, 2).await;
    let took = start.elapsed();
    assert_eq!(back.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    assert!(back.iter().all(|one| one.redelivered && one.delivery_count == Some(2)));
    assert!(took < Duration::from_secs(5), "by the death, not by the lease of ten seconds: {took:?}");
}

#[tokio::test]
async fn a_new_process_recovers_what_a_killed_one_held() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    publish(&place.open().await, &jobs, &["a", "b"]).await;
    let mut other = Process::start("hold", &place.path());
    assert_eq!(other.hear().as_deref(), Some("held"));
    other.kill();
    let store = place.open().await;
    let mut consumer = consumer(&store, &jobs).await;
    assert_eq!(take(&mut consumer, 2).await.len(), 2);
    store.close().await.unwrap();
    let beside = std::fs::read_dir(place.directory.path().join("jobs.db.d")).unwrap().count();
    assert_eq!(beside, 1, "lock and socket of the dead are gone");
}

#[tokio::test]
async fn a_stopped_process_loses_what_it_holds_and_settles_nothing() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = open(place.config().lease(LEASE)).await;
    publish(&store, &jobs, &["a", "b"]).await;
    let mut other = Process::start("hold", &place.path());
    assert_eq!(other.hear().as_deref(), Some("held"));
    let mut consumer = consumer(&store, &jobs).await;
    // Alive, it keeps them for longer than its lease: it renews that.
    tokio::time::timeout(LEASE * 2, consumer.recv(ONE)).await.expect_err("they are held");
    let back = loop {
        other.signal(Signal::STOP);
        if let Ok(back) = tokio::time::timeout(LEASE * 10, take(&mut consumer, 2)).await {
            break back;
        }
        // One that is halted while it writes has locked the file: nobody gets anything then.
        other.signal(Signal::CONT);
    };
    assert!(back.iter().all(|one| one.redelivered));
    other.signal(Signal::CONT);
    other.tell("settle");
    assert_eq!(other.hear().as_deref(), Some("settled"));
    assert_eq!(store.broker().depth(&queue("next")).await.unwrap(), 0);
    assert_eq!(store.backend().fetch(&[TaskId::new("late").unwrap()]).await.unwrap(), [None]);
    let rest = back.into_iter().map(|one| (one.into_receipt(), Verb::Ack)).collect();
    settle_all(rest).await.unwrap();
}

#[tokio::test]
async fn a_message_wakes_another_process() {
    let place = Place::new();
    let store = place.open().await;
    let mut other = Process::start("echo", &place.path());
    assert_eq!(other.hear().as_deref(), Some("ready"));
    let mut consumer = consumer(&store, &queue("echo")).await;
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        publish(&store, &queue("jobs"), &["x"]).await;
        one(&mut consumer).await.ack().await.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    assert!(times[25] < Duration::from_millis(250), "there and back, woken and not polled: {:?}", times[25]);
}

#[tokio::test]
async fn a_result_wakes_another_process() {
    let place = Place::new();
    let store = place.open().await;
    let mut other = Process::start("store", &place.path());
    assert_eq!(other.hear().as_deref(), Some("ready"));
    let mut times = Vec::new();
    for n in 0..50 {
        let mut watch = store.backend().watch(&TaskId::new(format!("task-{n}")).unwrap()).await.unwrap();
        let start = Instant::now();
        other.tell("store");
        let record = soon(watch.next()).await.unwrap();
        times.push(start.elapsed());
        assert_eq!(record.state, TaskState::Success);
    }
    times.sort();
    assert!(times[25] < Duration::from_millis(250), "woken and not polled: {:?}", times[25]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_message_is_lost_when_processes_are_killed() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    let (mut sent, mut done) = (HashSet::new(), HashSet::new());
    for round in 0..3 {
        let mut producers: Vec<_> = (0..2).map(|_| Process::start("produce", &place.path())).collect();
        let mut worker = Process::start("consume", &place.path());
        for _ in 0..30 {
            for producer in &mut producers {
                sent.insert(producer.hear().expect("it produces"));
            }
            if round > 0 {
                done.insert(worker.hear().expect("it consumes"));
            }
        }
        // What they said and nobody has heard yet counts as well.
        for process in producers.iter_mut().chain([&mut worker]) {
            process.kill();
        }
        for mut producer in producers {
            sent.extend(std::iter::from_fn(|| producer.hear()));
        }
        done.extend(std::iter::from_fn(|| worker.hear()));
    }
    let mut consumer = consumer(&store, &jobs).await;
    let count = raw(&place.path())
        .query_row("SELECT count(*) FROM message", [], |row| row.get::<_, i64>(0))
        .map(|count| usize::try_from(count).unwrap())
        .unwrap();
    let rest = take(&mut consumer, count).await;
    let rest: HashSet<_> = rest.into_iter().map(|one| text(&one)).collect();
    assert_eq!(rest.len(), count, "none is there twice");
    // A message may be acknowledged and its process killed before it says so; but each worker says one at a time.
    let lost = sent.iter().filter(|body| !rest.contains(*body) && !done.contains(*body)).count();
    assert!(lost <= 3, "{lost} of {} accepted messages are neither done nor waiting", sent.len());
    assert!(rest.intersection(&done).next().is_none(), "what was acknowledged stays gone");
    let sound: String = raw(&place.path()).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[tokio::test]
async fn a_change_of_the_schedule_wakes_another_process() {
    let place = Place::new();
    let schedule = place.open().await.schedule();
    let mut other = Process::start("change", &place.path());
    assert_eq!(other.hear().as_deref(), Some("ready"));
    let mut latest = Revision(1);
    for word in ["put", "resign"] {
        let mut times = Vec::new();
        for _ in 0..50 {
            let mut waiting = std::pin::pin!(schedule.changed(latest));
            // What another process did before is news too, once.
            if tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_ok() {
                waiting.set(schedule.changed(latest));
                let again = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
                again.expect_err("nothing has happened since");
            }
            let start = Instant::now();
            other.tell(word);
            soon(waiting).await.unwrap();
            times.push(start.elapsed());
            latest = revision(&*schedule).await;
        }
        times.sort();
        assert!(times[25] < Duration::from_millis(250), "{word}: woken and not polled: {:?}", times[25]);
    }
}

async fn revision(schedule: &dyn ScheduleStore) -> Revision {
    let found = schedule.get(&entry()).await.expect("an open store reads");
    found.expect("the entry is there").revision
}

#[tokio::test]
async fn whenever_a_leader_is_killed_each_step_has_published_its_messages() {
    let (place, jobs) = (Place::new(), queue("jobs"));
    let store = place.open().await;
    let schedule = store.schedule();
    let put = schedule.put(&entry(), "definition".into(), Condition::Always).await.unwrap();
    assert!(matches!(put, Put::Done(_)));
    let mut told = 0;
    for round in 0..6 {
        let mut leader = Process::start("advance", &place.path());
        for _ in 0..10 + round {
            assert_eq!(leader.hear().as_deref(), Some("taken"));
            told += 1;
        }
        leader.kill();
        let steps = schedule.get(&entry()).await.unwrap().unwrap().steps;
        assert!(steps >= told, "{told} of {steps} steps were told of");
        assert_eq!(store.broker().depth(&jobs).await.unwrap(), steps * 2, "two messages for each step, and no other");
    }
}
