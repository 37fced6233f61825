//! The house rules on made-up files.

use super::*;

fn rust(path: &str, text: &str) -> Vec<String> {
    check_source(&Source { path: path.into(), text: text.into() }, &[])
}

fn package() -> Package {
    Package {
        description: Some("A crate".into()),
        license: Some(LICENSE.into()),
        name: "a".into(),
        published: true,
        ..Package::default()
    }
}

#[test]
fn a_file_in_order_passes() {
    assert_eq!(rust("crates/a/src/lib.rs", "//! A crate.\n\nfn a() {}\n"), Vec::<String>::new());
}

#[test]
fn a_file_starts_with_its_purpose() {
    for text in ["", "\n//! Late.\n", "use a;\n", "/// Item.\n"] {
        assert_eq!(rust("a.rs", text).len(), 1, "{text:?}");
    }
}

#[test]
fn tabs_and_blanks_at_the_end_are_reported_with_their_line() {
    assert!(rust("a.rs", "//! A.\nlet a = 1; \n")[0].starts_with("a.rs:2: blanks"));
    assert!(rust("a.rs", "//! A.\n\tlet a = 1;\n")[0].starts_with("a.rs:2: a tab"));
    assert_eq!(check_source(&Source { path: "message.json".into(), text: "{} \n".into() }, &[]), Vec::<String>::new());
}

#[test]
fn a_long_file_needs_a_reason() {
    let text = "//! Long.\n".repeat(MAX_LINES);
    assert_eq!(rust("long.rs", &text).len(), 1);
    let source = Source { path: "long.rs".into(), text };
    assert_eq!(check_source(&source, &[("long.rs", "one table")]), Vec::<String>::new());
    assert_eq!(stale("long.rs", &[source]), None);
    assert!(stale("gone.rs", &[]).is_some());
}

#[test]
fn holes_and_skipped_tests_are_reported_in_code_only() {
    for (banned, _) in BANNED {
        assert_eq!(rust("a.rs", &format!("//! A.\n    {banned}\n")).len(), 1, "{banned}");
        assert_eq!(rust("a.rs", &format!("//! A.\n// no {banned}\n")), Vec::<String>::new());
    }
}

#[test]
fn a_path_outside_the_project_is_reported_in_every_file() {
    let text = format!("see {OUTSIDE}/page\n");
    for path in ["notes.md", "a.json"] {
        assert_eq!(check_source(&Source { path: path.into(), text: text.clone() }, &[]).len(), 1, "{path}");
    }
}

#[test]
fn a_sleep_in_a_test_needs_its_reason_on_the_line() {
    let call = format!("tokio::time::{}(a).await;", "sleep");
    let inline = format!("//! A.\nfn a() {{ {call} }}\n#[cfg(test)]\nmod tests {{\n    {call}\n}}\n");
    assert!(rust("a.rs", &inline)[0].starts_with("a.rs:5:"));
    assert_eq!(rust("a.rs", &inline).len(), 1);
    for path in
        ["tests/src/lib.rs", "crates/a/tests/b.rs", "crates/a/src/b/tests.rs", "crates/celeriac-testkit/src/a.rs"]
    {
        assert_eq!(rust(path, &format!("//! A.\n{call}\n")).len(), 1, "{path}");
        assert_eq!(rust(path, &format!("//! A.\n{call} // wait: the lease itself\n")), Vec::<String>::new());
    }
}

#[test]
fn only_the_real_sleeps_count() {
    for real in ["nap(a)", "std::thread::nap(a)", "time::nap(a).await", "tokio::time::nap_until(a)"] {
        assert!(sleeps(&real.replace("nap", "sleep")), "{real}");
    }
    for other in ["clock.nap(a)", "fn nap(a: A)", "Clock::nap(&clock, a)", "no_nap(a)", "overnap(a)"] {
        assert!(!sleeps(&other.replace("nap", "sleep")), "{other}");
    }
}

#[test]
fn manifests_carry_licence_description_and_lints() {
    let manifest = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";
    assert_eq!(check_manifest(&package(), manifest), Vec::<String>::new());
    assert_eq!(check_manifest(&package(), "[package]\n[lints.rust]\nworkspace = true\n").len(), 1);
    assert_eq!(check_manifest(&Package { license: Some("MIT".into()), ..package() }, manifest).len(), 1);
    assert_eq!(check_manifest(&Package { description: None, ..package() }, manifest).len(), 1);
    assert_eq!(check_manifest(&Package { description: None, published: false, ..package() }, manifest).len(), 0);
}
