//! What starts a Node server: what the user wrote, the `start` script, `main`, `bin`, or a usual
//! file. Scripts are read as words, never given to a shell by us; one that needs a shell is run by
//! npm, inside the instance.

use std::collections::BTreeMap;

use super::super::tree::{FileTree, join};
use super::manifest::Manifest;
use super::{BUILD_SCRIPT, ENDINGS, is_node_file};
use crate::diagnose::{Code, diagnosis, list};
use crate::protocol::Diagnosis;

/// Where a server usually is where nothing names it.
const USUAL_FILES: &[&str] = &[
    "index.js",
    "index.mjs",
    "server.js",
    "server.mjs",
    "app.js",
    "src/index.js",
    "src/server.js",
    "index.ts",
    "server.ts",
    "src/index.ts",
    "src/server.ts",
];
/// Where a build usually puts it.
const BUILT_FILES: &[&str] = &["dist/index.js", "build/index.js", "out/index.js"];
/// Characters that mean something to a shell.
const SHELL: &[char] = &[
    '|', ';', '<', '>', '(', ')', '$', '`', '\n', '&', '*', '?', '[', '{', '~', '#', '!',
];
/// The interpreter.
const NODE: &str = "/usr/local/bin/node";
/// Scripts that call scripts: deeper is a circle.
const MAX_DEPTH: usize = 5;
/// Most names in a sentence.
const MOST_NAMES: usize = 8;

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables that the script sets.
    pub variables: BTreeMap<String, String>,
    /// For people: `dist/index.js`, `npm run start`.
    pub text: String,
    /// One sentence.
    pub reason: String,
    /// Whether npm gives it to a shell.
    pub needs_shell: bool,
}

impl Entry {
    fn of(command: Vec<String>, text: impl Into<String>, why: &str) -> Self {
        let text = text.into();
        Self {
            reason: format!("Entrypoint {text}: {why}."),
            command,
            variables: BTreeMap::new(),
            text,
            needs_shell: false,
        }
    }

    fn file(file: &str, arguments: &[String], why: &str) -> Self {
        let mut command = vec![NODE.to_owned(), file.to_owned()];
        command.extend_from_slice(arguments);
        Self::of(command, file, why)
    }
}

/// What `package.json` itself names to start, for people; `None` when nothing does.
pub fn named_by(tree: &FileTree, manifest: &Manifest) -> Option<&'static str> {
    let is_built = manifest.scripts.contains_key(BUILD_SCRIPT);
    // `npm init` writes a main that is often not there.
    let is_there = |file: &str| is_built || existing(tree, manifest, file).is_some();
    if manifest.scripts.contains_key("start") {
        return Some("a start script");
    }
    if manifest.main.as_deref().is_some_and(is_there) {
        return Some("a main file");
    }
    let has_program = manifest.bins.values().any(|file| is_there(file));
    has_program.then_some("a program (bin)")
}

/// Finds it. `written` is what the user wrote; `is_built` says that files may come into being.
pub fn find(
    tree: &FileTree,
    manifest: &Manifest,
    written: Option<&str>,
    is_built: bool,
) -> Result<Entry, Diagnosis> {
    let place = Place {
        tree,
        manifest,
        is_built,
    };
    if let Some(text) = written.map(str::trim).filter(|text| !text.is_empty()) {
        return place.written(text);
    }
    if manifest.scripts.contains_key("start") {
        let entry = place.script("start", &[], 0)?;
        return Ok(Entry {
            reason: format!(
                "Entrypoint {}: package.json has the start script {:?}.",
                entry.text, manifest.scripts["start"]
            ),
            ..entry
        });
    }
    if let Some(main) = &manifest.main
        && let Some(file) = place.file(main)?
    {
        return Ok(Entry::file(&file, &[], "package.json names it as main"));
    }
    if let Some(entry) = place.program()? {
        return Ok(entry);
    }
    let usual = if is_built { BUILT_FILES } else { &[] };
    for file in USUAL_FILES.iter().chain(usual) {
        let there = existing(tree, manifest, file);
        if let Some(file) = there {
            return Ok(Entry::file(
                &file,
                &[],
                "it is there and nothing else is named",
            ));
        }
    }
    if let Some(file) = usual.first() {
        return Ok(Entry::file(
            file,
            &[],
            "builds usually put it there, and nothing else is named",
        ));
    }
    Err(diagnosis(
        Code::NoEntrypoint,
        format!(
            "{} names nothing to start: it has no start script, no main and no bin, and no usual file is there.",
            manifest.path
        ),
        "Add a start script, for example \"start\": \"node server.js\".",
    ))
}

/// A source while its entry is looked for.
struct Place<'a> {
    tree: &'a FileTree,
    manifest: &'a Manifest,
    is_built: bool,
}

impl Place<'_> {
    /// `FILE|PROGRAM|SCRIPT [ARGUMENT…]`, as the user wrote it.
    fn written(&self, text: &str) -> Result<Entry, Diagnosis> {
        let words = words(text)?;
        let (first, arguments) = words.split_first().ok_or_else(|| invalid(text))?;
        if is_node_file(first) {
            let directory = &self.manifest.directory;
            let inside = first
                .strip_prefix(directory.as_str())
                .map_or(first.as_str(), |rest| rest.trim_start_matches('/'));
            let file = self.file(inside)?.ok_or_else(|| self.not_found(first))?;
            return Ok(Entry::file(&file, arguments, "it was set"));
        }
        if let Some(file) = self.manifest.bins.get(first) {
            let file = self.file(file)?.ok_or_else(|| self.not_found(file))?;
            return Ok(Entry::file(&file, arguments, "it was set"));
        }
        if self.manifest.scripts.contains_key(first) {
            return self.script(first, arguments, 0);
        }
        Err(self.not_found(first))
    }

    /// The command of a script, with further arguments.
    fn script(&self, name: &str, more: &[String], depth: usize) -> Result<Entry, Diagnosis> {
        let Some(text) = self
            .manifest
            .scripts
            .get(name)
            .filter(|_| depth < MAX_DEPTH)
        else {
            return Err(diagnosis(
                Code::EntrypointNotFound,
                format!(
                    "{} has no script {name} that starts a server.",
                    self.manifest.path
                ),
                "Add it, or correct the script that calls it.",
            ));
        };
        let text = self.without_build(text);
        let shell = || {
            let mut command = ["npm", "run", "--silent", "--", name]
                .map(str::to_owned)
                .to_vec();
            command.extend_from_slice(more);
            Entry {
                needs_shell: true,
                ..Entry::of(command, format!("npm run {name}"), "it needs a shell")
            }
        };
        let Some(mut words) = shell_words::split(text)
            .ok()
            .filter(|_| !text.contains(SHELL))
        else {
            return Ok(shell());
        };
        let mut variables = BTreeMap::new();
        while let Some(first) = words.first() {
            if let Some((name, value)) = assignment(first) {
                variables.insert(name.to_owned(), value.to_owned());
            } else if first != "cross-env" {
                break;
            }
            words.remove(0);
        }
        words.extend_from_slice(more);
        let Some((program, arguments)) = words.split_first() else {
            return Ok(shell());
        };
        let mut entry = match (program.as_str(), arguments) {
            ("node", [file, rest @ ..]) if is_node_file(file) => {
                // Whether it is there is seen before anything is installed.
                let found = self.file(file)?.ok_or_else(|| self.not_found(file))?;
                Entry::file(&found, rest, "a script names it")
            }
            ("node", arguments) if !arguments.is_empty() => {
                let mut command = vec![NODE.to_owned()];
                command.extend_from_slice(arguments);
                Entry::of(command, text, "a script names it")
            }
            ("npm" | "pnpm" | "yarn", [run, script, rest @ ..]) if run == "run" => {
                let rest = rest.strip_prefix(&["--".to_owned()]).unwrap_or(rest);
                self.script(script, rest, depth + 1)?
            }
            ("pnpm" | "yarn", [script, rest @ ..])
                if self.manifest.scripts.contains_key(script) =>
            {
                self.script(script, rest, depth + 1)?
            }
            ("npx", arguments) => {
                let skipped = ["-y", "--yes", "--no-install", "-q", "--quiet", "--"];
                let rest: Vec<String> = arguments
                    .iter()
                    .skip_while(|word| skipped.contains(&word.as_str()))
                    .cloned()
                    .collect();
                if rest.is_empty() {
                    return Ok(shell());
                }
                Entry::of(rest, text, "a script names it")
            }
            _ => Entry::of(words, text, "a script names it"),
        };
        entry.variables.extend(variables);
        Ok(entry)
    }

    /// The script without builds in front of the server: they have been run.
    fn without_build<'b>(&self, script: &'b str) -> &'b str {
        const BUILDS: &[&str] = &[
            "npm run build",
            "npm run --silent build",
            "npm run -s build",
            "yarn build",
            "yarn run build",
            "pnpm build",
            "pnpm run build",
            "tsc",
        ];
        let mut rest = script;
        while let Some((first, after)) = rest.split_once("&&") {
            if !self.is_built || !BUILDS.contains(&first.trim()) {
                break;
            }
            rest = after;
        }
        rest.trim()
    }

    /// The only program of `bin`, or the one of the package's name.
    fn program(&self) -> Result<Option<Entry>, Diagnosis> {
        let bins = &self.manifest.bins;
        let own = self.manifest.short_name.as_ref();
        let chosen = own
            .and_then(|name| bins.get_key_value(name))
            .or_else(|| bins.iter().next().filter(|_| bins.len() == 1));
        match chosen {
            Some((name, file)) => {
                let file = self.file(file)?.ok_or_else(|| self.not_found(file))?;
                let why = format!("package.json names it as the program {name}");
                Ok(Some(Entry::file(&file, &[], &why)))
            }
            None if bins.is_empty() => Ok(None),
            None => {
                let names: Vec<String> = bins.keys().cloned().collect();
                Err(diagnosis(
                    Code::NoEntrypoint,
                    format!(
                        "{} has several programs: {}.",
                        self.manifest.path,
                        list(&names, MOST_NAMES)
                    ),
                    "Set the entrypoint to the one that is the server.",
                ))
            }
        }
    }

    /// A file of the project, relative to package.json; `None` when it is not there and no build
    /// could make it.
    fn file(&self, name: &str) -> Result<Option<String>, Diagnosis> {
        let directory = &self.manifest.directory;
        let Some(path) = join(directory, name) else {
            return Err(diagnosis(
                Code::EntrypointInvalid,
                format!("{name:?} is not inside the source."),
                "Write a path relative to package.json, for example dist/index.js.",
            ));
        };
        let inside = path
            .strip_prefix(directory.as_str())
            .map_or(path.as_str(), |rest| rest.trim_start_matches('/'));
        Ok(existing(self.tree, self.manifest, inside)
            .or_else(|| (self.is_built && !inside.is_empty()).then(|| inside.to_owned())))
    }

    fn not_found(&self, name: &str) -> Diagnosis {
        let scripts: Vec<String> = self.manifest.scripts.keys().cloned().collect();
        let others = if scripts.is_empty() {
            String::new()
        } else {
            format!(" Its scripts are {}.", list(&scripts, MOST_NAMES))
        };
        let mut found = diagnosis(
            Code::EntrypointNotFound,
            format!("There is no file, program or script {name} to start."),
            format!("Correct the name, or add a build script that makes the file.{others}"),
        );
        found.location = Some(self.manifest.path.clone());
        found
    }
}

/// A file that is there, as Node finds it: with its ending left out, or a directory's index.
fn existing(tree: &FileTree, manifest: &Manifest, name: &str) -> Option<String> {
    let inside = |name: &str| join(&manifest.directory, name).filter(|path| tree.has(path));
    let plain = name.strip_prefix("./").unwrap_or(name);
    let endings = ENDINGS.iter().map(|ending| format!("{plain}{ending}"));
    let index = format!("{}/index.js", plain.trim_end_matches('/'));
    std::iter::once(plain.to_owned())
        .chain(endings)
        .chain([index])
        .find(|name| inside(name).is_some())
}

/// `NAME=value` in front of a command.
fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((name, value))
}

/// An entrypoint's words.
pub fn words(text: &str) -> Result<Vec<String>, Diagnosis> {
    shell_words::split(text).map_err(|_| invalid(text))
}

fn invalid(text: &str) -> Diagnosis {
    diagnosis(
        Code::EntrypointInvalid,
        format!("The entrypoint {text:?} cannot be taken apart into words."),
        "Close its quotes.",
    )
}
