//! The store of schedules.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use celeriac_core::{EntryName, Error, Result, StoreId};
use celeriac_schedule::{
    Advance, Change, Changes, Condition, Lead, Put, Revision, ScheduleCapabilities, ScheduleStore, Step, Stepped,
    StoredEntry, Term,
};
use deadpool_redis::redis;
use tokio::sync::{OnceCell, watch};

use crate::args::Args;
use crate::error::{closed, script_failed, unexpected};
use crate::hub::{Ear, Subscription};
use crate::keys::{SCHEDULE_VERSION, SEPARATOR};
use crate::push::{Exchanges, Pushes};
use crate::script;
use crate::store::{Half, Inner};
use crate::topology;

/// The most entries or steps, and about the most bytes, of one call: the server serves nobody else meanwhile.
const MOST: usize = 512;
const MOST_BYTES: usize = 4 << 20;
/// So many removed entries are remembered.
const REMEMBERED: usize = 10_000;
/// Who waits looks at least this often, for the case that a publication was lost.
const SAFETY: Duration = Duration::from_secs(30);
/// The longest lease, about 30 years: a sum with the time is still exact as a number of a script.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);
/// That nobody has looked which term was resigned last.
const NEVER_LOOKED: u64 = u64::MAX;

const ADVANCE: &str = "advance";
const CHANGED: &str = "wait for changes";

pub(crate) struct RedisSchedule {
    inner: Arc<Inner>,
    news: Arc<News>,
    /// There from the first wait on.
    subscription: OnceCell<Subscription>,
    /// The term that was resigned last, as far as this handle has seen: who waits is told of another.
    resigned: AtomicU64,
}

/// Hears that something has changed. By publications, not by key tracking: nobody else writes these keys, and this needs no RESP3.
struct News(watch::Sender<()>);

impl Ear for News {
    fn heard(&self, _channel: &[u8], _payload: Vec<u8>) {
        self.0.send_replace(());
    }

    fn resumed(&self) {
        self.0.send_replace(());
    }
}

impl RedisSchedule {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            news: Arc::new(News(watch::Sender::new(()))),
            subscription: OnceCell::new(),
            resigned: AtomicU64::new(NEVER_LOOKED),
        }
    }

    /// Asks for what may be asked again without harm.
    async fn ask(&self, operation: &'static str, args: &Args) -> Result<Reply> {
        self.call(operation, args, None).await
    }

    /// Asks for what is done once, however often the connection breaks: the server keeps the answer.
    async fn ask_once(&self, operation: &'static str, args: &Args) -> Result<Reply> {
        let slot = self.inner.shared.slots.take();
        self.call(operation, args, Some((slot.name(), slot.call()))).await
    }

    async fn call(&self, operation: &'static str, args: &Args, slot: Option<(String, String)>) -> Result<Reply> {
        self.inner.check_open(Half::Schedule, operation)?;
        let shared = &self.inner.shared;
        let (keys, (slot, call)) = (&shared.keys.schedule, slot.unwrap_or_default());
        let command = |again: bool| {
            let mut command = script::SCHEDULE.call();
            command.arg(9).arg(&keys.schedule).arg(&keys.definitions).arg(&keys.states).arg(&keys.names);
            command.arg(&keys.changes).arg(&keys.removed).arg(&shared.marks);
            command.arg(&shared.keys.parked_index).arg(&shared.keys.workers);
            command.arg(SCHEDULE_VERSION).arg(&keys.channel).arg(&slot).arg(&call).arg(if again { "1" } else { "0" });
            args.write(&mut command);
            command
        };
        let answer = self.inner.link.once(operation, command).await?;
        let words: Vec<Vec<u8>> = redis::from_redis_value(answer).map_err(|error| unexpected(operation, error))?;
        Ok(Reply { operation, words: words.into_iter() })
    }

    /// The last revision, and the term that was resigned last.
    async fn look(&self) -> Result<(u64, u64)> {
        let mut reply = self.ask(CHANGED, &verb("look")).await?;
        Ok((reply.number()?, reply.number()?))
    }

    async fn wait(&self, since: Revision) -> Result<()> {
        self.inner.hub.keep_here();
        // Hears before it looks, so that nothing is missed in between.
        let mut news = self.news.0.subscribe();
        let channel = self.inner.shared.keys.schedule.channel.clone().into_bytes();
        let ear = Arc::clone(&self.news) as Arc<dyn Ear>;
        self.subscription.get_or_try_init(|| self.inner.hub.subscribe(CHANGED, vec![channel], ear)).await?;
        // ORDERING: each who waits goes by what it has read here; that another has read more is no harm.
        let mut known = self.resigned.load(Ordering::Relaxed);
        loop {
            news.mark_unchanged();
            let (latest, resigned) = self.look().await?;
            self.resigned.store(resigned, Ordering::Relaxed);
            if known == NEVER_LOOKED {
                known = resigned;
            }
            // Less than what was asked from is another life of the store.
            if latest != since.0 || resigned != known {
                return Ok(());
            }
            // CANCEL SAFETY: both only wait; what came while nobody waited is seen by the next look.
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep(SAFETY) => {}
            }
        }
    }

    /// Has one batch of steps taken; what became of each, or nothing if the term is not the newest.
    async fn advance_batch(&self, batch: Batch) -> Result<Option<Vec<Stepped>>> {
        let mut reply = self.ask_once(ADVANCE, &batch.args).await?;
        if reply.text()? == "fenced" {
            return Ok(None);
        }
        let stepped = batch.refusals.into_iter().map(|refusal| {
            Ok(match (reply.text()?.as_str(), refusal) {
                ("done", _) => Stepped::Done,
                ("stale", _) => Stepped::Stale,
                ("refused", Some(error)) => Stepped::Refused(error),
                (wrong, _) => Stepped::Refused(script_failed(ADVANCE, wrong)),
            })
        });
        stepped.collect::<Result<_>>().map(Some)
    }
}

impl std::fmt::Debug for RedisSchedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RedisSchedule").field(&self.inner.shared.id.0).finish()
    }
}

#[async_trait]
impl ScheduleStore for RedisSchedule {
    fn capabilities(&self) -> ScheduleCapabilities {
        let mut capabilities = ScheduleCapabilities::none();
        capabilities.durable = true;
        capabilities.publishes = true;
        capabilities.shared = true;
        capabilities
    }

    fn store_id(&self) -> Option<StoreId> {
        Some(self.inner.shared.id.clone())
    }

    async fn put(&self, name: &EntryName, definition: Bytes, condition: Condition) -> Result<Put> {
        const PUT: &str = "put entry";
        self.inner.shared.check_size(PUT, definition.len(), || format!("entry `{name}`"))?;
        let mut args = verb("put");
        args.push(name.as_str());
        args.push(&definition);
        match condition {
            Condition::Always => args.push("always"),
            Condition::Absent => args.push("absent"),
            Condition::At(revision) => args.push_shown(revision.0),
        }
        let mut reply = self.ask_once(PUT, &args).await?;
        match reply.text()?.as_str() {
            "done" => Ok(Put::Done(Revision(reply.number()?))),
            _ => Ok(Put::Unmet(reply.number_if_any()?.map(Revision))),
        }
    }

    async fn remove(&self, name: &EntryName) -> Result<bool> {
        let mut args = verb("remove");
        args.push(name.as_str());
        args.push_shown(REMEMBERED);
        Ok(self.ask_once("remove entry", &args).await?.text()? == "1")
    }

    async fn get(&self, name: &EntryName) -> Result<Option<StoredEntry>> {
        let mut args = verb("get");
        args.push(name.as_str());
        match self.ask("get entry", &args).await?.change()? {
            Some(Change::Put(entry)) => Ok(Some(entry)),
            _ => Ok(None),
        }
    }

    async fn list(&self, after: Option<&EntryName>, limit: NonZeroUsize) -> Result<Vec<StoredEntry>> {
        let (mut entries, mut after) = (Vec::new(), after.cloned());
        loop {
            let mut args = verb("list");
            args.push(after.as_ref().map_or("", EntryName::as_str));
            args.push_shown((limit.get() - entries.len()).min(MOST));
            args.push_shown(MOST_BYTES);
            let mut reply = self.ask("list entries", &args).await?;
            let more = reply.text()? == "1";
            while let Some(change) = reply.change()? {
                match change {
                    Change::Put(entry) => {
                        after = Some(entry.name.clone());
                        entries.push(entry);
                    }
                    Change::Removed(name) => after = Some(name),
                }
            }
            if !more || entries.len() >= limit.get() {
                return Ok(entries);
            }
        }
    }

    async fn changes(&self, since: Revision, limit: NonZeroUsize) -> Result<Changes> {
        let mut args = verb("changes");
        args.push_shown(since.0);
        args.push_shown(limit.get().min(MOST));
        args.push_shown(MOST_BYTES);
        let mut reply = self.ask("read changes", &args).await?;
        let (known, until) = (reply.text()? == "known", Revision(reply.number()?));
        if !known {
            return Ok(Changes::Unknown { until });
        }
        let (more, mut changes) = (reply.text()? == "1", Vec::new());
        while let Some(change) = reply.change()? {
            changes.push(change);
        }
        Ok(Changes::Known { changes, until, more })
    }

    async fn changed(&self, since: Revision) -> Result<()> {
        // CANCEL SAFETY: waiting changes nothing.
        tokio::select! {
            biased;
            () = self.inner.schedule_closed.cancelled() => Err(closed(CHANGED)),
            waited = self.wait(since) => waited,
        }
    }

    async fn lead(&self, who: &str, lease: Duration) -> Result<Lead> {
        const LEAD: &str = "lead";
        let mut args = verb("lead");
        args.push(who);
        args.push_shown(lease.min(LONGEST).as_micros());
        let mut reply = self.ask(LEAD, &args).await?;
        // ORDERING: see where it is read.
        self.resigned.store(reply.number()?, Ordering::Relaxed);
        match reply.text()?.as_str() {
            "leading" => Ok(Lead::Leading(Term(reply.number()?))),
            _ => Ok(Lead::Led { by: reply.text()?, remaining: Duration::from_micros(reply.number()?) }),
        }
    }

    async fn resign(&self, term: Term) -> Result<()> {
        let mut args = verb("resign");
        args.push_shown(term.0);
        self.ask("resign", &args).await.map(drop)
    }

    async fn advance(&self, term: Term, steps: Vec<Step>) -> Result<Advance> {
        let (shared, link) = (&self.inner.shared, &self.inner.link);
        self.inner.check_open(Half::Schedule, ADVANCE)?;
        for step in &steps {
            shared.check_size(ADVANCE, step.state.len(), || format!("the state of entry `{}`", step.name))?;
        }
        let messages = steps.iter().flat_map(|step| &step.publish);
        let exchanges = topology::exchanges(shared, link, ADVANCE, topology::named(messages)).await?;
        let count = steps.len();
        let mut stepped = Vec::with_capacity(count);
        let mut steps = steps.into_iter().peekable();
        loop {
            let mut batch = Batch::new(term, &shared.keys.due_channel);
            while !batch.is_full()
                && let Some(step) = steps.next()
            {
                batch.add(&step, self.pushes(&step, &exchanges));
            }
            match self.advance_batch(batch).await? {
                Some(outcomes) => stepped.extend(outcomes),
                None if stepped.is_empty() => return Ok(Advance::Fenced),
                None => {
                    // Replaced between two batches: what was taken is told, of the rest nothing was done.
                    stepped.resize_with(count, || Stepped::Stale);
                    return Ok(Advance::Stepped(stepped));
                }
            }
            if steps.peek().is_none() {
                return Ok(Advance::Stepped(stepped));
            }
        }
    }

    async fn close(&self) -> Result<()> {
        self.inner.close(Half::Schedule).await
    }
}

impl RedisSchedule {
    /// What publishing a step's messages comes to.
    fn pushes(&self, step: &Step, exchanges: &Exchanges) -> Result<Vec<Pushes>> {
        step.publish.iter().map(|message| self.inner.shared.pushes(ADVANCE, message, exchanges)).collect()
    }
}

fn verb(verb: &str) -> Args {
    let mut args = Args::default();
    args.push(verb);
    args
}

/// Steps that the server is asked to take by one call.
struct Batch {
    args: Args,
    /// For each step, why its messages cannot be published, where that is known before.
    refusals: Vec<Option<Error>>,
}

impl Batch {
    fn new(term: Term, due_channel: &str) -> Self {
        let mut args = verb("advance");
        args.push_shown(term.0);
        args.push(SEPARATOR);
        args.push(due_channel);
        Self { args, refusals: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.refusals.len() >= MOST || self.args.bytes() >= MOST_BYTES
    }

    /// The server is asked of one that cannot be published, too: it may be stale, or its term fenced.
    fn add(&mut self, step: &Step, pushes: Result<Vec<Pushes>>) {
        self.args.push(step.name.as_str());
        self.args.push_shown(step.revision.0);
        self.args.push_shown(step.steps);
        self.args.push(&step.state);
        match pushes {
            Ok(pushes) => {
                self.args.push_shown(pushes.iter().map(|pushes| pushes.count).sum::<usize>());
                pushes.iter().for_each(|pushes| self.args.append(&pushes.args));
                self.refusals.push(None);
            }
            Err(error) => {
                self.args.push("-");
                self.refusals.push(Some(error));
            }
        }
    }
}

/// What the script answers, word by word.
struct Reply {
    operation: &'static str,
    words: std::vec::IntoIter<Vec<u8>>,
}

impl Reply {
    fn word(&mut self) -> Result<Vec<u8>> {
        self.words.next().ok_or_else(|| unexpected(self.operation, "there should be more"))
    }

    fn text(&mut self) -> Result<String> {
        String::from_utf8(self.word()?).map_err(|error| unexpected(self.operation, error))
    }

    fn number(&mut self) -> Result<u64> {
        let text = self.text()?;
        text.parse().map_err(|error| unexpected(self.operation, format!("`{text}`: {error}")))
    }

    fn number_if_any(&mut self) -> Result<Option<u64>> {
        match self.words.as_slice().first() {
            Some(word) if !word.is_empty() => self.number().map(Some),
            _ => Ok(None),
        }
    }

    /// The next entry, if there is another.
    fn change(&mut self) -> Result<Option<Change>> {
        if self.words.len() == 0 {
            return Ok(None);
        }
        let (name, definition, state) = (self.text()?, self.word()?, self.word()?);
        let name = EntryName::new(name)?;
        if definition.is_empty() {
            return Ok(Some(Change::Removed(name)));
        }
        let (revision, definition) = self.numbered(definition)?;
        let mut entry = StoredEntry::new(name, definition, Revision(revision));
        if !state.is_empty() {
            let (steps, state) = self.numbered(state)?;
            entry = entry.with_state(Some(state), steps);
        }
        Ok(Some(Change::Put(entry)))
    }

    /// A number, a colon, and any bytes.
    fn numbered(&self, record: Vec<u8>) -> Result<(u64, Bytes)> {
        let parts = memchr::memchr(b':', &record).and_then(|at| {
            let number = u64::from_str(std::str::from_utf8(record.get(..at)?).ok()?).ok()?;
            Some((number, at + 1))
        });
        let (number, start) = parts.ok_or_else(|| unexpected(self.operation, "a record without its number"))?;
        let mut bytes = Bytes::from(record);
        Ok((number, bytes.split_off(start)))
    }
}
