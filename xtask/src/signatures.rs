//! Driver types stay out of the system crates' public signatures.
//!
//! A check of the text: it sees a driver's path written out, not a type imported under its bare name.

use crate::{
    Result, files,
    project::{Package, Project},
};

const DRIVER_PATHS: &[&str] = &["async_rs::", "deadpool_redis::", "lapin::", "redis::", "rusqlite::"];

pub(crate) fn check(package: &Package, project: &Project) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for source in files::below(&package.directory().join("src"), &project.root)? {
        if source.path.ends_with(".rs") {
            problems.extend(leaks(&source.text).into_iter().map(|(line, driver)| {
                format!(
                    "{}:{line}: `{driver}` in a public signature: no driver type leaves its system crate",
                    source.path
                )
            }));
        }
    }
    Ok(problems)
}

/// The line of each public signature that names a driver, and the driver's path.
fn leaks(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    let mut signature = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("pub ") {
            signature = Some(index + 1);
        }
        let Some(start) = signature else { continue };
        if let Some(driver) = DRIVER_PATHS.iter().find(|path| names(line, path)) {
            found.push((start, *driver));
            signature = None;
        }
        // A function's signature may run over many lines; a field ends with its own.
        if line.contains(['{', ';']) || !spans_lines(text.lines().nth(start - 1).unwrap_or(line)) {
            signature = None;
        }
    }
    found
}

fn spans_lines(first: &str) -> bool {
    let mut words = first.split_whitespace();
    words.any(|word| matches!(word, "fn" | "type" | "use" | "struct" | "trait" | "enum"))
}

/// Whether `path` stands in `line` as a path of its own, not as the end of a longer name.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && before != '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_in_a_public_line_is_reported() {
        let text = "use rusqlite::Connection;\n    pub fn open(c: rusqlite::Connection) {}\npub use lapin::Channel;\n";
        assert_eq!(leaks(text), [(2, "rusqlite::"), (3, "lapin::")]);
    }

    #[test]
    fn a_signature_of_many_lines_is_read_to_its_end() {
        let text = "pub async fn run(\n    name: &str,\n    client: redis::Client,\n) -> u8 {\n    0\n}\n";
        assert_eq!(leaks(text), [(1, "redis::")]);
    }

    #[test]
    fn a_public_field_is_reported() {
        assert_eq!(leaks("pub struct Store {\n    pub inner: rusqlite::Connection,\n}\n"), [(2, "rusqlite::")]);
    }

    #[test]
    fn private_items_bodies_and_longer_names_are_free() {
        let text = "pub(crate) fn a(c: rusqlite::Connection) {}\npub fn b() {\n    rusqlite::Connection::open(p);\n}\n\
                    pub use celeriac_redis::Broker;\npub struct C {\n    pub count: u64,\n    inner: redis::Client,\n}\n";
        assert_eq!(leaks(text), []);
    }
}
