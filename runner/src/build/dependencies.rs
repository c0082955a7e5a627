//! Where a source says what it needs, in the order in which it is believed:
//! `fastmcp.json`, then from the entrypoint's directory upwards `requirements.txt`,
//! `uv.lock` beside `pyproject.toml`, `pyproject.toml`; otherwise FastMCP or the SDK alone.

use std::collections::BTreeMap;

use serde::Serialize;

use super::configuration::Configuration;
use super::entrypoint::is_python;
use super::requirements::{bytes, has_entries, missing, readable, requirement_files};
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
            (Kind::UvLock, Some(path)) => join(directory_of(path), "uv.lock").unwrap_or_default(),
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

/// Looks from `directory` (the entrypoint's) upwards.
pub fn find(
    tree: &FileTree,
    configuration: Option<&Configuration>,
    directory: &str,
) -> Result<Found, Diagnosis> {
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
            match of_project(tree, &pyproject)? {
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
            .then(|| of_project(tree, &pyproject))
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
    reasons.push(format!("Dependencies from {path}."));
    let pyproject = join(directory_of(&path), "pyproject.toml").unwrap_or_default();
    let requires_python = tree
        .text(&pyproject)
        .and_then(|text| text.parse::<toml::Table>().ok())
        .and_then(|table| requires_python(&table))
        .map(|text| (text, pyproject));
    Found {
        dependencies: Dependencies {
            kind: Kind::Requirements,
            path: Some(path),
            packages: Vec::new(),
            inputs,
        },
        reasons,
        requires_python,
    }
}

/// A `pyproject.toml` that declares a project; `None` for one that only configures tools.
fn of_project(tree: &FileTree, path: &str) -> Result<Option<Found>, Diagnosis> {
    let text = readable(tree, path)?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let mut found = diagnosis(
            Code::ConfigurationInvalid,
            format!(
                "{path} is not valid TOML: {}.",
                error.message().trim_end_matches('.')
            ),
            "Correct the file and deploy again.",
        );
        found.location = line.map(|line| format!("{path}:{line}"));
        found
    })?;
    let poetry = table.get("tool").and_then(|tool| tool.get("poetry"));
    if !table.contains_key("project") && poetry.is_none() {
        return Ok(None);
    }
    let directory = directory_of(path);
    let at = |name: &str| join(directory, name).filter(|name| tree.has(name));
    let mut inputs = BTreeMap::new();
    let lock = at("uv.lock");
    let beside = ["uv.lock", "uv.toml", "setup.py", "setup.cfg"]
        .iter()
        .filter_map(|name| at(name));
    let dynamic = dynamic_files(&table)
        .into_iter()
        .filter_map(|name| at(&name));
    for name in beside.chain(dynamic).chain([path.to_owned()]) {
        inputs.insert(name.clone(), bytes(tree, &name)?);
    }
    let (kind, reason) = if lock.is_some() {
        (
            Kind::UvLock,
            format!(
                "Dependencies from {}: they are locked.",
                at("uv.lock").unwrap_or_default()
            ),
        )
    } else {
        (
            Kind::Pyproject,
            format!(
                "Dependencies from {path}; there is no uv.lock beside it, so what was resolved is kept with the build."
            ),
        )
    };
    let requires_python = requires_python(&table).map(|text| (text, path.to_owned()));
    Ok(Some(Found {
        dependencies: Dependencies {
            kind,
            path: Some(path.to_owned()),
            packages: Vec::new(),
            inputs,
        },
        reasons: vec![reason],
        requires_python,
    }))
}

fn requires_python(table: &toml::Table) -> Option<String> {
    let standard = table
        .get("project")
        .and_then(|project| project.get("requires-python"));
    let poetry = || {
        table
            .get("tool")?
            .get("poetry")?
            .get("dependencies")?
            .get("python")
    };
    standard.or_else(poetry)?.as_str().map(str::to_owned)
}

/// Files that setuptools reads dependencies from (`tool.setuptools.dynamic`).
fn dynamic_files(table: &toml::Table) -> Vec<String> {
    let dynamic = || {
        table
            .get("tool")?
            .get("setuptools")?
            .get("dynamic")?
            .get("dependencies")?
            .get("file")
    };
    match dynamic() {
        Some(toml::Value::String(name)) => vec![name.clone()],
        Some(toml::Value::Array(names)) => names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
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
