//! `package.json`, as far as it decides what is installed, built and started.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::super::tree::{FileTree, join};
use super::{MANIFEST, unusable};
use crate::protocol::Diagnosis;

/// Largest `package.json`, bytes: the largest ones of public projects are a tenth of it.
const MAX_BYTES: u64 = 1024 * 1024;
/// The members that decide what is installed.
const DECLARING: &[&str] = &[
    "name",
    "version",
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "dependenciesMeta",
    "bundleDependencies",
    "bundledDependencies",
    "overrides",
    "resolutions",
    "pnpm",
    "engines",
    "os",
    "cpu",
];
/// Those of them that name packages.
const DEPENDENCIES: &[&str] = &["dependencies", "devDependencies", "optionalDependencies"];
/// How a version begins that is a path of the project.
const LOCAL: &[&str] = &[
    "file:",
    "link:",
    "workspace:",
    "portal:",
    "patch:",
    "./",
    "../",
    "/",
];
/// Scripts of the project that installing runs.
const INSTALL_SCRIPTS: &[&str] = &["preinstall", "install", "postinstall"];

/// What the file says.
#[derive(Debug, Default)]
pub struct Manifest {
    /// Where it is.
    pub directory: String,
    /// Its path.
    pub path: String,
    /// Name without scope.
    pub short_name: Option<String>,
    /// `main`.
    pub main: Option<String>,
    /// `bin`, by name.
    pub bins: BTreeMap<String, String>,
    /// `scripts`.
    pub scripts: BTreeMap<String, String>,
    /// `engines.node`.
    pub engine: Option<String>,
    /// `packageManager`, for example `pnpm@9.12.0`.
    pub package_manager: Option<String>,
    /// Names of `devDependencies`.
    pub dev_dependencies: BTreeSet<String>,
    /// Whether it has `workspaces`.
    pub has_workspaces: bool,
    /// A dependency on a path of the project.
    pub local_dependency: Option<String>,
    whole: Map<String, Value>,
}

impl Manifest {
    /// Reads the one in `directory`, which need not be there.
    pub fn read(tree: &FileTree, directory: &str) -> Result<Self, Diagnosis> {
        let path = join(directory, MANIFEST).unwrap_or_default();
        let Some(size) = tree.size(&path) else {
            return Err(unusable(
                &path,
                "it is not there",
                "Add a package.json beside the entrypoint; `npm init -y` writes one.",
            ));
        };
        if size > MAX_BYTES {
            let fix = "Keep only the project's own settings in it.";
            return Err(unusable(&path, "it is larger than 1 MiB", fix));
        }
        let text = tree
            .text(&path)
            .ok_or_else(|| unusable(&path, "it is not UTF-8 text", "Save it as UTF-8."))?;
        let whole: Value = serde_json::from_str(&text).map_err(|error| {
            let mut found = unusable(&path, error.to_string(), "Correct the line it names.");
            found.location = (error.line() > 0).then(|| format!("{path}:{}", error.line()));
            found
        })?;
        let Value::Object(whole) = whole else {
            let fix = "Write an object, like {\"name\": \"server\", \"scripts\": {\"start\": \"node server.js\"}}.";
            return Err(unusable(&path, "it is not a JSON object", fix));
        };
        Ok(Self::understand(directory, path, whole))
    }

    fn understand(directory: &str, path: String, whole: Map<String, Value>) -> Self {
        let text = |name: &str| whole.get(name).and_then(Value::as_str).map(str::to_owned);
        let short_name = text("name").map(|name| match name.rsplit_once('/') {
            Some((_, short)) => short.to_owned(),
            None => name,
        });
        let bins = match whole.get("bin") {
            Some(Value::String(file)) => short_name
                .clone()
                .map(|name| (name, file.clone()))
                .into_iter()
                .collect(),
            other => texts(other),
        };
        let versions = DEPENDENCIES
            .iter()
            .flat_map(|member| texts(whole.get(*member)));
        let local_dependency = versions
            .filter(|(_, version)| LOCAL.iter().any(|start| version.starts_with(start)))
            .map(|(name, _)| name)
            .next()
            .or_else(|| {
                let patched = whole.get("pnpm")?.get("patchedDependencies")?.as_object()?;
                patched.keys().next().cloned()
            });
        Self {
            directory: directory.to_owned(),
            path,
            short_name,
            main: text("main"),
            bins,
            scripts: texts(whole.get("scripts")),
            engine: whole
                .get("engines")
                .and_then(|engines| engines.get("node"))
                .and_then(Value::as_str)
                .map(str::to_owned),
            package_manager: text("packageManager"),
            dev_dependencies: texts(whole.get("devDependencies")).into_keys().collect(),
            has_workspaces: whole.contains_key("workspaces"),
            local_dependency,
            whole,
        }
    }

    /// The members that decide what is installed.
    pub fn declared(&self) -> Value {
        let members = DECLARING.iter().filter_map(|name| {
            let value = self.whole.get(*name)?;
            Some(((*name).to_owned(), value.clone()))
        });
        Value::Object(members.collect())
    }

    /// A script of the project that installing runs.
    pub fn install_script(&self) -> Option<&'static str> {
        INSTALL_SCRIPTS
            .iter()
            .find(|name| self.scripts.contains_key(**name))
            .copied()
    }
}

/// The text members of an object, without blank ones.
fn texts(value: Option<&Value>) -> BTreeMap<String, String> {
    let members = value.and_then(Value::as_object).into_iter().flatten();
    members
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.trim().to_owned())))
        .filter(|(_, text)| !text.is_empty())
        .collect()
}
