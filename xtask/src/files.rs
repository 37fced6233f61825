//! The project's own files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::Result;

/// A text file, with its path from the workspace root, `/` between the parts.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Hidden folders that hold the project's own files; others (`.git`, editors') are none of ours.
const OWN_HIDDEN: &[&str] = &[".cargo", ".ci", ".config", ".github"];

/// Every text file below `directory` in order of path, without build output and foreign hidden folders.
pub(crate) fn below(directory: &Path, root: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    collect(directory, &mut found)?;
    found.sort();
    let mut sources = Vec::with_capacity(found.len());
    for file in found {
        // Not UTF-8: a captured message or an image, not a text of ours.
        if let Ok(text) = String::from_utf8(fs::read(&file)?) {
            let parts: Vec<_> = file.strip_prefix(root)?.iter().map(|part| part.to_string_lossy()).collect();
            sources.push(Source { path: parts.join("/"), text });
        }
    }
    Ok(sources)
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) -> Result {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        if kind.is_dir() && name != "target" && (!name.starts_with('.') || OWN_HIDDEN.contains(&&*name)) {
            collect(&entry.path(), found)?;
        } else if kind.is_file() && name != ".git" {
            found.push(entry.path());
        }
    }
    Ok(())
}
