//! How an entry and its state are written in a store: JSON, with a version.

use std::time::Duration;

use bytes::Bytes;
use celeriac_core::value::to_value;
use celeriac_core::{EntryName, Error, Map, Result, TaskId, Timestamp, Value};
use celeriac_serializer::{Json, SerializerExt as _};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::entry::Entry;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// An entry, and since when it counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    pub(crate) entry: Entry,
    /// Nothing was due before: when the entry was made, its schedule changed, or it was enabled again.
    pub(crate) since: Timestamp,
    /// Whether its owner's code has it enabled; as the entry is, if it has no owner.
    pub(crate) declared: bool,
}

/// What has been done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// The latest time that was seen to: sent or skipped.
    pub(crate) last: Option<Timestamp>,
    /// The latest time that was sent.
    pub(crate) sent: Option<Timestamp>,
    /// When that was; in states of older schedulers, unknown.
    pub(crate) sent_at: Option<Timestamp>,
    /// The id of its task.
    pub(crate) task: Option<TaskId>,
    /// How many ticks have been sent.
    pub(crate) count: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn record(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Map {
    [("v", Value::from(VERSION))].into_iter().chain(fields).collect()
}

fn write(record: &Map) -> Result<Bytes> {
    Ok(Json.to_bytes(record)?.into())
}

/// What is left to be read of a record.
struct Fields<'a> {
    what: &'static str,
    name: &'a EntryName,
    record: Map,
}

impl<'a> Fields<'a> {
    fn read(what: &'static str, name: &'a EntryName, bytes: &[u8]) -> Result<Self> {
        let mut fields = Self { what, name, record: Map::new() };
        match Json.from_bytes(bytes).map_err(|error| fields.problem(error.message()))? {
            Value::Map(record) => fields.record = record,
            other => return Err(fields.problem(&format!("is {}, and must be a table", other.kind()))),
        }
        match fields.record.remove("v") {
            Some(version) if version == Value::from(VERSION) => Ok(fields),
            Some(other) => {
                let version = other.as_u64().map_or_else(|| other.kind().to_owned(), |version| version.to_string());
                Err(fields.problem(&format!("v: written as version {version}; this scheduler reads version {VERSION}")))
            }
            None => Err(fields.problem("v: the version is missing")),
        }
    }

    fn problem(&self, message: &str) -> Error {
        Error::malformed("read entry", format!("{} `{}`: {message}", self.what, self.name))
    }

    fn take<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<T> {
        let value = self.record.remove(field).ok_or_else(|| self.problem(&format!("{field}: is missing")))?;
        value.deserialize_into().map_err(|error| self.problem(&format!("{field}: {}", error.message())))
    }

    /// A field that came later: older texts do not have it.
    fn take_if_there<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<Option<T>> {
        if self.record.contains_key(field) { self.take(field).map(Some) } else { Ok(None) }
    }

    fn millis(&mut self, field: &'static str) -> Result<Option<Duration>> {
        Ok(self.take::<Option<u64>>(field)?.map(Duration::from_millis))
    }

    /// Sees to it that nothing is left.
    fn end(self) -> Result<()> {
        match self.record.keys().next() {
            Some(field) => Err(self.problem(&format!("{field}: no such field is known"))),
            None => Ok(()),
        }
    }
}

impl Definition {
    pub(crate) fn write(&self) -> Result<Bytes> {
        self.entry.check()?;
        let Entry { schedule, task, enabled, catch_up, deadline, jitter, no_overlap, owner, .. } = &self.entry;
        let mut record = record([
            ("schedule", to_value(schedule)?),
            ("task", task.to_value()),
            ("enabled", Value::from(*enabled)),
            ("catch_up", to_value(catch_up)?),
            ("deadline_ms", to_value(&deadline.map(millis))?),
            ("jitter_ms", to_value(&millis(*jitter))?),
            ("no_overlap_ms", to_value(&no_overlap.map(millis))?),
            ("since", to_value(&self.since)?),
        ]);
        if let Some(owner) = owner {
            record.insert("owner", owner.as_str());
            record.insert("declared_enabled", self.declared);
        }
        write(&record)
    }

    pub(crate) fn read(name: &EntryName, bytes: &[u8]) -> Result<Self> {
        let mut fields = Fields::read("entry", name, bytes)?;
        let mut entry = Entry::new(name.clone(), fields.take("schedule")?, fields.take("task")?);
        entry.enabled = fields.take("enabled")?;
        entry.catch_up = fields.take("catch_up")?;
        entry.deadline = fields.millis("deadline_ms")?;
        entry.jitter = fields.millis("jitter_ms")?.unwrap_or_default();
        entry.no_overlap = fields.millis("no_overlap_ms")?;
        let since = fields.take("since")?;
        entry.owner = fields.take_if_there("owner")?;
        let declared = fields.take_if_there("declared_enabled")?.unwrap_or(entry.enabled);
        fields.end()?;
        entry.check()?;
        Ok(Self { entry, since, declared })
    }

    /// The owner, if there is one and the text can be read that far: a small part of the work of reading all of it.
    pub(crate) fn owner(bytes: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Owned {
            owner: Option<String>,
        }
        Json.from_bytes(bytes).ok().and_then(|Owned { owner }| owner)
    }
}

impl State {
    pub(crate) fn write(&self) -> Result<Bytes> {
        let mut record = record([
            ("last", to_value(&self.last)?),
            ("sent", to_value(&self.sent)?),
            ("task", to_value(&self.task)?),
            ("count", Value::from(self.count)),
        ]);
        if let Some(sent_at) = &self.sent_at {
            record.insert("sent_at", to_value(sent_at)?);
        }
        write(&record)
    }

    pub(crate) fn read(name: &EntryName, bytes: Option<&[u8]>) -> Result<Self> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let mut fields = Fields::read("state of entry", name, bytes)?;
        let (last, sent) = (fields.take("last")?, fields.take("sent")?);
        let (task, count) = (fields.take("task")?, fields.take("count")?);
        let sent_at = fields.take_if_there("sent_at")?;
        fields.end()?;
        Ok(Self { last, sent, sent_at, task, count })
    }
}

#[cfg(test)]
mod tests {
    use celeriac_core::Signature;

    use super::*;
    use crate::builder::{Units as _, crontab};
    use crate::entry::CatchUp;

    fn name() -> EntryName {
        EntryName::from_static("cleanup")
    }

    fn definition() -> Definition {
        let schedule = crontab("*/15 9-17 * * mon-fri").tz("Europe/Berlin").build().unwrap();
        let task = Signature::named("shop.cleanup").arg(3).kwarg("deep", true).option("queue", "slow");
        let entry = Entry::new(name(), schedule, task).catch_up(CatchUp::All).deadline(1.hours());
        Definition {
            entry: entry.jitter(2.seconds()).no_overlap(1.days()),
            since: "2026-11-22T12:00:00Z".parse().unwrap(),
            declared: true,
        }
    }

    #[test]
    fn an_entry_has_a_text_that_stays() {
        let text = r#"{"v":1,"schedule":"crontab */15 9-17 * * mon-fri [Europe/Berlin]","task":{"task":"shop.cleanup","args":[3],"kwargs":{"deep":true},"options":{"queue":"slow"},"subtask_type":null,"immutable":false},"enabled":true,"catch_up":"all","deadline_ms":3600000,"jitter_ms":2000,"no_overlap_ms":86400000,"since":"2026-11-22T12:00:00+00:00"}"#;
        assert_eq!(definition().write().unwrap(), text);
        assert_eq!(Definition::read(&name(), text.as_bytes()).unwrap(), definition());
        assert_eq!(Definition::owner(text.as_bytes()), None);

        // An owner came later: who has none has the text of before.
        let mut owned = definition();
        (owned.entry.owner, owned.entry.enabled) = (Some("shop".to_owned()), false);
        let end = r#"00:00","owner":"shop","declared_enabled":true}"#;
        let text = text.replace(r#""enabled":true"#, r#""enabled":false"#).replace(r#"00:00"}"#, end);
        assert_eq!(owned.write().unwrap(), text);
        assert_eq!(Definition::read(&name(), text.as_bytes()).unwrap(), owned);
        assert_eq!(Definition::owner(text.as_bytes()).as_deref(), Some("shop"));

        let state = State {
            last: Some(definition().since),
            sent: None,
            sent_at: None,
            task: Some(TaskId::from_static("x")),
            count: 7,
        };
        let text = r#"{"v":1,"last":"2026-11-22T12:00:00+00:00","sent":null,"task":"x","count":7}"#;
        assert_eq!(state.write().unwrap(), text);
        assert_eq!(State::read(&name(), Some(text.as_bytes())).unwrap(), state);
        assert_eq!(State::read(&name(), None).unwrap(), State::default());
    }

    #[test]
    fn what_cannot_be_read_is_told_by_entry_and_field() {
        let text = String::from_utf8(definition().write().unwrap().to_vec()).unwrap();
        for (from, to, said) in [
            ("\"v\":1", "\"v\":2", "entry `cleanup`: v: written as version 2; this scheduler reads version 1"),
            ("\"v\":1,", "", "entry `cleanup`: v: the version is missing"),
            ("*/15 9-17", "*/15 9-24", "hour `9-24`"),
            ("Europe/Berlin", "Europe/Berln", "zone `Europe/Berln`: no such time zone"),
            ("\"enabled\":true", "\"enabled\":1", "entry `cleanup`: enabled: "),
            ("\"jitter_ms\":2000", "\"jitter_ms\":90000000", "entry `cleanup`: jitter: must be a day at most"),
            ("\"jitter_ms\":2000", "\"jitters\":2000", "entry `cleanup`: jitter_ms: is missing"),
            ("\"task\":\"shop.cleanup\",", "", "`task` is missing"),
            ("\"v\":1", "\"v\":1,\"more\":2", "entry `cleanup`: more: no such field is known"),
            ("\"all\"", "\"some\"", "entry `cleanup`: catch_up: "),
            ("2026-11-22T", "", "entry `cleanup`: since: "),
            ("{\"v\"", "[\"v\"", "entry `cleanup`: "),
            ("\"v\":1", "\"v\":1,\"owner\":2", "entry `cleanup`: owner: "),
        ] {
            let error = Definition::read(&name(), text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(error.message().contains(said) && error.message().contains("`cleanup`"), "{error}");
        }
        let error = State::read(&name(), Some(b"{\"v\":1}")).unwrap_err();
        assert!(error.message().starts_with("state of entry `cleanup`: "), "{error}");
    }
}
