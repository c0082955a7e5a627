//! Where a source says what it needs, in the order in which it is believed: the file that was set,
//! `fastmcp.json`, then from the entrypoint's directory upwards `requirements.txt`,
//! `uv.lock` beside `pyproject.toml`, `pyproject.toml`; otherwise FastMCP or the SDK alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::configuration::{self, Configuration};
use super::entrypoint::is_python;
use super::pyproject;
use super::requirements::{has_entries, is_hashed, missing, requirement_files};
use super::tree::{FileTree, directory_of, join, upwards};
use crate::diagnose::{Code, diagnosis};
use crate::protocol::Diagnosis;

/// Most Python files that are read for their imports.
const MAX_SCANNED_FILES: usize = 200;

/// What to install, as the build program reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependencies {
    /// What kind of file `path` is.
    pub kind: Kind,
    /// The file, relative to the source.
    pub path: Option<String>,
    /// Requirements beside or instead of the file.
    pub packages: Vec<String>,
    /// The file that fixes every version, where there is one.
    #[serde(skip)]
    pub lock: Option<String>,
    /// Contents of every file that decides the result, by name: the same inputs and the same
    /// `packages` resolve to the same set, at one time.
    #[serde(skip)]
    pub inputs: BTreeMap<String, Vec<u8>>,
}

/// The kinds of dependency declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A requirements file.
    Requirements,
    /// A `pyproject.toml` with `uv.lock` beside it.
    UvLock,
    /// A `pyproject.toml` alone.
    Pyproject,
    /// A `pyproject.toml` in Poetry's own form; its dependencies stand in `packages`.
    Poetry,
    /// The lists of `fastmcp.json`.
    FastmcpJson,
    /// Nothing declared.
    None,
}

impl Dependencies {
    /// `source` of the build program's `plan.json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "kind": self.kind, "path": self.path, "packages": self.packages })
    }

    /// The bytes that decide the result, for a hash: kind, packages, and every input with its
    /// name, each with its length so that no two different sets give the same bytes.
    pub fn inputs(&self) -> Vec<u8> {
        let mut bytes = self.to_json().to_string().into_bytes();
        for (name, contents) in &self.inputs {
            for part in [name.as_bytes(), contents] {
                bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }

    /// For people: `requirements.txt`, `uv.lock`, `fastmcp (nothing declared)`.
    pub fn describe(&self) -> String {
        match (self.kind, &self.path) {
            (Kind::UvLock, _) => self.lock.clone().unwrap_or_default(),
            (Kind::None, _) => format!("{} (nothing declared)", self.packages.join(", ")),
            (Kind::FastmcpJson, None) => "fastmcp.json".to_owned(),
            (Kind::FastmcpJson, Some(path)) => format!("fastmcp.json and {path}"),
            (_, path) => path.clone().unwrap_or_default(),
        }
    }
}

/// What was found, why, and what it says of the Python version.
#[derive(Debug)]
pub struct Found {
    /// What to install.
    pub dependencies: Dependencies,
    /// One sentence each.
    pub reasons: Vec<String>,
    /// `requires-python` and the file it stands in.
    pub requires_python: Option<(String, String)>,
}

/// Looks at `set`, the file that was set, or from `directory` (the entrypoint's) upwards.
pub fn find(
    tree: &FileTree,
    set: Option<&str>,
    configuration: Option<&Configuration>,
    directory: &str,
) -> Result<Found, Diagnosis> {
    if let Some(path) = set {
        let mut found = of_file(tree, path)?;
        found.reasons.push(format!(
            "{path} was set as the file that declares the dependencies."
        ));
        return Ok(found);
    }
    if let Some(configuration) = configuration
        && let Some(found) = configured(tree, configuration)?
    {
        return Ok(found);
    }
    let mut notes = Vec::new();
    for directory in upwards(directory) {
        let at = |name: &str| join(directory, name).unwrap_or_default();
        let requirements = at("requirements.txt");
        if tree.has(&requirements) {
            let inputs = requirement_files(tree, &requirements)?;
            if inputs.values().any(|contents| has_entries(contents)) {
                return Ok(of_requirements(tree, requirements, inputs, notes));
            }
            notes.push(format!("{requirements} lists nothing and was passed over."));
        }
        let pyproject = at("pyproject.toml");
        if tree.has(&pyproject) {
            match pyproject::find(tree, &pyproject)? {
                Some(mut found) => {
                    found.reasons.splice(0..0, notes);
                    return Ok(found);
                }
                None => notes.push(format!(
                    "{pyproject} declares no project and was passed over."
                )),
            }
        }
    }
    Ok(assumed(tree, notes))
}

/// The file that was set, by what it is.
fn of_file(tree: &FileTree, path: &str) -> Result<Found, Diagnosis> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let unusable = |why: &str| {
        diagnosis(
            Code::ConfigurationInvalid,
            format!("The dependency file {path} cannot be used: {why}."),
            "Set it to a requirements file (.txt or .in), a pyproject.toml, a uv.lock or a fastmcp.json.",
        )
    };
    if !tree.has(path) {
        return Err(diagnosis(
            Code::DependencyFileNotFound,
            format!("The dependency file {path}, which was set, is not in the source."),
            "Correct the setting, or clear it so that the file is looked for.",
        ));
    }
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    match (name, ending) {
        ("uv.lock" | "pyproject.toml", _) => {
            let project = join(directory_of(path), "pyproject.toml").unwrap_or_default();
            let found = tree
                .has(&project)
                .then(|| pyproject::find(tree, &project))
                .transpose()?
                .flatten();
            found.ok_or_else(|| unusable("no pyproject.toml beside it declares a project"))
        }
        (_, Some("json")) => configured(tree, &configuration::read(tree, path)?)?
            .ok_or_else(|| unusable("its environment lists no dependencies")),
        (_, Some("txt" | "in")) => {
            let inputs = requirement_files(tree, path)?;
            Ok(of_requirements(tree, path.to_owned(), inputs, Vec::new()))
        }
        _ => Err(unusable(
            "it is none of the files that declare dependencies",
        )),
    }
}

/// `environment` of `fastmcp.json`; `None` when it lists nothing.
fn configured(tree: &FileTree, configuration: &Configuration) -> Result<Option<Found>, Diagnosis> {
    let environment = &configuration.environment;
    let here = directory_of(&configuration.path);
    let packages = environment.dependencies.clone().unwrap_or_default();
    let place = |name: &str| join(here, name).ok_or_else(|| missing(&configuration.path, name));
    let mut reasons = Vec::new();
    if environment
        .editable
        .as_ref()
        .is_some_and(|list| !list.is_empty())
    {
        reasons.push(format!(
            "{} asks for editable installs, which are left out: the source is importable as it is.",
            configuration.path
        ));
    }
    if let Some(project) = &environment.project {
        let pyproject = place(&format!("{project}/pyproject.toml"))?;
        let Some(mut found) = tree
            .has(&pyproject)
            .then(|| pyproject::find(tree, &pyproject))
            .transpose()?
            .flatten()
        else {
            return Err(missing(&configuration.path, &pyproject));
        };
        found.dependencies.packages = packages;
        found.reasons.splice(0..0, reasons);
        return Ok(Some(found));
    }
    let listed = environment.dependencies.is_some() || environment.requirements.is_some();
    if !listed {
        return Ok(None);
    }
    let path = environment.requirements.as_deref().map(place).transpose()?;
    let inputs = match &path {
        None => BTreeMap::new(),
        Some(path) if tree.has(path) => requirement_files(tree, path)?,
        Some(path) => return Err(missing(&configuration.path, path)),
    };
    reasons.push(format!(
        "Dependencies from {}: it is authoritative, so only what it lists is installed.",
        configuration.path
    ));
    Ok(Some(Found {
        dependencies: Dependencies {
            kind: Kind::FastmcpJson,
            path,
            packages,
            lock: None,
            inputs,
        },
        reasons,
        requires_python: None,
    }))
}

fn of_requirements(
    tree: &FileTree,
    path: String,
    inputs: BTreeMap<String, Vec<u8>>,
    mut reasons: Vec<String>,
) -> Found {
    let is_locked = inputs.values().any(|contents| is_hashed(contents));
    let locked = if is_locked {
        ": it pins every package with its hash"
    } else {
        ""
    };
    reasons.push(format!("Dependencies from {path}{locked}."));
    let pyproject = join(directory_of(&path), "pyproject.toml").unwrap_or_default();
    let requires_python = tree
        .text(&pyproject)
        .and_then(|text| text.parse::<toml::Table>().ok())
        .and_then(|table| pyproject::requires_python(&table))
        .map(|text| (text, pyproject));
    Found {
        dependencies: Dependencies {
            kind: Kind::Requirements,
            lock: is_locked.then(|| path.clone()),
            path: Some(path),
            packages: Vec::new(),
            inputs,
        },
        reasons,
        requires_python,
    }
}

/// Nothing is declared: the package whose server the code makes.
fn assumed(tree: &FileTree, mut reasons: Vec<String>) -> Found {
    let package = imported_package(tree);
    reasons.push(format!("Nothing declares dependencies, so {package} is installed; add a requirements.txt to choose yourself."));
    for other in ["Pipfile", "environment.yml", "setup.py"] {
        if tree.has(other) {
            reasons.push(format!("{other} is not read."));
        }
    }
    Found {
        dependencies: Dependencies {
            kind: Kind::None,
            path: None,
            packages: vec![package.to_owned()],
            lock: None,
            inputs: BTreeMap::new(),
        },
        reasons,
        requires_python: None,
    }
}

/// FastMCP where the code imports it or nothing known; the SDK's major where it tells.
fn imported_package(tree: &FileTree) -> &'static str {
    let mut sdk = None;
    let python = tree
        .names()
        .filter(|name| is_python(name))
        .take(MAX_SCANNED_FILES);
    for text in python.filter_map(|name| tree.text(name)) {
        for line in text.lines().map(str::trim_start) {
            let Some(module) = line
                .strip_prefix("from ")
                .or_else(|| line.strip_prefix("import "))
            else {
                continue;
            };
            let module = module.split([' ', ',', ';']).next().unwrap_or_default();
            let within = |package: &str| {
                module == package
                    || module
                        .strip_prefix(package)
                        .is_some_and(|rest| rest.starts_with('.'))
            };
            if within("fastmcp") {
                return "fastmcp";
            }
            if within("mcp.server.fastmcp") {
                sdk = Some("mcp<2");
            } else if within("mcp.server.mcpserver") {
                sdk = Some("mcp>=2");
            } else if within("mcp") {
                sdk = sdk.or(Some("mcp"));
            }
        }
    }
    sdk.unwrap_or("fastmcp")
}
