//! `Entries`: what the script that settles is told, and what becomes of it.

use std::collections::HashSet;
use std::fmt::Display;

use celeriac_core::{Error, Result, TaskId, TaskState};
use deadpool_redis::redis::{self, Cmd, Value, cmd};

use crate::args::Args;
use crate::error::{passing, script_failed, unexpected};
use crate::keys::SEPARATOR;
use crate::link::Link;
use crate::push::Pushes;
use crate::script;
use crate::store::Shared;
use crate::wire::meta;

/// The most entries, and about the most bytes, of one call: the server serves nobody else meanwhile.
pub(crate) const MOST: usize = 512;
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// What an entry does, and so what arguments it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Acknowledges: tag.
    Ack,
    /// Acknowledges, and stores a result: tag, then as [`Kind::Put`].
    Done,
    /// Stores a result: key, whether it is an end, milliseconds to live, value.
    Put,
    /// The general case.
    End,
}

impl Kind {
    /// What the script calls many of them.
    fn of_many(self) -> &'static str {
        match self {
            Self::Ack => "acks",
            Self::Done => "dones",
            Self::Put => "puts",
            Self::End => "end",
        }
    }

    /// How many arguments stand before those of a result.
    fn tags(self) -> usize {
        usize::from(self != Self::Put)
    }
}

/// Entries for the script, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Entries {
    args: Args,
    /// Each one's kind, and the place of its first argument.
    starts: Vec<(Kind, usize)>,
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.args.bytes()
    }

    /// Whether one call should not be told more.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= MOST || self.bytes() >= MOST_BYTES
    }

    /// Adds an entry with the arguments that `write` adds; none if that fails.
    fn add(&mut self, kind: Kind, write: impl FnOnce(&mut Args) -> Result<()>) -> Result<()> {
        let start = self.args.len();
        let written = write(&mut self.args);
        match written {
            Ok(()) => self.starts.push((kind, start)),
            Err(_) => self.args.truncate(start),
        }
        written
    }

    pub(crate) fn ack(&mut self, tag: impl Display) {
        self.starts.push((Kind::Ack, self.args.len()));
        self.args.push_shown(tag);
    }

    /// A result alone: `record` adds what the script is told of it.
    ///
    /// # Errors
    /// Those of `record`.
    pub(crate) fn put(&mut self, record: impl FnOnce(&mut Args) -> Result<()>) -> Result<()> {
        self.add(Kind::Put, record)
    }

    /// An acknowledgement with a result.
    ///
    /// # Errors
    /// Those of `record`.
    pub(crate) fn done(&mut self, tag: impl Display, record: impl FnOnce(&mut Args) -> Result<()>) -> Result<()> {
        self.add(Kind::Done, |args| {
            args.push_shown(tag);
            record(args)
        })
    }

    /// The general case: the end of a delivery, if one ends, results and messages.
    pub(crate) fn end(&mut self, tag: impl Display, end: &Args, record: Option<&Args>, pushes: &[Pushes]) {
        self.starts.push((Kind::End, self.args.len()));
        let args = &mut self.args;
        args.push_shown(tag);
        args.append(end);
        args.push(if record.is_some() { "1" } else { "0" });
        if let Some(record) = record {
            args.append(record);
        }
        args.push_shown(pushes.iter().map(|pushes| pushes.count).sum::<usize>());
        pushes.iter().for_each(|pushes| args.append(&pushes.args));
    }

    /// A message alone.
    pub(crate) fn publish(&mut self, pushes: &Pushes) {
        let mut end = Args::default();
        end.push("ack");
        self.end("", &end, None, std::slice::from_ref(pushes));
    }

    /// A delivery that goes back to `list`, and in copy to `others`. `found` is the score in the index that it was found to be lost by; it is
    /// passed over if that is another now. Empty for one that is held here.
    pub(crate) fn back(
        &mut self,
        tag: impl Display,
        found: &str,
        (list, others): (&str, &[String]),
        order: u64,
        envelope: &[u8],
    ) {
        let mut end = Args::default();
        end.push("back");
        end.push(list);
        end.push_shown(order);
        end.push(envelope);
        end.push(found);
        let mut copies = Pushes { count: others.len(), ..Pushes::default() };
        for other in others {
            copies.args.push("list");
            copies.args.push(other);
            copies.args.push(envelope);
        }
        self.end(tag, &end, None, std::slice::from_ref(&copies));
    }

    /// Has the server carry them out, each once, however often the connection breaks.
    pub(crate) async fn carry_out(self, shared: &Shared, link: &Link, operation: &'static str) -> Result<Outcome> {
        let (mut whole, mut known) = (Outcome::default(), Compressed::default());
        while whole.done < self.len() && whole.wrong.is_none() {
            let told = match self.call(shared, link, operation, whole.done, &known).await {
                Ok(told) => told,
                Err(error) if whole.done == 0 => return Err(error),
                Err(error) => Outcome { wrong: Some(error), of_all: true, ..Outcome::default() },
            };
            whole.lost.extend(told.lost.iter().map(|place| whole.done + place));
            whole.done += told.done;
            whole.of_all = told.of_all;
            whole.wrong = match told.asked {
                Some(key) => known.learn(shared, link, operation, key).await.err(),
                None => told.wrong,
            };
        }
        Ok(whole)
    }

    /// As [`Entries::carry_out`], for what may not fail: whatever is wrong for all entries alike, be it a password, may be cured while
    /// the caller waits, and is told as something that passes.
    pub(crate) async fn carry_out_in_the_end(
        self,
        shared: &Shared,
        link: &Link,
        operation: &'static str,
    ) -> Result<Outcome> {
        let mut outcome = self.carry_out(shared, link, operation).await.map_err(passing)?;
        if outcome.of_all {
            outcome.wrong = outcome.wrong.map(passing);
        }
        Ok(outcome)
    }

    /// As [`Entries::carry_out`], but each by itself: one that goes wrong is passed over. How many were carried out; the first error if none was.
    pub(crate) async fn carry_out_each(self, shared: &Shared, link: &Link, operation: &'static str) -> Result<usize> {
        let (mut rest, mut done, mut failed) = (self, 0, None);
        while rest.len() > 0 {
            let next = rest.clone();
            let outcome = next.carry_out(shared, link, operation).await?;
            done += outcome.done - outcome.lost.len();
            let Some(error) = outcome.wrong else { break };
            tracing::error!(error = %error.report(), "a message cannot go back to its queue for now");
            failed.get_or_insert(error);
            rest = rest.after(outcome.done + 1);
        }
        match failed {
            Some(error) if done == 0 => Err(error),
            _ => Ok(done),
        }
    }

    /// Those from place `from` on.
    fn after(&self, from: usize) -> Self {
        let mut rest = Self::default();
        if let Some((_, start)) = self.starts.get(from) {
            self.args.from(*start).for_each(|argument| rest.args.push(argument));
            rest.starts = self.starts.iter().skip(from).map(|(kind, place)| (*kind, place - start)).collect();
        }
        rest
    }

    /// One call, for those from place `from` on.
    async fn call(
        &self,
        shared: &Shared,
        link: &Link,
        operation: &'static str,
        from: usize,
        known: &Compressed,
    ) -> Result<Outcome> {
        let (slot, keys) = (shared.slots.take(), &shared.keys);
        // Results alone leave no mark: they may be stored twice.
        let marked = self.starts.iter().any(|(kind, _)| *kind != Kind::Put);
        let command = |again: bool| {
            let mut command = script::SETTLE.call();
            command.arg(5).arg(&keys.unacked).arg(&keys.unacked_index).arg(&shared.marks);
            command.arg(&keys.parked_index).arg(&keys.workers);
            command.arg(if marked { slot.name() } else { String::new() });
            command.arg(slot.call()).arg(if again && marked { "1" } else { "0" });
            command.arg(SEPARATOR).arg(&keys.due_channel);
            command.arg(known.count);
            known.args.write(&mut command);
            self.write(from, &mut command);
            command
        };
        Outcome::read(operation, link.once(operation, command).await?)
    }

    /// Adds those from place `from` on to a command: what is alike in columns, which the script carries out many at a time.
    fn write(&self, from: usize, command: &mut Cmd) {
        let mut rest = self.starts.get(from..).unwrap_or_default();
        while let Some((kind, start)) = rest.first().copied() {
            command.arg(kind.of_many());
            if kind == Kind::End {
                rest = rest.get(1..).unwrap_or_default();
                let end = rest.first().map_or(self.args.len(), |(_, next)| *next);
                self.args.from(start).take(end - start).for_each(|argument| {
                    command.arg(argument);
                });
                continue;
            }
            let (run, others) = rest.split_at(self.alike(rest));
            rest = others;
            command.arg(run.len());
            let mut columns = vec![0; kind.tags()];
            if kind != Kind::Ack {
                let key = kind.tags();
                command.arg(self.args.get(start + key + 1)).arg(self.args.get(start + key + 2));
                columns.extend([key, key + 3]);
            }
            for column in columns {
                for (_, start) in run {
                    command.arg(self.args.get(start + column));
                }
            }
        }
    }

    /// How many of the first of `entries` are of one kind, live equally long, and belong to as many tasks.
    fn alike(&self, entries: &[(Kind, usize)]) -> usize {
        let Some((kind, first)) = entries.first().copied() else { return 0 };
        let shared = |start: usize| (self.args.get(start + kind.tags() + 1), self.args.get(start + kind.tags() + 2));
        let mut keys = HashSet::new();
        let fits = |(other, start): &(Kind, usize)| {
            *other == kind
                && (kind == Kind::Ack
                    || shared(*start) == shared(first) && keys.insert(self.args.get(start + kind.tags())))
        };
        entries.iter().take(MOST).map(fits).take_while(|fits| *fits).count()
    }
}

/// The states of compressed records, which no script can read: what is asked for once one is in the way of another.
#[derive(Debug, Default)]
struct Compressed {
    args: Args,
    count: usize,
}

impl Compressed {
    async fn learn(&mut self, shared: &Shared, link: &Link, operation: &'static str, key: String) -> Result<()> {
        let value = link.query(operation, cmd("GET").arg(&key)).await?;
        let value: Option<Vec<u8>> = redis::from_redis_value(value).map_err(|error| unexpected(operation, error))?;
        // One that expired meanwhile is in nobody's way.
        let Some(value) = value else { return Ok(()) };
        // What cannot be read is no success to anybody.
        let unknown = TaskId::from_static("?");
        let state = meta::decode(Some(&unknown), &value, shared.config.max_message_bytes).map(|meta| meta.state);
        self.args.push(key);
        self.args.push(value);
        self.args.push(state.as_ref().map_or("", TaskState::as_str));
        self.count += 1;
        Ok(())
    }
}

/// What became of a call's entries.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many were carried out, or passed over.
    pub(crate) done: usize,
    /// The places of those passed over.
    pub(crate) lost: Vec<usize>,
    /// What went wrong with the one after those done.
    pub(crate) wrong: Option<Error>,
    /// Whether that is wrong for every other entry too.
    of_all: bool,
    /// The key of a compressed record, whose state the script has to be told before it goes on.
    asked: Option<String>,
}

impl Outcome {
    /// Of so many, nothing went wrong.
    pub(crate) fn all(done: usize) -> Self {
        Self { done, ..Self::default() }
    }

    fn read(operation: &'static str, answer: Value) -> Result<Self> {
        let (done, lost, wrong): (usize, Vec<usize>, String) =
            redis::from_redis_value(answer).map_err(|error| unexpected(operation, error))?;
        let asked = wrong.strip_prefix('\0').map(str::to_owned);
        let (of_all, wrong) = wrong.strip_prefix('!').map_or((false, &*wrong), |wrong| (true, wrong));
        let wrong = (asked.is_none() && !wrong.is_empty()).then(|| script_failed(operation, wrong));
        Ok(Self { done, lost, wrong, of_all, asked })
    }

    /// # Errors
    /// What went wrong.
    pub(crate) fn complete(self) -> Result<()> {
        self.wrong.map_or(Ok(()), Err)
    }
}
