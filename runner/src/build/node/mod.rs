//! Node projects: what to install, what to build, what to start, decided from the source alone.

mod entry;
mod installer;
mod manifest;
mod start;
pub mod steps;
pub mod version;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::tree::{FileTree, directory_of, join, upwards};
use super::{debian, entrypoint, environment_reads, plan};
use crate::diagnose::{Code, diagnosis};
use crate::hash::Hash;
use crate::protocol::{self, BuildSettings, Diagnosis};
use crate::record::Start;

pub use entry::{Entry, words};
use installer::Installer;
pub use manifest::Manifest;
pub use start::expanded_words;

/// The file that makes a source a Node project.
pub const MANIFEST: &str = "package.json";
/// Settings of the installers beside it.
const SETTINGS: &[&str] = &[".npmrc", "pnpm-workspace.yaml"];
/// The script that is run where there is one.
const BUILD_SCRIPT: &str = "build";
/// Endings of what Node runs; since 22.18 it strips types by itself.
const ENDINGS: &[&str] = &[".js", ".mjs", ".cjs", ".ts", ".mts", ".cts"];
/// Where programs are looked for: those of the packages come first.
pub const PATH: &str = "/env/node_modules/.bin:/usr/local/bin:/usr/bin:/bin";

/// How to build and start a Node project.
#[derive(Debug)]
pub struct NodePlan {
    /// `22`: the runtime image is `node:<this>`.
    pub version: String,
    /// What is started.
    pub start: Start,
    /// Environment variables it needs.
    pub variables: BTreeMap<String, String>,
    /// What is installed and built.
    pub packages: Packages,
    /// The same for people, with a sentence for each choice.
    pub plan: protocol::Plan,
}

/// What is installed and built.
#[derive(Debug)]
pub struct Packages {
    directory: String,
    installer: Installer,
    script: Option<String>,
    /// What is run in place of the script.
    command: Vec<String>,
    keep_dev: bool,
    in_place: bool,
    declaration: Vec<u8>,
}

impl Packages {
    /// What a manifest of nothing but dependencies asks for; `mark` tells one such build from
    /// another that may resolve to something else.
    pub fn of_registry(manifest: &str, mark: &str) -> Self {
        Self {
            directory: String::new(),
            installer: Installer::npm(),
            script: None,
            command: Vec::new(),
            keep_dev: false,
            in_place: false,
            declaration: format!("{manifest}\0{mark}").into_bytes(),
        }
    }

    /// Whether a copy of the source is built, instead of the source itself being run.
    fn is_built(&self) -> bool {
        self.builds() || self.in_place
    }

    /// Whether something is run on the code before the server starts.
    fn builds(&self) -> bool {
        self.script.is_some() || !self.command.is_empty()
    }

    /// What decides which packages are installed, beside the image.
    pub fn inputs(&self) -> Vec<u8> {
        let hash = Hash::new()
            .part(b"node")
            .part(self.stage("dependencies", None).to_string().as_bytes())
            .part(&self.declaration)
            .part(&self.installer.lock);
        hash.hex().into_bytes()
    }

    /// `source` of the build program's plan.
    pub fn stage(&self, stage: &str, mark: Option<&str>) -> Value {
        let mark = mark.map_or_else(|| self.mark(), str::to_owned);
        // Which command it is changes no packages.
        let command = match stage {
            "app" => self.command.as_slice(),
            _ => &[],
        };
        json!({
            "stage": stage,
            "directory": self.directory,
            "installer": self.installer.kind.as_str(),
            "version": self.installer.version,
            "lock_file": self.installer.lock_file(),
            "has_lock": self.installer.has_lock,
            "script": self.script,
            "command": command,
            "builds": self.builds(),
            "keep_dev": self.keep_dev,
            "in_place": self.in_place,
            "mark": mark,
        })
    }

    /// What packages are installed from, beside the lock: the first line of their record.
    fn mark(&self) -> String {
        format!(
            "{} {} {} {} {}",
            self.installer.kind.as_str(),
            self.installer.version.as_deref().unwrap_or("-"),
            self.builds(),
            self.keep_dev,
            Hash::new().part(&self.declaration).hex()
        )
    }
}

/// What a source is.
#[derive(Debug)]
pub enum Language {
    /// A Node project: the directory of its `package.json`, and why it is one.
    Node(String, String),
    /// Everything else, and why, where that needs saying.
    Python(Option<String>),
}

/// Decides whether a source is a Node project. `written` is the entrypoint the user wrote.
pub fn language(
    tree: &FileTree,
    written: Option<&str>,
    settings: &BuildSettings,
) -> Result<Language, Diagnosis> {
    if !settings.start_command.is_empty() {
        return Ok(start::language(tree, settings));
    }
    let written = written.map(str::trim).filter(|text| !text.is_empty());
    let first = written.and_then(|text| text.split_whitespace().next());
    if let Some(file) = first.filter(|word| is_node_file(word)) {
        let directory = nearest_manifest(tree, directory_of(file)).unwrap_or_default();
        return Ok(Language::Node(
            directory,
            format!("Node: the entrypoint {file} is a file that Node runs."),
        ));
    }
    if !tree.has(MANIFEST) {
        return Ok(Language::Python(None));
    }
    if settings.dependency_file.is_some() {
        return Ok(Language::Python(Some(
            "Python: a dependency file was set.".to_owned(),
        )));
    }
    let manifest = match Manifest::read(tree, "") {
        Ok(manifest) => manifest,
        // Tools for the front end of a Python server may leave a broken one.
        Err(_) if entrypoint::find(tree, written).is_ok() => return Ok(Language::Python(None)),
        Err(diagnosis) => return Err(diagnosis),
    };
    if let Some(word) = first {
        return Ok(
            if manifest.scripts.contains_key(word) || manifest.bins.contains_key(word) {
                Language::Node(String::new(), format!("Node: package.json has {word}."))
            } else {
                Language::Python(Some(
                    "Python: the entrypoint names no file or script of Node.".to_owned(),
                ))
            },
        );
    }
    if let Some(what) = entry::named_by(tree, &manifest) {
        return Ok(Language::Node(
            String::new(),
            format!("Node: package.json has {what}."),
        ));
    }
    if entrypoint::find(tree, None).is_ok() {
        return Ok(Language::Python(Some(
            "Python: package.json names nothing to start, and there is a Python server.".to_owned(),
        )));
    }
    Ok(Language::Node(
        String::new(),
        "Node: there is a package.json and no Python server.".to_owned(),
    ))
}

/// What a plan is asked of.
pub struct Asked<'a> {
    /// The whole source.
    pub tree: &'a FileTree,
    /// The root directory in it.
    pub root: &'a str,
    /// What the user wrote.
    pub entrypoint: Option<&'a str>,
    /// How else it is to be built and started.
    pub settings: &'a BuildSettings,
    /// The runtime images present.
    pub images: &'a [String],
}

/// Plans a Node project whose `package.json` is in `directory` of `view`, the root directory.
pub fn plan(
    asked: &Asked<'_>,
    view: &FileTree,
    directory: &str,
    why: String,
) -> Result<NodePlan, Diagnosis> {
    let settings = asked.settings;
    refuse_dependency_file(settings)?;
    let manifest = Manifest::read(view, directory)?;
    let (version, version_reason) = version::choose(view, &manifest, asked.images)?;
    let (installer, installer_reason) = Installer::choose(view, &manifest)?;
    let (script, build_reason) = build(&manifest, settings);
    let entry = if settings.start_command.is_empty() {
        entry::find(view, &manifest, asked.entrypoint, build_reason.is_some())?
    } else {
        start::entry(&settings.start_command)
    };
    let (in_place, place_reason) = in_place(view, &manifest);
    let (keep_dev, dev_reason) = keep_dev(&manifest, &entry, &installer);
    let (system_packages, system_reason) = debian::find(asked.tree, asked.root, settings)?;
    let mut reasons: Vec<String> = plan::root_reason(asked.root).into_iter().collect();
    reasons.extend([why, version_reason, installer_reason, entry.reason.clone()]);
    let further = [build_reason, place_reason, dev_reason, system_reason];
    reasons.extend(further.into_iter().flatten());
    let mut variables = entry.variables;
    variables
        .entry("NODE_ENV".to_owned())
        .or_insert_with(|| "production".to_owned());
    variables.insert("PATH".to_owned(), PATH.to_owned());
    let within = join(asked.root, directory).unwrap_or_default();
    Ok(NodePlan {
        plan: protocol::Plan {
            runtime: format!("node:{version}"),
            entrypoint: entry.text,
            dependencies: installer.describe(&within),
            system_packages,
            build_command: settings.build_command.clone(),
            start_command: settings.start_command.clone(),
            reasons,
            reads: environment_reads::scan(view),
            example: environment_reads::example(asked.tree, &within),
        },
        version,
        start: Start {
            command: entry.command,
            working_dir: format!("/app/{within}").trim_end_matches('/').to_owned(),
        },
        variables,
        packages: Packages {
            declaration: declaration(view, &manifest),
            directory: within,
            installer,
            script,
            command: settings.build_command.clone(),
            keep_dev,
            in_place,
        },
    })
}

/// What is installed stands in package.json, and nowhere else.
fn refuse_dependency_file(settings: &BuildSettings) -> Result<(), Diagnosis> {
    match &settings.dependency_file {
        None => Ok(()),
        Some(file) => Err(diagnosis(
            Code::ConfigurationInvalid,
            format!("The dependency file {file} is set, and the server is a Node project."),
            "Clear the dependency file in the project's settings: packages of Node stand in package.json.",
        )),
    }
}

/// The build script, unless a build command stands in its place; and what is said of either.
fn build(manifest: &Manifest, settings: &BuildSettings) -> (Option<String>, Option<String>) {
    if !settings.build_command.is_empty() {
        return (None, Some(plan::BUILD_COMMAND.to_owned()));
    }
    if !manifest.scripts.contains_key(BUILD_SCRIPT) {
        return (None, None);
    }
    let reason = "The script build is run, with devDependencies, before the server starts.";
    (Some(BUILD_SCRIPT.to_owned()), Some(reason.to_owned()))
}

fn is_node_file(text: &str) -> bool {
    ENDINGS.iter().any(|ending| text.ends_with(ending))
}

fn nearest_manifest(tree: &FileTree, directory: &str) -> Option<String> {
    upwards(directory)
        .find(|directory| join(directory, MANIFEST).is_some_and(|path| tree.has(&path)))
        .map(str::to_owned)
}

/// What is installed, as far as it stands in package.json and the installers' settings.
fn declaration(tree: &FileTree, manifest: &Manifest) -> Vec<u8> {
    let mut declaration = manifest.declared().to_string().into_bytes();
    for name in SETTINGS {
        let text = join(&manifest.directory, name).and_then(|path| tree.read(&path));
        declaration.extend(text.unwrap_or_default());
        declaration.push(0);
    }
    declaration
}

/// Whether packages must be installed in the source's own tree, and why.
fn in_place(tree: &FileTree, manifest: &Manifest) -> (bool, Option<String>) {
    let workspace = join(&manifest.directory, "pnpm-workspace.yaml")
        .and_then(|path| tree.text(&path))
        .is_some_and(|text| text.lines().any(|line| line.starts_with("packages:")));
    let why = if manifest.has_workspaces || workspace {
        "the project has workspaces".to_owned()
    } else if let Some(name) = &manifest.local_dependency {
        format!("{name} comes from the project's own files")
    } else if let Some(script) = manifest.install_script() {
        format!("package.json has the script {script}")
    } else {
        return (false, None);
    };
    let reason =
        format!("Packages are installed again for every version of the code, because {why}.");
    (true, Some(reason))
}

/// Whether devDependencies stay, and why.
fn keep_dev(manifest: &Manifest, entry: &Entry, installer: &Installer) -> (bool, Option<String>) {
    let used = manifest.dev_dependencies.iter().find(|name| {
        entry.command.iter().any(|word| {
            word == *name
                || word
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
        })
    });
    if let Some(name) = used {
        let reason = format!(
            "devDependencies stay, because the server is started with {name}, which is one."
        );
        return (true, Some(reason));
    }
    if entry.needs_shell {
        let reason = "devDependencies stay, because the start script may use them.".to_owned();
        return (true, Some(reason));
    }
    if installer.cannot_prune() {
        let reason = "devDependencies stay: this version of yarn cannot leave them out.".to_owned();
        return (true, Some(reason));
    }
    (false, None)
}

/// `file` cannot be what it is said to be.
fn unusable(file: &str, why: impl AsRef<str>, fix: &str) -> Diagnosis {
    let mut found = diagnosis(
        Code::ConfigurationInvalid,
        format!("{file} cannot be used: {}.", why.as_ref()),
        fix,
    );
    found.location = Some(file.to_owned());
    found
}

#[cfg(test)]
mod tests;
