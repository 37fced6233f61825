//! What a bare machine needs before anything is built.

mod packages;
mod python;

use std::{env, path::Path};

use crate::{Result, command::Cmd, project::Project};

/// Checks the toolchain, fetches what `Cargo.lock` names, and makes sure of the servers and peers that tests start. Installs only what is
/// missing.
pub(crate) fn run(project: &Project) -> Result {
    let root = project.root.as_path();
    let rustc = Cmd::new("rustc", &["-vV"]).read(root)?;
    let field = |name| rustc.lines().find_map(|line| line.strip_prefix(name)).ok_or("rustc -vV: a line is missing");
    let (found, host) = (field("release: ")?, field("host: ")?);
    let wanted = project.packages.iter().find_map(|package| package.rust_version.as_deref()).unwrap_or("1.0");
    if release(found) < release(wanted) {
        return Err(format!("Rust {wanted} or later is needed, found {found}: run `rustup update stable`").into());
    }
    println!("setup: Rust {found}");
    component("fmt", "rustfmt", root)?;
    component("clippy", "clippy", root)?;
    c_compiler(root)?;
    let fetch = Cmd::cargo(&["fetch", "--locked", "--quiet", "--target", host]);
    fetch.run(root).map_err(|error| format!("{error}\nif Cargo.lock is behind, run `cargo check` and commit it"))?;
    println!("setup: every dependency of Cargo.lock is here");
    packages::programs(&packages::servers(), root)?;
    python::peers(project)
}

/// Major and minor number of a version such as `1.95.0-nightly`.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn component(subcommand: &str, name: &str, root: &Path) -> Result {
    if Cmd::cargo(&[subcommand, "--version"]).works(root) {
        println!("setup: {name} is here");
        return Ok(());
    }
    println!("setup: {name} is missing, adding it");
    let add = Cmd::new("rustup", &["component", "add", name]);
    add.run(root).map_err(|error| format!("{name} is missing and could not be added: {error}").into())
}

/// The embedded store is compiled from C.
fn c_compiler(root: &Path) -> Result {
    if cfg!(windows) {
        return Ok(());
    }
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    if Cmd::new(compiler.as_str(), &["--version"]).works(root) {
        println!("setup: C compiler `{compiler}` is here");
        return Ok(());
    }
    Err(format!("no C compiler `{compiler}`: install one (Debian: `apt install gcc libc6-dev`) or set CC").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert!(release("1.100.0") > release("1.89"));
        assert!(release("1.90.0-nightly") >= release("1.90"));
        assert_eq!(release("2"), (2, 0));
    }
}
