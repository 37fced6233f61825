//! What the command line asks for.

use crate::system::Kind;

/// A part of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Sending and working.
    Rates,
    /// Lone tasks, with nothing else to do.
    Lone,
    /// Lone tasks beside a load.
    Load,
    /// Peak memory. Not named `memory`: that is a system.
    Peak,
    /// An idle worker.
    Idle,
    /// Allocations for each task.
    Allocations,
    /// Beside Python's Celery.
    Python,
    /// More slots, larger arguments, longer queues, more queues.
    Growth,
}

impl Part {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 8] =
        [Self::Rates, Self::Lone, Self::Load, Self::Peak, Self::Idle, Self::Allocations, Self::Python, Self::Growth];

    /// Its name on the command line and in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rates => "rates",
            Self::Lone => "lone",
            Self::Load => "load",
            Self::Peak => "peak",
            Self::Idle => "idle",
            Self::Allocations => "allocations",
            Self::Python => "python",
            Self::Growth => "growth",
        }
    }
}

/// What to measure, and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Which systems.
    pub systems: Vec<Kind>,
    /// Which parts.
    pub parts: Vec<Part>,
    /// Rounds of rates; other parts have at most three.
    pub rounds: usize,
    /// What all counts are multiplied by.
    pub scale: f64,
}

impl Options {
    /// Reads the words of the command line: names of systems and of parts, all of those of which none is named.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn read(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { systems: Vec::new(), parts: Vec::new(), rounds: 5, scale: 1.0 };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match &*word {
                // Cargo adds it.
                "--bench" => {}
                "help" | "--help" | "-h" => return Err(usage()),
                "--rounds" => options.rounds = value(&word, words.next(), |rounds| *rounds > 0)?,
                "--scale" => options.scale = value(&word, words.next(), |scale| *scale > 0.0 && *scale <= 1_000.0)?,
                name => match (Kind::named(name), Part::ALL.into_iter().find(|part| part.name() == name)) {
                    (Some(system), _) => options.systems.push(system),
                    (_, Some(part)) => options.parts.push(part),
                    _ => return Err(format!("`{name}` is neither a system nor a part\n{}", usage())),
                },
            }
        }
        if options.systems.is_empty() {
            options.systems.extend(Kind::ALL);
        }
        if options.parts.is_empty() {
            options.parts.extend(Part::ALL);
        }
        Ok(options)
    }

    /// Rounds of what takes longer, or differs less.
    #[must_use]
    pub fn few_rounds(&self) -> usize {
        self.rounds.min(3)
    }

    /// So many times the scale, but at least `least`.
    #[must_use]
    pub fn count(&self, count: usize, least: usize) -> usize {
        crate::scaled(count, self.scale, least)
    }

    /// Whether a part is asked for.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

fn value<T: std::str::FromStr>(option: &str, word: Option<String>, sound: impl Fn(&T) -> bool) -> Result<T, String> {
    let word = word.ok_or_else(|| format!("`{option}` lacks its number\n{}", usage()))?;
    let value = word.parse().ok().filter(sound);
    value.ok_or_else(|| format!("`{option} {word}` is no sensible number\n{}", usage()))
}

fn usage() -> String {
    let systems = Kind::ALL.map(Kind::name).join(", ");
    let parts = Part::ALL.map(Part::name).join(", ");
    format!("systems: {systems}\nparts: {parts}\noptions: --rounds N (5), --scale F (1): all counts times F, for a try")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_names_everything_runs() {
        let all = read("--bench").unwrap();
        assert_eq!((all.systems, all.parts), (Kind::ALL.to_vec(), Part::ALL.to_vec()));
        assert_eq!((all.rounds, all.scale), (5, 1.0));
    }

    #[test]
    fn names_choose_systems_and_parts() {
        let some = read("redis rates idle --rounds 2 --scale 0.01 memory --bench").unwrap();
        assert_eq!(some.systems, [Kind::Redis, Kind::Memory]);
        assert_eq!(some.parts, [Part::Rates, Part::Idle]);
        assert_eq!((some.rounds, some.few_rounds(), some.count(100_000, 1), some.count(10, 1)), (2, 2, 1_000, 1));
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_are_known() {
        let error = read("kafka").unwrap_err();
        assert!(error.starts_with("`kafka` is neither a system nor a part\n"), "{error}");
        for name in Kind::ALL.map(Kind::name).iter().chain(&Part::ALL.map(Part::name)) {
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn a_number_must_be_one() {
        for line in ["--rounds", "--rounds 0", "--rounds many", "--scale 0", "--scale -1", "--scale NaN"] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn no_two_names_are_the_same() {
        let names: std::collections::BTreeSet<_> =
            Kind::ALL.map(Kind::name).into_iter().chain(Part::ALL.map(Part::name)).collect();
        assert_eq!(names.len(), Kind::ALL.len() + Part::ALL.len());
    }
}
