//! `Tick`: one time of one entry.

use std::sync::Arc;
use std::time::Duration;

use celeriac_core::{EntryName, TaskId, Timestamp};
use uuid::{Builder, Uuid};

use crate::entry::Entry;

/// A time of an entry that is to be sent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Tick {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The time by the schedule.
    pub due: Timestamp,
    /// How late it is, beyond its [jitter](Entry::jitter).
    pub late: Duration,
    /// The id of the task: derived from the entry and the time, so that it is the same whoever sends the tick, and however often.
    pub id: TaskId,
    /// The ticks of the entry that were sent before.
    pub count: u64,
}

/// All ids are in it.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d0f_5f2e_8a1c_5b0e_9c53_c1e7_a7d2_9b46);

/// What is random about a tick: the same for everyone.
fn hash(name: &EntryName, since: Timestamp, due: Timestamp) -> [u8; 16] {
    let mut key = name.as_bytes().to_vec();
    key.extend(since.as_micros().to_be_bytes());
    key.extend(due.as_micros().to_be_bytes());
    Uuid::new_v5(&NAMESPACE, &key).into_bytes()
}

/// The id of the tick of `name` at `due`: of the form of version 7, as all ids of tasks, so that it sorts by its time; the rest of it is a hash.
pub(crate) fn id(name: &EntryName, since: Timestamp, due: Timestamp) -> TaskId {
    let hash = hash(name, since, due);
    let mut rest = [0; 10];
    // Not the bytes that the version and the variant are in.
    rest[..6].copy_from_slice(&hash[..6]);
    rest[6..].copy_from_slice(&hash[12..]);
    let millis = u64::try_from(due.as_micros() / 1_000).unwrap_or(0);
    let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = Builder::from_unix_timestamp_millis(millis, &rest).into_uuid();
    let text: &str = id.hyphenated().encode_lower(&mut buffer);
    // A UUID is a valid id.
    TaskId::new(text.to_owned()).unwrap_or_else(|_| TaskId::random())
}

/// How much later than `due` the tick is sent.
pub(crate) fn delay(entry: &Entry, since: Timestamp, due: Timestamp) -> Duration {
    let most = u64::try_from(entry.jitter.as_micros()).unwrap_or(u64::MAX);
    if most == 0 {
        return Duration::ZERO;
    }
    let hash = hash(&entry.name, since, due);
    let mut number = [0; 8];
    number[2..].copy_from_slice(&hash[..6]);
    Duration::from_micros(u64::from_be_bytes(number) % (most + 1))
}

#[cfg(test)]
mod tests {
    use celeriac_core::Signature;

    use super::*;
    use crate::builder::{Units as _, every};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_id_is_always_the_same_and_no_two_ticks_share_one() {
        let (name, since) = (EntryName::from_static("cleanup"), at("2026-11-22T00:00:00Z"));
        let due = at("2026-11-23T02:30:00Z");
        assert_eq!(id(&name, since, due), "01a2063d-2440-70d1-b67c-dd3a53d92923");
        let ids = [
            id(&name, since, due),
            id(&EntryName::from_static("cleanup2"), since, due),
            id(&name, since + 1.seconds(), due),
            id(&name, since, due + 1.seconds()),
            id(&name, since, due + Duration::from_micros(1)),
        ];
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(Uuid::parse_str(id).unwrap().get_version_num(), 7);
            assert!(!ids[..number].contains(id));
        }
        assert!(ids[0] < ids[3], "they sort by time");
    }

    #[test]
    fn jitter_spreads_ticks_over_its_length() {
        let since = at("2026-11-22T00:00:00Z");
        let entry = Entry::new(EntryName::from_static("x"), every(1.hours()).build().unwrap(), Signature::named("x"));
        assert_eq!(delay(&entry, since, since), Duration::ZERO);
        let entry = entry.jitter(1.minutes());
        let delays: Vec<u64> =
            (1..1_000_u32).map(|hour| delay(&entry, since, since + 1.hours() * hour).as_secs()).collect();
        for part in 0..6 {
            let share = delays.iter().filter(|delay| **delay / 10 == part).count();
            assert!((100..240).contains(&share), "{share} of 1000 in the {part}th sixth");
        }
    }
}
