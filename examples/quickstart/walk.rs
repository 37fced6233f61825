//! Finds every file below a folder.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Something to look into: a file, or a link that leads to no folder.
    File(PathBuf),
    /// What could not be looked into, and why.
    Unreadable(PathBuf, String),
}

/// Walks through `root` and tells what it finds, until all is told or `tell` returns `false`. Links to folders are not followed, so that it
/// never goes in circles.
pub(crate) fn walk(root: &Path, mut tell: impl FnMut(Found) -> bool) {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                if !tell(Found::Unreadable(folder, error.to_string())) {
                    return;
                }
                continue;
            }
        };
        for entry in entries {
            let found = match entry.and_then(|entry| look(&entry, &mut folders)) {
                Ok(None) => continue,
                Ok(Some(found)) => found,
                Err(error) => Found::Unreadable(folder.clone(), error.to_string()),
            };
            if !tell(found) {
                return;
            }
        }
    }
}

fn look(entry: &DirEntry, folders: &mut Vec<PathBuf>) -> io::Result<Option<Found>> {
    let (path, kind) = (entry.path(), entry.file_type()?);
    if kind.is_dir() {
        folders.push(path);
        return Ok(None);
    }
    if kind.is_symlink() && path.is_dir() {
        return Ok(None);
    }
    Ok(Some(match path.to_str() {
        Some(_) => Found::File(path),
        // An argument of a task is text, or can be written as text.
        None => Found::Unreadable(path, "its name is not UTF-8".to_owned()),
    }))
}
