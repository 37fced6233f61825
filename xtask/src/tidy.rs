//! House rules for files and manifests that no lint checks.

use std::fs;

use crate::{
    Result,
    files::{self, Source},
    project::{Package, Project},
    verdict,
};

/// Every package's licence. Changing it takes the consent of every contributor.
const LICENSE: &str = "MIT OR Apache-2.0";

const EXPECTED_FILES: &[&str] =
    &["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md"];

const MAX_LINES: usize = 600;

/// Files that may be longer than [`MAX_LINES`], each with the reason: one type, one table or one state machine.
const LONG_FILES: &[(&str, &str)] = &[];

/// What no Rust code contains, and what to do instead. Split, so that this file does not contain it either.
const BANNED: &[(&str, &str)] = &[
    (concat!("#[", "ignore]"), "a test that does not run proves nothing: mend it or remove it"),
    (concat!("#[", "ignore ="), "a test that does not run proves nothing: mend it or remove it"),
    (concat!("#[", "should_panic"), "assert on the value or the message instead"),
    (concat!("todo", "!("), "finish it, or return an error of kind Unsupported"),
    (concat!("unimplemented", "!("), "finish it, or return an error of kind Unsupported"),
];

/// The project stands alone: no file of it names a place outside.
const OUTSIDE: &str = concat!("../", "shared");

/// Texts whose lines are kept free of trailing blanks.
const TRIMMED: &[&str] = &[".md", ".py", ".rs", ".sh", ".toml", ".yml"];

pub(crate) fn run(project: &Project) -> Result {
    let sources = files::below(&project.root, &project.root)?;
    let mut problems: Vec<String> = sources.iter().flat_map(|source| check_source(source, LONG_FILES)).collect();
    problems.extend(LONG_FILES.iter().filter_map(|(path, _)| stale(path, &sources)));
    for package in &project.packages {
        problems.extend(check_manifest(package, &fs::read_to_string(&package.manifest)?));
    }
    for file in EXPECTED_FILES {
        if !project.root.join(file).is_file() {
            problems.push(format!("{file}: missing"));
        }
    }
    verdict(&problems, "house rules")?;
    println!("tidy: {} files, {} manifests in order", sources.len(), project.packages.len());
    Ok(())
}

fn check_source(source: &Source, long_files: &[(&str, &str)]) -> Vec<String> {
    let Source { path, text } = source;
    let mut problems = Vec::new();
    let trimmed = TRIMMED.iter().any(|ending| path.ends_with(ending)) || path.starts_with(".ci/");
    for (number, line) in (1..).zip(text.lines()) {
        if trimmed && line.ends_with(char::is_whitespace) {
            problems.push(format!("{path}:{number}: blanks at the end of the line"));
        }
        if line.contains(OUTSIDE) {
            problems.push(format!("{path}:{number}: names `{OUTSIDE}`, which a clone does not have"));
        }
    }
    if path.ends_with(".rs") {
        problems.extend(check_rust(path, text, long_files));
    }
    problems
}

fn check_rust(path: &str, text: &str, long_files: &[(&str, &str)]) -> Vec<String> {
    let mut problems = Vec::new();
    // A compile test is what a user would write, and its line numbers are part of the expected message.
    if !text.starts_with("//!") && !path.starts_with("tests/ui/") {
        problems.push(format!("{path}:1: the first line must be `//! what the file is for`"));
    }
    let lines = text.lines().count();
    if lines >= MAX_LINES && !long_files.iter().any(|(long, _)| *long == path) {
        let advice = "look for a second responsibility, or list it with a reason in LONG_FILES of xtask/src/tidy.rs";
        problems.push(format!("{path}: {lines} lines, {MAX_LINES} or more: {advice}"));
    }
    let mut in_tests = is_test_file(path);
    let mut previous = "";
    for (number, line) in (1..).zip(text.lines()) {
        if line.contains('\t') {
            problems.push(format!("{path}:{number}: a tab; indent with spaces"));
        }
        // By house order the tests stand last in their file.
        in_tests |= previous.trim() == "#[cfg(test)]" && line.starts_with("mod ") && line.ends_with('{');
        let code = line.split("//").next().unwrap_or_default();
        for (banned, instead) in BANNED {
            if code.contains(banned) {
                problems.push(format!("{path}:{number}: `{banned}`: {instead}"));
            }
        }
        if in_tests && sleeps(code) && !line.contains("// wait: ") {
            let advice = "wait for the condition, or say on the line why only time will do: `// wait: reason`";
            problems.push(format!("{path}:{number}: a sleep in a test: {advice}"));
        }
        previous = line;
    }
    problems
}

/// The conformance kit's suites are tests too.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests" || part == "celeriac-testkit")
}

/// Whether `code` calls the thread's or tokio's sleep; a clock's own `sleep` method is free.
fn sleeps(code: &str) -> bool {
    ["sleep(", "sleep_until("].iter().flat_map(|call| code.match_indices(call)).any(|(at, _)| {
        let before = &code[..at];
        match before.chars().next_back() {
            Some(':') => before.ends_with("thread::") || before.ends_with("time::"),
            Some(last) => last != '.' && last != '_' && !last.is_alphanumeric() && !before.ends_with("fn "),
            None => true,
        }
    })
}

/// A line of [`LONG_FILES`] that serves no file any more.
fn stale(path: &str, sources: &[Source]) -> Option<String> {
    let long = sources.iter().any(|source| source.path == path && source.text.lines().count() >= MAX_LINES);
    (!long).then(|| format!("{path}: no longer long; remove it from LONG_FILES of xtask/src/tidy.rs"))
}

fn check_manifest(package: &Package, manifest: &str) -> Vec<String> {
    let name = &package.name;
    let mut problems = Vec::new();
    if package.license.as_deref() != Some(LICENSE) {
        problems.push(format!("{name}: the licence must be `{LICENSE}`: `license.workspace = true`"));
    }
    if package.published && package.description.as_deref().unwrap_or_default().is_empty() {
        problems.push(format!("{name}: a published crate needs a `description`"));
    }
    let mut lines = manifest.lines().map(str::trim).filter(|line| !line.is_empty());
    let lints = lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true");
    if !lints {
        problems.push(format!("{name}: Cargo.toml lacks `[lints]` with `workspace = true`"));
    }
    problems
}

#[cfg(test)]
mod tests;
