//! The workspace as cargo sees it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{Result, command::Cmd};

#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    /// In order of name.
    pub(crate) packages: Vec<Package>,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    /// Declared normal and build dependencies: optional ones too, of every target, by their real names.
    pub(crate) dependencies: BTreeSet<String>,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) manifest: PathBuf,
    pub(crate) name: String,
    pub(crate) published: bool,
    pub(crate) rust_version: Option<String>,
}

/// Which features a package is resolved with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Features {
    All,
    /// No default features either.
    None,
}

impl Features {
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::All => "--all-features",
            Self::None => "--no-default-features",
        }
    }
}

impl Project {
    /// Reads the workspace around the current directory.
    pub(crate) fn load() -> Result<Self> {
        let read = Cmd::cargo(&["metadata", "--no-deps", "--format-version", "1"]).read(Path::new("."))?;
        let metadata: Value = serde_json::from_str(&read)?;
        let root = metadata["workspace_root"].as_str().ok_or("cargo metadata: no workspace root")?.into();
        let target = metadata["target_directory"].as_str().ok_or("cargo metadata: no target directory")?.into();
        let listed = metadata["packages"].as_array().ok_or("cargo metadata: no packages")?;
        let mut packages = listed.iter().map(Package::read).collect::<Result<Vec<_>>>()?;
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { root, packages, target })
    }

    pub(crate) fn published(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.published)
    }

    /// Every crate that `package` compiles, itself included, resolved as if it alone were built: features that other
    /// members switch on neither hide nor invent a crate. Without dev-dependencies.
    pub(crate) fn closure(&self, package: &str, features: Features) -> Result<BTreeSet<String>> {
        let tree = ["tree", "-p", package, "-e", "normal,build", features.flag(), "--prefix", "none", "-f", "{p}"];
        let read = Cmd::cargo(&tree).read(&self.root)?;
        let names: BTreeSet<String> =
            read.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
        if names.contains(package) { Ok(names) } else { Err(format!("cargo tree does not list `{package}`").into()) }
    }
}

impl Package {
    pub(crate) fn directory(&self) -> &Path {
        self.manifest.parent().unwrap_or(&self.manifest)
    }

    fn read(value: &Value) -> Result<Self> {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let declared = value["dependencies"].as_array().ok_or("cargo metadata: no dependencies")?;
        let dependencies = declared
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect();
        Ok(Self {
            dependencies,
            description: text("description"),
            license: text("license"),
            manifest: text("manifest_path").ok_or("cargo metadata: no manifest path")?.into(),
            name: text("name").ok_or("cargo metadata: no package name")?,
            published: value["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
            rust_version: text("rust_version"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dev_dependencies_are_no_arrows() {
        let package = Package::read(&json!({
            "name": "a", "manifest_path": "/a/Cargo.toml", "publish": null,
            "dependencies": [
                {"name": "normal", "kind": null, "rename": "other", "optional": true},
                {"name": "built", "kind": "build"},
                {"name": "tested", "kind": "dev"},
            ],
        }))
        .unwrap();
        assert_eq!(package.dependencies, ["built", "normal"].map(str::to_owned).into());
        assert!(package.published);
    }

    #[test]
    fn publish_false_is_unpublished() {
        let value = json!({"name": "a", "manifest_path": "/a/Cargo.toml", "publish": [], "dependencies": []});
        assert!(!Package::read(&value).unwrap().published);
    }
}
