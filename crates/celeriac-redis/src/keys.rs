//! The names of keys and channels: kombu's, Celery's, and our own, which begin with `_celeriac`.

use crate::config::{PriorityOrder, RedisConfig};

/// What kombu puts between the parts of a name.
pub(crate) const SEPARATOR: &str = "\u{6}\u{16}";

/// How many messages that cannot be read are kept aside.
pub(crate) const MOST_ASIDE: usize = 1_000;

/// The version of what lies in the keys of a schedule: [`ScheduleKeys`].
pub(crate) const SCHEDULE_VERSION: u32 = 1;

/// The names in one database, under one prefix.
///
/// # Wire format
/// `kombu/transport/redis.py`, kombu 5.7; `celery/backends/base.py::KeyValueStoreBackend`, celery 5.7.
#[derive(Debug)]
pub(crate) struct Keys {
    prefix: String,
    result_prefix: String,
    /// What stands before the name of an exchange in the name of its channel; has the number of the database, for channels have none.
    channel_prefix: String,
    steps: Vec<u8>,
    highest_first: bool,

    /// Hash: what is held, by tag: a list of envelope, exchange and routing key.
    pub(crate) unacked: String,
    /// Sorted set: the tags, by when they were taken (kombu) or when their lease ends (ours), in seconds.
    pub(crate) unacked_index: String,
    /// Hash: the options of each queue that was declared.
    pub(crate) queues: String,
    /// Hash: the kind of each exchange that was declared.
    pub(crate) exchanges: String,
    /// Number: how many messages were ever taken.
    pub(crate) taken: String,
    /// Sorted set: the queues with parked messages, by when the first is due, in microseconds.
    pub(crate) parked_index: String,
    /// Sorted set: the handles that consume, by when their lease ends, in microseconds.
    pub(crate) workers: String,
    /// String: there while it is too early for another sweep.
    pub(crate) sweep: String,
    /// List: messages that could not be read, newest first.
    pub(crate) aside: String,
    /// Channel: the names of queues whose first due time became an earlier one.
    pub(crate) due_channel: String,
    pub(crate) schedule: ScheduleKeys,
}

/// The keys of the store of schedules. Entries are by their names.
#[derive(Debug)]
pub(crate) struct ScheduleKeys {
    /// Hash: the version of these keys, the last revision, who leads and until when, and what was forgotten.
    pub(crate) schedule: String,
    /// Hash: `<revision>:<definition>`.
    pub(crate) definitions: String,
    /// Hash: `<steps>:<state>`.
    pub(crate) states: String,
    /// Sorted set: all names, by their bytes.
    pub(crate) names: String,
    /// Sorted set: entries, and the removed ones that are remembered, by the revision of their last change.
    pub(crate) changes: String,
    /// Sorted set: the latter alone.
    pub(crate) removed: String,
    /// Channel: something has changed, or the leader resigned.
    pub(crate) channel: String,
}

impl Keys {
    pub(crate) fn new(config: &RedisConfig) -> Self {
        let prefix = config.global_keyprefix.clone();
        let own = |name: &str| format!("{prefix}_celeriac.{name}");
        Self {
            unacked: format!("{prefix}unacked"),
            unacked_index: format!("{prefix}unacked_index"),
            queues: own("queues"),
            exchanges: own("exchanges"),
            taken: own("taken"),
            parked_index: own("parked"),
            workers: own("workers"),
            sweep: own("sweep"),
            aside: own("aside"),
            due_channel: format!("{prefix}/{}._celeriac.due", config.db),
            schedule: ScheduleKeys {
                schedule: own("schedule"),
                definitions: own("schedule.definitions"),
                states: own("schedule.states"),
                names: own("schedule.names"),
                changes: own("schedule.changes"),
                removed: own("schedule.removed"),
                channel: format!("{prefix}/{}._celeriac.schedule", config.db),
            },
            channel_prefix: format!("{prefix}{}", config.channel_prefix()),
            result_prefix: config.result_prefix(),
            steps: config.priority_steps.clone(),
            highest_first: config.priority_order == PriorityOrder::Highest,
            prefix,
        }
    }

    /// The step that `priority` belongs to: the largest one not above it.
    pub(crate) fn step(&self, priority: u8) -> u8 {
        let priority = priority.min(9);
        self.steps.iter().rev().find(|step| **step <= priority).or(self.steps.first()).copied().unwrap_or(0)
    }

    /// The steps, in the order in which their lists are read.
    pub(crate) fn steps(&self) -> Vec<u8> {
        let mut steps = self.steps.clone();
        if self.highest_first {
            steps.reverse();
        }
        steps
    }

    /// The list of a queue's messages of one step.
    pub(crate) fn list(&self, queue: &str, step: u8) -> String {
        match step {
            0 => format!("{}{queue}", self.prefix),
            step => format!("{}{queue}{SEPARATOR}{step}", self.prefix),
        }
    }

    /// What every list begins with.
    pub(crate) fn list_prefix(&self) -> &str {
        &self.prefix
    }

    /// Sorted set: a queue's messages that are not due, by when they are, in microseconds.
    pub(crate) fn parked(&self, queue: &str) -> String {
        format!("{}{queue}", self.parked_prefix())
    }

    /// What every key of parked messages begins with.
    pub(crate) fn parked_prefix(&self) -> String {
        format!("{}_celeriac.parked.", self.prefix)
    }

    /// Hash: what the last calls of a handle did, for the case that their answers are lost.
    pub(crate) fn marks(&self, owner: &str) -> String {
        format!("{}_celeriac.marks.{owner}", self.prefix)
    }

    /// Set: an exchange's bindings.
    pub(crate) fn binding(&self, exchange: &str) -> String {
        format!("{}_kombu.binding.{exchange}", self.prefix)
    }

    /// Set: those of queues that do not expire, which keep kombu from sweeping the others.
    pub(crate) fn permanent_binding(&self, exchange: &str) -> String {
        format!("{}_kombu.binding_permanent.{exchange}", self.prefix)
    }

    /// Set: the fanout exchanges that a queue is bound to.
    pub(crate) fn fanouts(&self, queue: &str) -> String {
        format!("{}_celeriac.fanouts.{queue}", self.prefix)
    }

    /// Set: the queues that we have bound to a fanout exchange. kombu's own, which are in its table too, take nothing from a list.
    pub(crate) fn fanout_queues(&self, exchange: &str) -> String {
        format!("{}_celeriac.fanout.{exchange}", self.prefix)
    }

    /// What the keys of messages of fanout exchanges that queues have got begin with; their sum follows.
    pub(crate) fn seen_prefix(&self) -> String {
        format!("{}_celeriac.seen.", self.prefix)
    }

    /// The channel that a fanout exchange publishes to.
    pub(crate) fn fanout_channel(&self, exchange: &str, routing_key: &str) -> String {
        let exchange = format!("{}{exchange}", self.channel_prefix);
        if routing_key.is_empty() { exchange } else { format!("{exchange}/{routing_key}") }
    }

    /// The record of a task; its channel too.
    pub(crate) fn record(&self, task: &str) -> String {
        format!("{}celery-task-meta-{task}", self.result_prefix)
    }

    /// String: a group that was saved.
    pub(crate) fn group(&self, group: &str) -> String {
        format!("{}celery-taskset-meta-{group}", self.result_prefix)
    }

    /// The keys of the chord whose header a group is.
    pub(crate) fn chord(&self, group: &str) -> ChordKeys {
        let group = self.group(group);
        ChordKeys {
            results: format!("{group}.j"),
            delta: format!("{group}.t"),
            size: format!("{group}.s"),
            counted: format!("{group}.d"),
            claim: format!("{group}.c"),
            group,
        }
    }
}

/// The keys of a chord.
///
/// # Wire format
/// `celery/backends/redis.py::RedisBackend.on_chord_part_return`, celery 5.7.
#[derive(Debug)]
pub(crate) struct ChordKeys {
    /// Sorted set: the parts, by their index.
    pub(crate) results: String,
    /// Number: how many parts there are more than the size says.
    pub(crate) delta: String,
    /// Number: how many parts were sent.
    pub(crate) size: String,
    /// Set: the parts that were counted, as `<task>:<index>`.
    pub(crate) counted: String,
    /// String: the token of whoever sends the body; `done` when it was sent.
    pub(crate) claim: String,
    /// String: the group, if it was saved.
    pub(crate) group: String,
}

/// A binding as kombu writes it: routing key, pattern, queue.
pub(crate) fn binding_member(routing_key: &str, pattern: &str, queue: &str) -> String {
    format!("{routing_key}{SEPARATOR}{pattern}{SEPARATOR}{queue}")
}

/// Reads a binding: routing key, pattern, queue.
pub(crate) fn read_binding(member: &str) -> Option<(&str, &str, &str)> {
    let mut parts = member.split(SEPARATOR);
    let binding = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(binding)
}

/// The regular expression that kombu keeps with a topic's binding key.
///
/// # Wire format
/// `kombu/transport/virtual/exchange.py::TopicExchange._key_to_pattern`, kombu 5.7.
pub(crate) fn topic_pattern(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len() + 8);
    for char in key.chars() {
        match char {
            '\0' => escaped.push_str(r"\000"),
            '.' | '#' | '*' => escaped.push(char),
            _ if char.is_alphanumeric() => escaped.push(char),
            _ => escaped.extend(['\\', char]),
        }
    }
    let words = escaped.split('.').map(|word| match word {
        "*" => r"[^\.]+",
        "#" => ".*?",
        word => word,
    });
    format!("^{}$", words.collect::<Vec<_>>().join(r"\."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(url: &str) -> Keys {
        Keys::new(&RedisConfig::from_url(url).unwrap())
    }

    #[test]
    fn a_priority_belongs_to_the_largest_step_not_above_it() {
        let keys = keys("redis://localhost");
        let steps = [0, 2, 3, 5, 6, 8, 9, 12, 255].map(|priority| keys.step(priority));
        assert_eq!(steps, [0, 0, 3, 3, 6, 6, 9, 9, 9]);
    }

    #[test]
    fn lists_are_named_as_kombu_names_them() {
        let keys = keys("redis://localhost/3?global_keyprefix=pre_");
        assert_eq!(keys.list("celery", 0), "pre_celery");
        assert_eq!(keys.list("celery", 3), "pre_celery\u{6}\u{16}3");
        assert_eq!(keys.unacked_index, "pre_unacked_index");
        assert_eq!(keys.fanout_channel("celeryev", "worker.#"), "pre_/3.celeryev/worker.#");
        assert_eq!(keys.fanout_channel("celery.pidbox", ""), "pre_/3.celery.pidbox");
    }

    #[test]
    fn the_schedule_has_its_own_keys_behind_the_prefix_and_a_channel_for_each_database() {
        let keys = keys("redis://localhost/3?global_keyprefix=pre_").schedule;
        assert_eq!(keys.schedule, "pre__celeriac.schedule");
        for key in [&keys.definitions, &keys.states, &keys.names, &keys.changes, &keys.removed] {
            assert!(key.starts_with("pre__celeriac.schedule."), "{key}");
        }
        assert_eq!(keys.channel, "pre_/3._celeriac.schedule");
    }

    #[test]
    fn lists_are_read_from_either_end() {
        assert_eq!(keys("redis://localhost").steps(), [0, 3, 6, 9]);
        assert_eq!(keys("redis://localhost?priority_order=highest").steps(), [9, 6, 3, 0]);
    }

    #[test]
    fn groups_and_chords_have_celerys_keys_behind_the_prefix_of_results() {
        let keys = keys("redis://localhost?global_keyprefix=queues_&result_keyprefix=myapp");
        assert_eq!(keys.group("g"), "myapp_celery-taskset-meta-g");
        let chord = keys.chord("g");
        assert_eq!(chord.results, "myapp_celery-taskset-meta-g.j");
        assert_eq!([&chord.delta, &chord.size].map(|key| &key[key.len() - 3..]), ["g.t", "g.s"]);
        assert_eq!([&chord.counted, &chord.claim].map(|key| &key[key.len() - 3..]), ["g.d", "g.c"]);
    }

    #[test]
    fn topics_have_the_patterns_that_kombu_gives_them() {
        // Made by `TopicExchange.key_to_pattern`, kombu 5.7.
        for (key, pattern) in [
            ("a.*.c", r"^a\.[^\.]+\.c$"),
            ("a.#", r"^a\..*?$"),
            ("#", "^.*?$"),
            ("a_b-c.d*e", r"^a\_b\-c\.d*e$"),
            ("", "^$"),
        ] {
            assert_eq!(topic_pattern(key), pattern, "{key}");
        }
    }

    #[test]
    fn a_binding_is_read_as_it_is_written() {
        let member = binding_member("a.#", &topic_pattern("a.#"), "jobs");
        assert_eq!(read_binding(&member), Some(("a.#", r"^a\..*?$", "jobs")));
        assert_eq!(read_binding("celery"), None);
    }
}
