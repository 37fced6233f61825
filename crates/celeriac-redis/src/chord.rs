//! Groups that are saved, and chords: their parts are counted, and whoever has the last one claims the body.
//!
//! The store's half of a chord, for whoever sends one or works on one; Python's Celery may do the other part of it. In the order of events:
//!
//! 1. The sender sends the header's tasks, each with the group and its index; before the last one it [expects](Chords::expect) so many parts.
//! 2. Whoever ends a task of the header stores its result, and [reports](Chords::report) it. Each part counts once, however often it is
//!    reported. One of those who report the last part gets the [`Claim`].
//! 3. Who holds the claim reads [the parts](Chords::parts), [extends](Chords::extend) the claim for as long as sending may take, sends the body
//!    and [finishes](Chords::finish). If a part has failed there is no body, and the chord [fails](Chords::fail).
//!
//! Who dies in between loses the claim when it expires; then whoever reports a part again gets it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(doc)]
use celeriac_core::ErrorKind;
use celeriac_core::{Error, GroupId, Payload, Result, ResultTuple, TaskId, TaskMeta, TaskState};
use celeriac_serializer::{Json, Msgpack, Serializer};
use deadpool_redis::redis::{self, Cmd, cmd};

use crate::error::unexpected;
use crate::script;
use crate::store::{Half, Inner, Shared};
use crate::wire::{meta, part};

/// How long a claim lasts until it is extended: Celery's `max(5, 2 * result_chord_join_timeout)`.
const CLAIM: Duration = Duration::from_secs(6);
/// How long it is remembered that a chord is done: late duplicates of its parts then change nothing.
const DONE: Duration = Duration::from_secs(300);

/// The groups and chords of a store. Cheap to clone; open as long as the store's result backend is.
///
/// # Errors
/// Every method fails with [`ErrorKind::Unavailable`] if the server refuses to store, or the store is closed; a lost connection is waited out.
///
/// # Cancel safety
/// Whether what was asked for has happened is not known when a future is dropped. Asking again does no harm; of [`Chords::report`] the claim
/// may be lost until it expires.
///
/// # Wire format
/// `celery/backends/redis.py` (celery 5.7), with `result_chord_ordered` as it is by default.
#[derive(Clone)]
pub struct Chords {
    inner: Arc<Inner>,
    /// Dropped with the last clone.
    used: Arc<()>,
}

/// One part of a chord: how a task of its header ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Part {
    /// The task.
    pub task_id: TaskId,
    /// Its state, one that [`TaskState::is_ready`].
    pub state: TaskState,
    /// The result, or an exception object if the state [is propagating](TaskState::is_propagating). In JSON or msgpack.
    pub result: Option<Payload>,
}

impl Part {
    /// A part that says how a task ended.
    #[must_use]
    pub fn new(task_id: TaskId, state: TaskState, result: Option<Payload>) -> Self {
        Self { task_id, state, result }
    }
}

impl From<&TaskMeta> for Part {
    fn from(meta: &TaskMeta) -> Self {
        Self::new(meta.task_id.clone(), meta.state.clone(), meta.result.clone())
    }
}

/// A part on its way to its chord.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The chord's header: the task's `group`.
    pub group: GroupId,
    /// The part's place in the header: the task's `group_index`. Those without one come last.
    pub index: Option<i64>,
    /// The part.
    pub part: Part,
    /// How long the chord is kept after its last report, in seconds, rounded up; for ever when `None`. Celery's `result_chord_expires`,
    /// a day.
    pub expires: Option<Duration>,
    /// How long results are kept. The saved group, if there is one, is kept as long as this and the chord.
    pub result_expires: Option<Duration>,
    /// How long the claim lasts, if this part gets it: 6 seconds by default, as Celery has it.
    pub claim: Duration,
}

impl Report {
    /// Reports `part` of `group`, which is kept for ever.
    #[must_use]
    pub fn new(group: GroupId, index: Option<i64>, part: Part) -> Self {
        Self { group, index, part, expires: None, result_expires: None, claim: CLAIM }
    }

    /// Sets how long the chord is kept.
    #[must_use]
    pub fn expires(mut self, after: Duration) -> Self {
        self.expires = Some(after);
        self
    }

    /// Sets how long results are kept.
    #[must_use]
    pub fn result_expires(mut self, after: Duration) -> Self {
        self.result_expires = Some(after);
        self
    }

    /// Sets how long the claim lasts.
    #[must_use]
    pub fn claim(mut self, lasts: Duration) -> Self {
        self.claim = lasts;
        self
    }
}

/// The right to send a chord's body, until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nobody else sends the chord's body until the claim expires"]
pub struct Claim {
    group: GroupId,
    token: String,
}

impl Claim {
    /// The chord's header.
    #[must_use]
    pub fn group(&self) -> &GroupId {
        &self.group
    }
}

impl Chords {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, used: Arc::default() }
    }

    pub(crate) fn used(&self) -> &Arc<()> {
        &self.used
    }

    /// The group that was saved under `id`, if any: its members, and theirs.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] naming the group that cannot be read; [`ErrorKind::Unsupported`] if it is neither in JSON nor in msgpack.
    pub async fn group(&self, id: &GroupId) -> Result<Option<ResultTuple>> {
        const GROUP: &str = "fetch group";
        let shared = self.shared(GROUP)?;
        let answer = self.inner.link.query(GROUP, cmd("GET").arg(shared.keys.group(id))).await?;
        let saved: Option<Vec<u8>> = redis::from_redis_value(answer).map_err(|error| unexpected(GROUP, error))?;
        let read = |saved: Vec<u8>| read_group(GROUP, &saved, shared.config.max_message_bytes);
        saved.map(read).transpose().map_err(|error| {
            Error::new(error.kind(), GROUP, format!("the group `{id}` cannot be read")).with_source(error)
        })
    }

    /// Saves a group, for the time of `expires`, in seconds rounded up, or for ever. Celery does so when asked to, and with a chord whose header
    /// has groups as members.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if it is over `max_message_bytes`.
    pub async fn save_group(&self, id: &GroupId, group: &ResultTuple, expires: Option<Duration>) -> Result<()> {
        const SAVE: &str = "save group";
        let shared = self.shared(SAVE)?;
        let mut value = b"{\"result\": ".to_vec();
        part::push_tuple(group, &mut value);
        value.push(b'}');
        shared.check_size(SAVE, value.len(), || format!("the group `{id}`"))?;
        self.inner.link.query(SAVE, &set(&shared.keys.group(id), &value, expires)).await?;
        Ok(())
    }

    /// Forgets a group that was saved: not its members, nor a chord.
    ///
    /// # Errors
    /// None but those of every method.
    pub async fn forget_group(&self, id: &GroupId) -> Result<()> {
        const FORGET: &str = "forget group";
        let shared = self.shared(FORGET)?;
        self.inner.link.query(FORGET, cmd("DEL").arg(shared.keys.group(id))).await?;
        Ok(())
    }

    /// Says of how many parts a chord is, for the time of `expires`, in seconds rounded up, or for ever. To be said before the last task of the
    /// header is sent; the others may have been reported before.
    ///
    /// The header of a chord that is finished becomes a new one's. One that has failed still counts its old parts, until they expire.
    ///
    /// # Errors
    /// None but those of every method.
    pub async fn expect(&self, group: &GroupId, size: u64, expires: Option<Duration>) -> Result<()> {
        const EXPECT: &str = "expect chord";
        let keys = self.shared(EXPECT)?.keys.chord(group);
        let mut both = redis::pipe();
        // No transaction: nobody can tell the claim from none before the size is there.
        both.cmd("DEL").arg(&keys.claim);
        both.add_command(set(&keys.size, size.to_string().as_bytes(), expires));
        self.inner.link.pipeline(EXPECT, &both).await?;
        Ok(())
    }

    /// Counts a part, by its task and index: once, however often it is reported, whatever it says then. Yields the claim if with it all
    /// parts are there, nobody has the claim, and the chord is not done.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if the result is neither in JSON nor in msgpack; [`ErrorKind::Malformed`] if it is not what it claims to
    /// be; [`ErrorKind::TooLarge`] if the part is over `max_message_bytes`. Nothing was counted then. [`ErrorKind::Config`] if keys of the
    /// chord are of another type, as with Celery's `result_chord_ordered` switched off.
    pub async fn report(&self, report: &Report) -> Result<Option<Claim>> {
        const REPORT: &str = "report part of chord";
        let shared = self.shared(REPORT)?;
        let Report { group, index, part, .. } = report;
        let mut value = Vec::new();
        part::encode(REPORT, &part.task_id, &part.state, part.result.as_ref(), &mut value)?;
        shared.check_size(REPORT, value.len(), || format!("the result of task `{}`", part.task_id))?;
        let index = index.map_or_else(|| "+inf".to_owned(), |index| index.to_string());
        let life = |life: Option<Duration>| life.map_or_else(String::new, |life| seconds(life).to_string());
        let group_life = report.result_expires.map(|life| life.max(report.expires.unwrap_or_default()));
        let claim = Claim { group: group.clone(), token: uuid::Uuid::new_v4().simple().to_string() };
        let claimed = self
            .run(REPORT, &claim, |command, _| {
                command.arg("report").arg(format!("{}:{index}", part.task_id)).arg(&index).arg(&value);
                command.arg(life(report.expires)).arg(life(group_life)).arg(seconds(report.claim));
            })
            .await?;
        Ok(claimed.then_some(claim))
    }

    /// The parts that were counted, by their index: all of them, for who holds the claim.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if one cannot be read; [`ErrorKind::Unsupported`] if one is neither in JSON nor in msgpack;
    /// [`ErrorKind::Config`] as for [`Chords::report`].
    pub async fn parts(&self, group: &GroupId) -> Result<Vec<Part>> {
        const PARTS: &str = "fetch parts of chord";
        let shared = self.shared(PARTS)?;
        let keys = shared.keys.chord(group);
        let answer = self.inner.link.query(PARTS, cmd("ZRANGE").arg(&keys.results).arg(0).arg(-1)).await?;
        let values: Vec<Vec<u8>> = redis::from_redis_value(answer).map_err(|error| unexpected(PARTS, error))?;
        let read = |value: Vec<u8>| {
            let (task_id, state, result) = part::decode(PARTS, &value, shared.config.max_message_bytes)?;
            Ok(Part { task_id, state, result })
        };
        values.into_iter().map(read).collect::<Result<_>>().map_err(|error| {
            Error::new(error.kind(), PARTS, format!("a part of the chord of `{group}` cannot be read"))
                .with_source(error)
        })
    }

    /// Extends a claim to so long from now, in seconds rounded up. One that has expired is taken again if nobody else has it. Tells whether it is
    /// held: if it is not, the body must not be sent.
    ///
    /// # Errors
    /// None but those of every method.
    pub async fn extend(&self, claim: &Claim, lasts: Duration) -> Result<bool> {
        self.run("extend claim of chord", claim, |command, _| {
            command.arg("extend").arg(seconds(lasts));
        })
        .await
    }

    /// Says that the body was sent: the parts are deleted, and late duplicates of them change nothing for five minutes. Does nothing but
    /// tell so if the claim is not held any more.
    ///
    /// # Errors
    /// None but those of every method.
    pub async fn finish(&self, claim: &Claim) -> Result<bool> {
        self.run("finish chord", claim, |command, again| {
            command.arg("finish").arg(if again { "1" } else { "0" }).arg(seconds(DONE));
        })
        .await
    }

    /// Gives a chord up after its failure was told: it is complete no more, so that a late duplicate of a part does not fail it again. The
    /// parts stay until they expire.
    ///
    /// # Errors
    /// None but those of every method.
    pub async fn fail(&self, claim: &Claim) -> Result<()> {
        const FAIL: &str = "fail chord";
        let keys = self.shared(FAIL)?.keys.chord(&claim.group);
        self.inner.link.query(FAIL, cmd("DEL").arg(&keys.size)).await?;
        Ok(())
    }

    fn shared(&self, operation: &'static str) -> Result<&Shared> {
        self.inner.check_open(Half::Backend, operation)?;
        Ok(&self.inner.shared)
    }

    /// Runs the script. `add` adds what is to be done, and is told whether a try before may have been carried out.
    async fn run(
        &self,
        operation: &'static str,
        claim: &Claim,
        add: impl Fn(&mut Cmd, bool) + Send + Sync,
    ) -> Result<bool> {
        let keys = self.shared(operation)?.keys.chord(&claim.group);
        let command = |again: bool| {
            let mut command = script::CHORD.call();
            command.arg(6).arg(&keys.results).arg(&keys.delta).arg(&keys.size);
            command.arg(&keys.counted).arg(&keys.claim).arg(&keys.group).arg(&claim.token);
            add(&mut command, again);
            command
        };
        let answer = self.inner.link.once(operation, command).await?;
        let held: i64 = redis::from_redis_value(answer).map_err(|error| unexpected(operation, error))?;
        Ok(held == 1)
    }
}

impl fmt::Debug for Chords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chords").field(&self.inner.shared.id.0).finish()
    }
}

/// In whole seconds, as Celery counts here: one at least, and no more than Redis can add to a date.
fn seconds(life: Duration) -> u64 {
    (life.as_secs() + u64::from(life.subsec_nanos() > 0)).clamp(1, i64::MAX as u64 / 2_000)
}

/// `SET`, with an end if it has one.
fn set(key: &str, value: &[u8], expires: Option<Duration>) -> Cmd {
    let mut set = cmd("SET");
    set.arg(key).arg(value);
    if let Some(life) = expires {
        set.arg("EX").arg(seconds(life));
    }
    set
}

fn read_group(operation: &'static str, saved: &[u8], max_bytes: usize) -> Result<ResultTuple> {
    let data = meta::decompressed(saved, max_bytes)?;
    let format: &dyn Serializer = match data.trim_ascii_start().first() {
        Some(b'{') => &Json,
        Some(0x80..=0x8f | 0xde | 0xdf) => &Msgpack,
        _ => return Err(Error::unsupported(operation, "it is neither in JSON nor in msgpack")),
    };
    let value = format.decode_value(&data)?;
    let tuple = value.as_map().and_then(|map| map.get("result")).and_then(ResultTuple::from_value);
    tuple.ok_or_else(|| Error::malformed(operation, "it is no object with a `result` that is a group"))
}
