//! The rules on made-up workspaces.

use super::*;

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// A published crate with these direct dependencies, which are also all it compiles.
fn member(name: &str, direct: &[&str]) -> Member {
    Member { name: name.into(), published: true, direct: names(direct), full: names(direct), bare: names(direct) }
}

fn only_problem(member: &Member) -> String {
    let problems = check(member);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap()
}

#[test]
fn allowed_arrows_pass() {
    let passing = [
        member("celeriac-core", &["serde", "uuid"]),
        member("celeriac-serializer", &["celeriac-core", "serde_json", "bincode", "zstd"]),
        member("celeriac-broker", &["celeriac-core", "async-trait"]),
        member("celeriac-consumer", &["celeriac-producer", "celeriac-broker", "tokio"]),
        member("celeriac-sqlite", &["celeriac-broker", "rusqlite", "libsqlite3-sys", "async-trait"]),
        member("celeriac-macros", &["syn", "quote", "darling"]),
    ];
    for member in &passing {
        assert_eq!(check(member), Vec::<String>::new());
    }
}

#[test]
fn a_direct_arrow_that_is_not_in_the_table_is_reported_with_the_rule() {
    let problem = only_problem(&member("celeriac-broker", &["celeriac-serializer"]));
    let rule = "of this workspace, `celeriac-broker` uses only celeriac-core";
    assert_eq!(problem, format!("`celeriac-broker` -> `celeriac-serializer`: {rule}"));
}

#[test]
fn the_macros_use_no_workspace_crate() {
    let problem = only_problem(&member("celeriac-macros", &["celeriac-core"]));
    assert!(problem.contains("uses no crate of this workspace"), "{problem}");
}

#[test]
fn a_foreign_crate_belongs_to_its_owner() {
    let problem = only_problem(&member("celeriac-producer", &["serde_json"]));
    assert_eq!(problem, "`celeriac-producer` -> `serde_json`: only celeriac-serializer may use `serde_json`");
    only_problem(&member("celeriac-producer", &["async-trait"]));
    only_problem(&member("celeriac", &["clap"]));
}

#[test]
fn unpublished_packages_may_use_anything() {
    let benches = Member { published: false, ..member("celeriac-benches", &["serde_json", "rusqlite", "celeriac"]) };
    assert_eq!(check(&benches), Vec::<String>::new());
}

#[test]
fn an_unknown_crate_says_where_to_add_it() {
    let problem = only_problem(&member("celeriac-kafka", &[]));
    assert!(problem.contains("`celeriac-kafka`") && problem.contains("xtask/src/arrows.rs"), "{problem}");
}

#[test]
fn publishing_a_workshop_is_reported() {
    only_problem(&member("xtask", &[]));
}

#[test]
fn core_compiles_nothing_asynchronous_at_any_depth() {
    let core = Member { full: names(&["serde", "tokio"]), ..member("celeriac-core", &["serde"]) };
    let problem = only_problem(&core);
    assert!(problem.starts_with("`celeriac-core` -> .. -> `tokio`: `celeriac-core` never awaits"), "{problem}");
    assert!(problem.contains("cargo tree -p celeriac-core"), "{problem}");
}

#[test]
fn a_role_pulls_no_system_and_no_driver_at_any_depth() {
    for below in ["celeriac-memory", "celeriac-redis", "rusqlite", "amq-protocol"] {
        let role =
            Member { full: names(&["celeriac-broker", below]), ..member("celeriac-consumer", &["celeriac-broker"]) };
        assert!(only_problem(&role).contains(&format!("-> .. -> `{below}`: a role")), "{below}");
    }
}

#[test]
fn a_system_pulls_no_other_system_no_foreign_driver_and_no_role() {
    for below in ["celeriac-sqlite", "libsqlite3-sys", "celeriac-consumer"] {
        let system = Member { full: names(&[below]), ..member("celeriac-redis", &["celeriac-broker"]) };
        assert!(only_problem(&system).contains(": a system"), "{below}");
    }
}

#[test]
fn only_the_bare_facade_is_free_of_systems() {
    let facade = member("celeriac", &["celeriac-core", "celeriac-memory"]);
    assert!(only_problem(&facade).contains("without default features"));
    let optional = Member { bare: names(&["celeriac-core"]), ..facade };
    assert_eq!(check(&optional), Vec::<String>::new());
}

#[test]
fn every_line_points_up_the_table_only() {
    for (index, row) in CRATES.iter().enumerate() {
        let above = &CRATES[..index];
        for used in row.may_use {
            assert!(above.iter().any(|row| row.name == *used), "{} -> {used}", row.name);
        }
    }
}

#[test]
fn every_owner_is_in_the_table() {
    let owners = OWNERS.iter().flat_map(|(_, owners)| owners.iter()).chain(DRIVERS.iter().map(|(_, owner)| owner));
    for owner in owners {
        assert!(find(owner).is_some(), "{owner}");
    }
}
