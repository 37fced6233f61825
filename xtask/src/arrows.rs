//! Who may depend on whom. The tables are the rule; a new crate adds its line here.

use std::collections::BTreeSet;

use crate::{
    Result,
    project::{Features, Project},
    signatures, verdict,
};

/// A workspace crate and the workspace crates it may use.
struct Row {
    name: &'static str,
    kind: Kind,
    may_use: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Part of the framework; knows no outside system.
    Role,
    /// One outside system behind the traits; knows no role beyond the traits and no other system.
    System,
    Macros,
    Testkit,
    Facade,
    /// A program over the facade.
    Program,
    /// Unpublished: examples, tests, benches, tools. May use anything.
    Workshop,
}

const fn row(name: &'static str, kind: Kind, may_use: &'static [&'static str]) -> Row {
    Row { name, kind, may_use }
}

// Role crates that hold the traits; all that a system and the testkit may see.
const CORE: &str = "celeriac-core";
const SERIALIZER: &str = "celeriac-serializer";
const BROKER: &str = "celeriac-broker";
const BACKEND: &str = "celeriac-backend";
const SCHEDULE: &str = "celeriac-schedule";
const TRAITS: &[&str] = &[CORE, SERIALIZER, BROKER, BACKEND, SCHEDULE];

const SCHEDULER: &str = "celeriac-scheduler";
const PRODUCER: &str = "celeriac-producer";
const FACADE: &str = "celeriac";

/// Every crate that the facade may gather.
const GATHERED: &[&str] = &[
    CORE,
    SERIALIZER,
    BROKER,
    BACKEND,
    SCHEDULE,
    PRODUCER,
    "celeriac-consumer",
    SCHEDULER,
    "celeriac-control",
    "celeriac-memory",
    "celeriac-sqlite",
    "celeriac-redis",
    "celeriac-amqp",
    "celeriac-macros",
    "celeriac-testkit",
];

/// One line for each crate, lowest first: an arrow may only point at a line further up.
const CRATES: &[Row] = &[
    row(CORE, Kind::Role, &[]),
    row(SERIALIZER, Kind::Role, &[CORE]),
    row(BROKER, Kind::Role, &[CORE]),
    row(BACKEND, Kind::Role, &[CORE]),
    row(SCHEDULE, Kind::Role, &[CORE, BROKER]),
    row(PRODUCER, Kind::Role, &[CORE, SERIALIZER, BROKER, BACKEND]),
    row("celeriac-consumer", Kind::Role, &[CORE, SERIALIZER, BROKER, BACKEND, PRODUCER]),
    row(SCHEDULER, Kind::Role, &[CORE, SERIALIZER, BROKER, SCHEDULE]),
    row("celeriac-control", Kind::Role, &[CORE, SERIALIZER, BROKER]),
    row("celeriac-memory", Kind::System, TRAITS),
    row("celeriac-sqlite", Kind::System, TRAITS),
    row("celeriac-redis", Kind::System, TRAITS),
    row("celeriac-amqp", Kind::System, TRAITS),
    row("celeriac-macros", Kind::Macros, &[]),
    row("celeriac-testkit", Kind::Testkit, TRAITS),
    row(FACADE, Kind::Facade, GATHERED),
    row("celeriac-cli", Kind::Program, &[FACADE]),
    row("celeriac-dashboard", Kind::Program, &[FACADE]),
    row("celeriac-examples", Kind::Workshop, &[]),
    row("celeriac-tests", Kind::Workshop, &[]),
    row("celeriac-benches", Kind::Workshop, &[]),
    row("celeriac-fuzz", Kind::Workshop, &[]),
    row("xtask", Kind::Workshop, &[]),
];

/// A foreign crate and the published crates that may depend on it directly.
const OWNERS: &[(&str, &[&str])] = &[
    ("serde_json", &[SERIALIZER]),
    ("rmp-serde", &[SERIALIZER]),
    ("bincode", &[SERIALIZER]),
    ("serde_yaml_ng", &[SERIALIZER]),
    ("brotli", &[SERIALIZER]),
    ("bzip2", &[SERIALIZER]),
    ("flate2", &[SERIALIZER]),
    ("lzma-rust2", &[SERIALIZER]),
    ("zstd", &[SERIALIZER]),
    ("croner", &[SCHEDULER]),
    ("rusqlite", &["celeriac-sqlite"]),
    ("libsqlite3-sys", &["celeriac-sqlite"]),
    ("redis", &["celeriac-redis"]),
    ("deadpool-redis", &["celeriac-redis"]),
    ("lapin", &["celeriac-amqp"]),
    ("async-rs", &["celeriac-amqp"]),
    ("syn", &["celeriac-macros"]),
    ("quote", &["celeriac-macros"]),
    ("proc-macro2", &["celeriac-macros"]),
    ("darling", &["celeriac-macros"]),
    ("clap", &["celeriac-cli"]),
    ("ratatui", &["celeriac-cli"]),
    ("axum", &["celeriac-dashboard"]),
    (
        "async-trait",
        &[
            BROKER,
            BACKEND,
            SCHEDULE,
            SCHEDULER,
            "celeriac-memory",
            "celeriac-sqlite",
            "celeriac-redis",
            "celeriac-amqp",
            "celeriac-testkit",
            FACADE,
        ],
    ),
];

/// What speaks to an outside system, and the one crate that may compile it (with those above it).
const DRIVERS: &[(&str, &str)] = &[
    ("rusqlite", "celeriac-sqlite"),
    ("libsqlite3-sys", "celeriac-sqlite"),
    ("redis", "celeriac-redis"),
    ("deadpool-redis", "celeriac-redis"),
    ("lapin", "celeriac-amqp"),
    ("amq-protocol", "celeriac-amqp"),
    ("async-rs", "celeriac-amqp"),
];

/// What `celeriac-core` never compiles: it never awaits.
const ASYNC: &[&str] = &[
    "async-executor",
    "async-io",
    "async-std",
    "async-trait",
    "futures",
    "futures-core",
    "futures-executor",
    "futures-util",
    "mio",
    "smol",
    "tokio",
    "tokio-util",
];

/// A workspace package with the crates it names and the crates it compiles.
#[derive(Clone, Debug, Default)]
struct Member {
    name: String,
    published: bool,
    /// Direct normal and build dependencies as declared, optional ones too.
    direct: BTreeSet<String>,
    /// All it compiles with all features.
    full: BTreeSet<String>,
    /// All it compiles without default features.
    bare: BTreeSet<String>,
}

/// Checks the workspace around `project`.
pub(crate) fn run(project: &Project) -> Result {
    let mut members = Vec::new();
    for package in &project.packages {
        let (mut full, mut bare) = (BTreeSet::new(), BTreeSet::new());
        if package.published {
            full = project.closure(&package.name, Features::All)?;
            bare = project.closure(&package.name, Features::None)?;
        }
        let (name, published, direct) = (package.name.clone(), package.published, package.dependencies.clone());
        members.push(Member { name, published, direct, full, bare });
    }
    let mut problems: Vec<String> = members.iter().flat_map(check).collect();
    for package in project.published().filter(|package| kind(&package.name) == Some(Kind::System)) {
        problems.extend(signatures::check(package, project)?);
    }
    verdict(&problems, "dependency rules")?;
    println!("arrows: {} crates, every arrow allowed", members.len());
    Ok(())
}

fn find(name: &str) -> Option<&'static Row> {
    CRATES.iter().find(|row| row.name == name)
}

fn kind(name: &str) -> Option<Kind> {
    find(name).map(|row| row.kind)
}

/// Every rule that `member` breaks, one line each: crate, arrow, rule.
fn check(member: &Member) -> Vec<String> {
    let name = &member.name;
    let Some(row) = find(name) else {
        return vec![format!("`{name}` is not in the table: add its line to CRATES in xtask/src/arrows.rs")];
    };
    let mut problems = Vec::new();
    if member.published == (row.kind == Kind::Workshop) {
        problems
            .push(format!("`{name}`: {:?} in xtask/src/arrows.rs does not fit `publish` in its Cargo.toml", row.kind));
    }
    for used in &member.direct {
        if let Some(rule) = direct_rule(row, used) {
            problems.push(format!("`{name}` -> `{used}`: {rule}"));
        }
    }
    for (compiled, features) in [(&member.full, Features::All), (&member.bare, Features::None)] {
        for below in compiled.iter().filter(|below| *below != name) {
            if let Some(rule) = deep_rule(row, below, features) {
                let show = format!("cargo tree -p {name} -e normal,build {} -i {below}", features.flag());
                problems.push(format!("`{name}` -> .. -> `{below}`: {rule} (see `{show}`)"));
            }
        }
    }
    problems
}

/// The rule that the declared arrow from `row` to `used` breaks, if any.
fn direct_rule(row: &Row, used: &str) -> Option<String> {
    if row.kind == Kind::Workshop {
        return None;
    }
    if find(used).is_some() {
        return (!row.may_use.contains(&used)).then(|| match row.may_use {
            [] => format!("`{}` uses no crate of this workspace", row.name),
            names => format!("of this workspace, `{}` uses only {}", row.name, names.join(", ")),
        });
    }
    let (_, owners) = OWNERS.iter().find(|(foreign, _)| *foreign == used)?;
    (!owners.contains(&row.name)).then(|| format!("only {} may use `{used}`", owners.join(", ")))
}

/// The rule that `row` breaks by compiling `below` at any depth, if any.
fn deep_rule(row: &Row, below: &str, features: Features) -> Option<String> {
    let driver = DRIVERS.iter().find(|(driver, _)| *driver == below);
    let is_system = kind(below) == Some(Kind::System);
    match (row.kind, features) {
        (Kind::Role, Features::All) if is_system => Some("a role never names a system".to_owned()),
        (Kind::Role, Features::All) if driver.is_some() => Some("a role pulls no driver".to_owned()),
        (Kind::Role, Features::All) if row.name == CORE && ASYNC.contains(&below) => {
            Some(format!("`{CORE}` never awaits, so nothing asynchronous is below it"))
        }
        (Kind::System, Features::All) if is_system => Some("a system never names another system".to_owned()),
        (Kind::System, Features::All) if driver.is_some_and(|(_, owner)| *owner != row.name) => {
            Some("a system pulls no driver but its own".to_owned())
        }
        (Kind::System, Features::All) if kind(below) == Some(Kind::Role) && !TRAITS.contains(&below) => {
            Some("a system never names a role, only the traits".to_owned())
        }
        (Kind::Facade, Features::None) if is_system || driver.is_some() => {
            Some("the facade without default features pulls no system".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
