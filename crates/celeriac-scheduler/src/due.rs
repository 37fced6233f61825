//! What is to be done for an entry at an instant: a pure function.

use std::time::Duration;

use celeriac_core::Timestamp;

use crate::entry::{CatchUp, Entry};
use crate::schedule::Schedule;
use crate::tick::delay;

/// A tick that is late by no more than this is sent also by entries that skip what they missed: as long as it may take until another leads.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// How much a clock may be set back before the times it had shown count as wrong.
pub(crate) const SET_BACK: Duration = Duration::from_secs(3 * 3_600);

/// Nothing is between two instants that are so far apart.
const INSTANT: Duration = Duration::from_micros(1);

/// What is to be done for an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing before that instant; never again if there is none.
    Not(Option<Timestamp>),
    /// Now.
    Now {
        /// The times to be sent, each with when it was ready to be, in order.
        send: Vec<(Timestamp, Timestamp)>,
        /// The latest time that is seen to with that.
        last: Timestamp,
    },
}

/// What is to be done at `now` for an entry whose times until `anchor` have been seen to; at most `limit` times at once.
pub(crate) fn due(entry: &Entry, since: Timestamp, anchor: Timestamp, now: Timestamp, limit: usize) -> Due {
    let ready = |time: Timestamp| time + delay(entry, since, time);
    let next = |time: Timestamp| entry.schedule.next_from(time, time);
    let in_time = |time: Timestamp, most: Option<Duration>| most.is_none_or(|most| now.since(ready(time)) <= most);
    if !entry.enabled {
        return Due::Not(None);
    }
    let Some(first) = next(anchor) else { return Due::Not(None) };
    if ready(first) > now {
        return Due::Not(Some(ready(first)));
    }
    if entry.catch_up == CatchUp::All {
        // What is too late is passed over at once, however much it is.
        let from = entry.deadline.map_or(anchor, |deadline| anchor.max(now - deadline - entry.jitter - INSTANT));
        let mut times = std::iter::successors(entry.schedule.next_from(anchor, from), |time| next(*time))
            .take_while(|time| ready(*time) <= now);
        let mut send = Vec::new();
        let mut last = None;
        for time in times.by_ref() {
            last = Some(time);
            if in_time(time, entry.deadline) {
                send.push((time, ready(time)));
            }
            if send.len() == limit {
                break;
            }
        }
        // Those behind `from` that are not ready yet have their time still to come.
        return Due::Now { send, last: last.unwrap_or_else(|| latest(&entry.schedule, first, from)) };
    }
    // Up to here all are ready; behind it each has its own delay.
    let mut last = latest(&entry.schedule, first, (now - entry.jitter).max(first));
    while let Some(time) = next(last).filter(|time| ready(*time) <= now) {
        last = time;
    }
    let most = match (entry.catch_up, entry.deadline) {
        (CatchUp::Skip, deadline) => Some(deadline.unwrap_or(GRACE).min(GRACE)),
        (_, deadline) => deadline,
    };
    let send = if in_time(last, most) { vec![(last, ready(last))] } else { Vec::new() };
    Due::Now { send, last }
}

/// The latest time until `until`, which `first` is one of: found by halving, for there may be millions.
fn latest(schedule: &Schedule, first: Timestamp, until: Timestamp) -> Timestamp {
    let (mut latest, mut end) = (first, until);
    while let Some(time) = schedule.next_from(first, latest).filter(|time| *time <= until) {
        latest = time;
        // None is later than `end`.
        let middle = Timestamp::from_micros(i64::midpoint(latest.as_micros(), end.as_micros()));
        match schedule.next_from(first, middle) {
            Some(time) if time <= until => latest = time,
            _ => end = middle,
        }
    }
    latest
}

#[cfg(test)]
mod tests {
    use celeriac_core::{EntryName, Signature};
    use proptest::prelude::*;

    use super::*;
    use crate::builder::Units as _;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-22T{text}Z").parse().unwrap()
    }

    fn entry(schedule: &str) -> Entry {
        Entry::new(EntryName::from_static("entry"), schedule.parse().unwrap(), Signature::named("task"))
    }

    /// The times that are sent at `now`, and the last seen to.
    fn sent(entry: &Entry, anchor: &str, now: &str) -> (Vec<String>, String) {
        match due(entry, at(anchor), at(anchor), at(now), 100) {
            Due::Not(_) => (Vec::new(), String::new()),
            Due::Now { send, last } => {
                let shown = |time: Timestamp| time.to_string()[11..19].to_owned();
                (send.iter().map(|(time, _)| shown(*time)).collect(), shown(last))
            }
        }
    }

    #[test]
    fn a_tick_in_time_is_sent_by_every_policy() {
        for catch_up in [CatchUp::Skip, CatchUp::Once, CatchUp::All] {
            let entry = entry("crontab 0 * * * *").catch_up(catch_up);
            assert_eq!(due(&entry, at("11:00:00"), at("11:00:00"), at("11:59:59"), 9), Due::Not(Some(at("12:00:00"))));
            assert_eq!(sent(&entry, "11:00:00", "12:00:00.004"), (vec!["12:00:00".to_owned()], "12:00:00".to_owned()));
        }
    }

    #[test]
    fn missed_ticks_go_by_their_policy() {
        let hourly = entry("crontab 0 * * * *");
        let cases: [(&Entry, &[&str]); 8] = [
            (&hourly.clone().catch_up(CatchUp::Skip), &[]),
            (&hourly.clone(), &["15:00:00"]),
            (&hourly.clone().catch_up(CatchUp::All), &["12:00:00", "13:00:00", "14:00:00", "15:00:00"]),
            (&hourly.clone().deadline(30.minutes()), &["15:00:00"]),
            (&hourly.clone().deadline(29.minutes()), &[]),
            (&hourly.clone().catch_up(CatchUp::All).deadline(90.minutes()), &["14:00:00", "15:00:00"]),
            (&hourly.clone().catch_up(CatchUp::All).deadline(1.minutes()), &[]),
            (&hourly.enabled(false), &[]),
        ];
        for (entry, expected) in cases {
            let (times, last) = sent(entry, "11:00:00", "15:30:00");
            assert_eq!(times, expected, "{entry:?}");
            assert_eq!(last, if entry.enabled { "15:00:00" } else { "" });
        }
        // While another takes over the lead, little time passes.
        let skips = entry("every 1s").catch_up(CatchUp::Skip);
        assert_eq!(sent(&skips, "11:00:00", "11:00:10.5").0, ["11:00:10"]);
    }

    #[test]
    fn missed_ticks_are_sent_so_many_at_once() {
        let entry = entry("every 1s").catch_up(CatchUp::All);
        let Due::Now { send, last } = due(&entry, at("11:00:00"), at("11:00:00"), at("12:00:00"), 3) else { panic!() };
        assert_eq!((send.len(), last), (3, at("11:00:03")));
    }

    #[test]
    fn jitter_makes_no_tick_late() {
        let entry = entry("crontab 0 * * * *").jitter(10.minutes()).catch_up(CatchUp::Skip).deadline(1.seconds());
        let since = at("00:00:00");
        for hour in 1..20_u32 {
            let time = since + 1.hours() * hour;
            let ready = time + delay(&entry, since, time);
            let before = time - 1.seconds();
            assert_eq!(due(&entry, since, before, ready - Duration::from_micros(1), 9), Due::Not(Some(ready)));
            assert_eq!(due(&entry, since, before, ready, 9), Due::Now { send: vec![(time, ready)], last: time });
        }
    }

    #[test]
    fn a_time_whose_jitter_is_not_over_is_not_passed_over_with_those_that_are_too_late() {
        let since = at("00:00:00");
        let entry = entry("crontab 0 * * * *").catch_up(CatchUp::All).deadline(5.minutes()).jitter(30.minutes());
        for hour in 3..20_u32 {
            let time = since + 1.hours() * hour;
            let ready = time + delay(&entry, since, time);
            let now = time + ready.since(time) / 2;
            let late = time - 1.hours();
            let expected = Due::Now { send: vec![], last: late };
            assert_eq!(due(&entry, since, time - 2.hours() - 1.seconds(), now, 9), expected);
            assert_eq!(due(&entry, since, late, ready, 9), Due::Now { send: vec![(time, ready)], last: time });
        }
    }

    proptest! {
        #[test]
        fn the_latest_time_is_found_as_if_all_were_looked_at(
            schedule in prop::sample::select(vec![
                "every 7s", "every 90m", "crontab */7 3-5 * * *", "crontab 0-30 1 * nov *", "crontab 59 23 31 dec *",
                "cron */13 * * * * *", "crontab 30 2 * * * [Europe/Berlin]", "once 2026-11-22T12:00:00Z",
            ]),
            anchor in 0..40_000_000_u32,
            pass in 0..200_000_u32,
            all in any::<bool>(),
        ) {
            let anchor = at("00:00:00") - 1.seconds() * anchor;
            let now = anchor + 1.seconds() * pass;
            let entry = entry(schedule).catch_up(if all { CatchUp::All } else { CatchUp::Once });
            let times = std::iter::successors(entry.schedule.next_from(anchor, anchor), |time| entry.schedule.next_from(*time, *time));
            let times: Vec<Timestamp> = times.take_while(|time| *time <= now).collect();
            match due(&entry, anchor, anchor, now, usize::MAX) {
                Due::Not(next) => {
                    prop_assert!(times.is_empty());
                    prop_assert_eq!(next, entry.schedule.next_from(anchor, anchor));
                }
                Due::Now { send, last } => {
                    prop_assert_eq!(Some(&last), times.last());
                    let sent: Vec<Timestamp> = send.into_iter().map(|(time, _)| time).collect();
                    prop_assert_eq!(sent, if all { times } else { vec![last] });
                }
            }
        }
    }
}
