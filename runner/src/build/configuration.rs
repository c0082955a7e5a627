//! `fastmcp.json`: the part of FastMCP's project file that decides how to build and start.
//!
//! The schema is that of FastMCP 2.14, 3 and 4 (they are the same). Host, port, path and
//! transport are the platform's and are not read; `deployment` is applied by the launcher.

use serde::Deserialize;

use super::tree::{FileTree, directory_of, join};
use crate::diagnose::{Code, diagnosis};
use crate::protocol::Diagnosis;

/// The file's usual name.
pub const FILE: &str = "fastmcp.json";

/// What a file must look like at least.
const FORM: &str =
    "Write it like {\"source\": {\"path\": \"server.py\", \"entrypoint\": \"mcp\"}}.";

/// What the file says.
#[derive(Debug)]
pub struct Configuration {
    /// Its path.
    pub path: String,
    /// The Python file, relative to the root.
    pub source: String,
    /// The object, where named.
    pub object: Option<String>,
    /// `environment`, where there is one.
    pub environment: Environment,
}

/// `environment`.
#[derive(Debug, Default, Deserialize)]
pub struct Environment {
    /// A version like `3.12`, or a specifier.
    #[serde(default)]
    pub python: Option<String>,
    /// Requirements, as pip reads them.
    #[serde(default)]
    pub dependencies: Option<Vec<String>>,
    /// A requirements file, relative to this one.
    #[serde(default)]
    pub requirements: Option<String>,
    /// A directory with a `pyproject.toml`, relative to this file.
    #[serde(default)]
    pub project: Option<String>,
    /// Directories to install in place. Not supported: the source is read-only.
    #[serde(default)]
    pub editable: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct File {
    source: Source,
    #[serde(default)]
    environment: Option<Environment>,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    path: String,
    #[serde(default)]
    entrypoint: Option<String>,
}

impl Configuration {
    /// The same with its own path from the top of the source, when it was read in `root`.
    pub fn within(self, root: &str) -> Self {
        Self {
            path: join(root, &self.path).unwrap_or_default(),
            ..self
        }
    }
}

/// Reads the file at `path`, which exists.
pub fn read(tree: &FileTree, path: &str) -> Result<Configuration, Diagnosis> {
    let invalid = |why: String, fix: &str| {
        diagnosis(
            Code::ConfigurationInvalid,
            format!("{path} cannot be used: {why}."),
            fix,
        )
    };
    let text = tree
        .text(path)
        .ok_or_else(|| invalid("it is not UTF-8 text".to_owned(), "Save it as UTF-8."))?;
    let file: File = serde_json::from_str(&text).map_err(|error| {
        let mut found = invalid(error.to_string(), FORM);
        found.location = (error.line() > 0).then(|| format!("{path}:{}", error.line()));
        found
    })?;
    if let Some(kind) = file
        .source
        .kind
        .as_deref()
        .filter(|kind| *kind != "filesystem")
    {
        return Err(invalid(
            format!("its source type {kind:?} is not supported"),
            "Use the type \"filesystem\".",
        ));
    }
    // FastMCP also accepts the object behind the path.
    let (place, behind) = match file.source.path.split_once(':') {
        Some((place, object)) => (place, Some(object.to_owned())),
        None => (file.source.path.as_str(), None),
    };
    let source = join(directory_of(path), place)
        .filter(|place| !place.is_empty())
        .ok_or_else(|| {
            invalid(
                format!("its source path {place:?} is not inside the source"),
                "Write a path relative to the file, without leading slash.",
            )
        })?;
    Ok(Configuration {
        path: path.to_owned(),
        source,
        object: file
            .source
            .entrypoint
            .or(behind)
            .filter(|object| !object.is_empty()),
        environment: file.environment.unwrap_or_default(),
    })
}
