//! Beats in processes of their own over one store, and what they send, to the second.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac::broker::{ConsumeOptions, Verb, settle_all};
use celeriac::prelude::*;
use celeriac::{CatchUp, Entry, QueueName, TaskId};
use celeriac_testkit::unique;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::{signal, until};

/// How long a leader that died is waited for.
const LEASE: Duration = Duration::from_millis(600);
/// How many beats run at once.
const BEATS: usize = 3;
/// How many entries there are: each comes once a second, and they share the second out among them.
const ENTRIES: usize = 10;
const APART: Duration = Duration::from_millis(100);
/// What a beat's process says once a signal would be heard.
pub const LISTENS: &str = "signals are listened to";
/// The task that is sent behind all ticks.
const END: &str = "end";
/// Where all are sent to.
const QUEUE: &str = "ticks";

fn queue() -> QueueName {
    QueueName::from_static(QUEUE)
}

/// A process, and what it has said.
#[derive(Debug)]
struct Beat {
    process: Child,
    log: PathBuf,
}

impl Beat {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How often it has said `words`.
    fn times(&self, words: &str) -> usize {
        self.said().matches(words).count()
    }

    /// How often it has ceased to lead, other than by being stopped.
    fn losses(&self) -> usize {
        self.times("no longer leading")
    }

    /// Whether it leads, as far as it knows.
    fn leads(&self) -> bool {
        self.times(": leading term=") > self.losses()
    }

    /// The last term that it has led in.
    fn term(&self) -> Option<u64> {
        let said = self.said();
        let terms = said.lines().filter_map(|line| line.split_once("leading term=")?.1.split(' ').next()?.parse().ok());
        terms.max()
    }
}

/// Beats over one store, and entries that come once a second.
#[derive(Debug)]
pub struct Beats {
    app: App,
    beater: String,
    url: String,
    folder: tempfile::TempDir,
    beats: Vec<Beat>,
    /// The latest term that is known.
    term: u64,
    ticks: Arc<Mutex<Vec<(String, TaskId)>>>,
    taking: JoinHandle<celeriac::Result<()>>,
}

impl Beats {
    /// Starts them over the store at `url`. `beater` is the path of their program.
    ///
    /// # Panics
    /// If they do not start.
    pub async fn start(beater: &str, url: &str) -> Self {
        let app = App::builder("beats").read_env(false).broker_url(url).build().await.expect("the store opens");
        let ticks = Arc::default();
        let taking = tokio::spawn(take(app.clone(), Arc::clone(&ticks)));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (beater, url) = (beater.to_owned(), url.to_owned());
        let mut all = Self { app, beater, url, folder, beats: Vec::new(), term: 0, ticks, taking };
        for _ in 0..BEATS {
            let beat = all.beat();
            all.beats.push(beat);
        }
        let schedule = all.app.schedule().expect("the store keeps schedules");
        for number in 0..ENTRIES {
            let name = format!("tick-{number}");
            let task = Signature::new(name.clone().try_into().expect("a name")).option("queue", QUEUE);
            let often = every(1.seconds()).build().expect("a schedule");
            let entry = Entry::new(name.try_into().expect("a name"), often, task).catch_up(CatchUp::All);
            schedule.put(&entry).await.expect("the store takes entries");
            tokio::time::sleep(APART).await; // wait: an entry's seconds begin when it is added
        }
        all
    }

    fn beat(&self) -> Beat {
        let log = self.folder.path().join(unique("log"));
        let file = std::fs::File::create(&log).expect("a log that can be written");
        let process = Command::new(&self.beater)
            .args([&self.url, &LEASE.as_millis().to_string()])
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("a beat's process starts");
        Beat { process, log }
    }

    /// The beat of the latest term after the one that is known, and that term.
    fn newest(&self) -> Option<(u64, usize)> {
        let terms = self.beats.iter().enumerate().filter_map(|(place, beat)| Some((beat.term()?, place)));
        terms.max().filter(|(term, _)| *term > self.term)
    }

    /// Waits until another has begun to lead, and tells its place among the beats.
    async fn next_leader(&mut self) -> usize {
        until("another leads", async || self.newest().is_some()).await;
        let (term, place) = self.newest().expect("it was waited for");
        self.term = term;
        place
    }

    /// Kills the leader, by SIGKILL, so many times; each is replaced.
    ///
    /// # Panics
    /// If no other takes over.
    pub async fn kill_leaders(&mut self, times: usize) {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..times {
            let leader = self.next_leader().await;
            tokio::time::sleep(Duration::from_millis(random.u64(0..250))).await; // wait: it dies at any point of what it does
            self.beats[leader].process.kill().await.expect("it ran");
            self.beats[leader] = self.beat();
        }
        self.next_leader().await;
    }

    /// Halts the leader until another has led for some seconds, and sees it wake up.
    ///
    /// # Panics
    /// If no other takes over, or the halted one does not notice.
    pub async fn halt_leader(&mut self) {
        let mut halted = self.next_leader().await;
        loop {
            let sent = self.count();
            until("it sends", async || self.count() > sent).await;
            signal(&self.beats[halted].process, rustix::process::Signal::STOP);
            let taken_over = async { until("another leads", async || self.newest().is_some()).await };
            let is_taken_over = tokio::time::timeout(LEASE * 10, taken_over).await.is_ok();
            if is_taken_over && self.beats[halted].leads() {
                break;
            }
            // One that is halted while it writes to a file has locked it: nobody sends anything then. Or it had lost its lease just before.
            signal(&self.beats[halted].process, rustix::process::Signal::CONT);
            if self.newest().is_some() {
                halted = self.next_leader().await;
            }
        }
        let leader = self.next_leader().await;
        assert_ne!(leader, halted);
        let sent = self.count();
        until("the other sends", async || self.count() > sent + 3 * ENTRIES).await;
        let losses = self.beats[halted].losses();
        signal(&self.beats[halted].process, rustix::process::Signal::CONT);
        until("it sees that it leads no more", async || self.beats[halted].losses() > losses).await;
        let sent = self.count();
        until("the other goes on", async || self.count() > sent + 2 * ENTRIES).await;
    }

    fn count(&self) -> usize {
        self.ticks.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Stops them all, and checks that each entry came once a second from the first time on, and never twice.
    ///
    /// # Panics
    /// If not.
    pub async fn each_second_came_once(mut self) {
        for beat in &self.beats {
            until("it listens to signals", async || beat.times(LISTENS) > 0).await;
            signal(&beat.process, rustix::process::Signal::TERM);
        }
        for beat in &mut self.beats {
            assert!(beat.process.wait().await.expect("it ran").success());
        }
        // Nobody sends any more. The queue is first in, first out, and has one consumer: what comes behind all ticks comes last.
        self.app.send(Signature::named(END).option("queue", QUEUE)).await.expect("it is sent");
        let ticks = || self.ticks.lock().unwrap_or_else(PoisonError::into_inner);
        until("all is taken", async || ticks().last().is_some_and(|(name, _)| name == END)).await;
        self.taking.abort();
        let mut ticks = ticks().clone();
        ticks.pop();
        let mut entries: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for (name, id) in &ticks {
            // An id begins with the time that it is for, in milliseconds.
            let due = u64::from_str_radix(&id.replace('-', "")[..12], 16).expect("an id of a tick");
            assert!(entries.entry(name.clone()).or_default().insert(due), "{name} came twice for {due}");
        }
        assert_eq!(entries.len(), ENTRIES);
        let schedule = self.app.schedule().expect("the store keeps schedules");
        for (name, dues) in entries {
            let known = schedule.get(&name.clone().try_into().expect("a name")).await.expect("the store answers");
            let known = known.expect("the entry is there");
            let first = known.since.as_micros() / 1_000 + 1_000;
            let seconds = (0..dues.len() as i64).map(|second| first + second * 1_000);
            assert!(dues.iter().map(|due| *due as i64).eq(seconds), "{name}: one is missing: {dues:?} from {first}");
            assert_eq!(known.count, dues.len() as u64, "{name}");
            assert_eq!(known.last, known.last_sent, "{name}");
        }
        self.app.close().await.expect("it closes");
    }
}

/// Takes what is sent, until it is dropped.
async fn take(app: App, ticks: Arc<Mutex<Vec<(String, TaskId)>>>) -> celeriac::Result<()> {
    app.broker().declare(&celeriac::QueueSpec::direct(queue())).await?;
    let mut consumer = app.broker().consume(ConsumeOptions::new([queue()])).await?;
    loop {
        let deliveries = consumer.recv(std::num::NonZeroUsize::MIN.saturating_add(99)).await?;
        let mut acks = Vec::new();
        for delivery in deliveries {
            let task = delivery.message.headers.task().map(|task| (task.task.to_string(), task.id.clone()));
            acks.push((delivery.into_receipt(), Verb::Ack));
            ticks.lock().unwrap_or_else(PoisonError::into_inner).extend(task);
        }
        settle_all(acks).await.map_err(|unsettled| unsettled.error)?;
    }
}
