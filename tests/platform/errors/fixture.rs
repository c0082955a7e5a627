//! `tests/fixtures/errors/CODE[.VARIANT]`: `broken/` is the source, `fixed/` the files that the
//! fix changes, `case.json` what is not a file, `recorded/` what real releases said.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Files by their path in the source.
pub type Files = BTreeMap<String, String>;

/// One broken source and its fix.
#[derive(Debug)]
pub struct Fixture {
    /// The directory's name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Settings of the deployment; empty where `case.json` is not there.
    pub case: Value,
}

impl Fixture {
    /// All of them, by name.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for path in directories(&tests::root().join("tests/fixtures/errors"))? {
            let case = match fs::read_to_string(path.join("case.json")) {
                Ok(text) => {
                    serde_json::from_str(&text).with_context(|| path.display().to_string())?
                }
                Err(_) => Value::Null,
            };
            all.push(Self {
                name: name(&path),
                path,
                case,
            });
        }
        Ok(all)
    }

    /// The diagnosis it must get.
    pub fn code(&self) -> &str {
        self.name.split('.').next().unwrap_or(&self.name)
    }

    /// The number of the requirement that it tests first of all.
    pub fn requirement(&self) -> &'static str {
        match self.code() {
            "stdio_transport" | "port_not_opened" | "wrong_port" | "loopback_only"
            | "mcp_elsewhere" | "no_mcp_endpoint" | "host_refused" => "r51",
            _ => "r50",
        }
    }

    /// The broken source.
    pub fn broken(&self) -> Result<Files> {
        read(&self.path.join("broken"))
    }

    /// The files that the fix changes; empty where it changes none.
    pub fn fixed(&self) -> Result<Files> {
        let path = self.path.join("fixed");
        if path.is_dir() {
            read(&path)
        } else {
            Ok(Files::new())
        }
    }

    /// A setting of the case.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.case[name].as_str()
    }

    /// Whether the case says so.
    pub fn is(&self, name: &str) -> bool {
        self.case[name] == true
    }

    /// Variables of the fix: name and value.
    pub fn fixed_variables(&self) -> Vec<(String, String)> {
        let variables = self.case["fixed_variables"].as_object();
        variables
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect()
    }

    /// The releases that were recorded with it.
    pub fn releases(&self) -> Vec<String> {
        let releases = self.case["releases"].as_array();
        releases
            .into_iter()
            .flatten()
            .filter_map(|release| Some(release.as_str()?.to_owned()))
            .collect()
    }
}

/// What is in a directory, by name.
pub fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut found = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    found.sort();
    Ok(found)
}

/// A directory's own name.
pub fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Every file below a directory.
pub fn read(root: &Path) -> Result<Files> {
    let mut files = Files::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(directory) = ahead.pop() {
        for path in directories(&directory)? {
            if path.is_dir() {
                ahead.push(path);
            } else {
                let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
                files.insert(name, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(files)
}

/// Writes files below a directory.
pub fn write(root: &Path, files: &Files) -> Result<()> {
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
        fs::write(path, text)?;
    }
    Ok(())
}

/// Applies a diagnosis's edits, as a person would who reads them.
pub fn apply(files: &mut Files, edits: &Value) -> Result<Vec<String>> {
    let mut lines: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for edit in edits.as_array().into_iter().flatten() {
        let file = edit["file"].as_str().context("an edit names its file")?;
        let text = files.get(file).cloned().unwrap_or_default();
        let lines = lines
            .entry(file.to_owned())
            .or_insert_with(|| text.lines().map(|line| Some(line.to_owned())).collect());
        let new = edit["new"].as_str().map(str::to_owned);
        match edit["line"].as_u64() {
            None => lines.push(new),
            Some(number) => {
                let line = usize::try_from(number)?
                    .checked_sub(1)
                    .and_then(|at| lines.get_mut(at));
                let line = line.with_context(|| format!("{file} has no line {number}"))?;
                ensure!(
                    line.as_deref() == edit["old"].as_str(),
                    "{file}:{number} is {line:?}, not {edit}"
                );
                *line = new;
            }
        }
    }
    let changed: Vec<String> = lines.keys().cloned().collect();
    for (file, lines) in lines {
        files.insert(
            file,
            lines
                .into_iter()
                .flatten()
                .map(|line| line + "\n")
                .collect(),
        );
    }
    Ok(changed)
}
