//! A virtual environment with real Celery, for the interop tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::packages;
use crate::{Result, command::Cmd, project::Project};

const REQUIREMENTS: &str = "tests/python/requirements.txt";

/// Below the target folder. `tests/src/python.rs` looks for it there.
const ENVIRONMENT: &str = "peers/python";

/// Makes the environment, unless it has what is required.
pub(super) fn peers(project: &Project) -> Result {
    let root = project.root.as_path();
    let environment = Environment { folder: project.target.join(ENVIRONMENT) };
    let wanted = fs::read_to_string(root.join(REQUIREMENTS))?;
    if environment.has(&wanted, root) {
        println!("setup: Python Celery is here");
        return Ok(());
    }
    println!("setup: Python Celery is missing, installing it in {}", environment.folder.display());
    if environment.folder.exists() {
        fs::remove_dir_all(&environment.folder)?;
    }
    environment.make(root)?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS];
    Cmd::new(environment.python(), &install).run(root)?;
    // Last, so that an installation that was broken off does not count.
    fs::write(environment.stamp(), wanted)?;
    println!("setup: Python Celery is here");
    Ok(())
}

struct Environment {
    folder: PathBuf,
}

impl Environment {
    fn python(&self) -> String {
        self.folder.join("bin/python").display().to_string()
    }

    /// A copy of the requirements that were installed.
    fn stamp(&self) -> PathBuf {
        self.folder.join("requirements.txt")
    }

    fn has(&self, wanted: &str, root: &Path) -> bool {
        let installed = fs::read_to_string(self.stamp());
        // The Python that it was made with may have gone.
        installed.is_ok_and(|installed| installed == wanted) && Cmd::new(self.python(), &["-c", ""]).works(root)
    }

    fn make(&self, root: &Path) -> Result {
        let folder = self.folder.display().to_string();
        let make = |python| Cmd::new(python, &["-m", "venv", "--clear", &folder]);
        if make("python3").works(root) {
            return Ok(());
        }
        // Without the package, Debian's Python has the module and not what it needs. Another Python may stand before it in the path.
        packages::install(&["python3-venv"], "`python3 -m venv`", root)?;
        make("/usr/bin/python3").run(root)
    }
}
