//! `berth init`: a template's files on this machine.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::exit::Failure;
use super::output::{Output, table};
use crate::starters::{self, STARTERS, Starter};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The template; without one, all are listed.
    template: Option<String>,

    /// Where its files go [default: a new directory of the template's name].
    directory: Option<PathBuf>,
}

pub fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let Some(name) = arguments.template else {
        output.result(&list(), || table(&rows()));
        return Ok(ExitCode::SUCCESS);
    };
    let starter = starters::get(&name).map_err(|_| {
        Failure::NotFound(format!(
            "there is no template {name}; `berth init` lists them"
        ))
    })?;
    let directory = arguments
        .directory
        .unwrap_or_else(|| PathBuf::from(starter.slug));
    write(starter, &directory)?;
    let shown = directory.display().to_string();
    let files: Vec<&str> = starter.files.iter().map(|(path, _)| *path).collect();
    let document = json!({ "template": starter.slug, "directory": shown, "files": files });
    output.result(&document, || next(starter, &directory));
    Ok(ExitCode::SUCCESS)
}

fn list() -> Value {
    let all: Vec<Value> = STARTERS
        .iter()
        .map(|it| json!({ "name": it.slug, "title": it.title, "description": it.sentence, "language": it.language }))
        .collect();
    Value::Array(all)
}

fn rows() -> Vec<Vec<String>> {
    let head = ["TEMPLATE", "LANGUAGE", "WHAT IT IS"].map(str::to_owned);
    let all = STARTERS.iter().map(|it| {
        [it.slug, it.language, it.sentence]
            .map(str::to_owned)
            .to_vec()
    });
    std::iter::once(head.to_vec()).chain(all).collect()
}

/// Writes the files; nothing is written when one of them is there already.
fn write(starter: &Starter, directory: &Path) -> anyhow::Result<()> {
    let there = |path: &&str| directory.join(path).symlink_metadata().is_ok();
    if let Some(path) = starter.files.iter().map(|(path, _)| *path).find(there) {
        anyhow::bail!(Failure::Usage(format!(
            "{} is there already, and nothing was written; name another directory",
            directory.join(path).display()
        )));
    }
    for (path, text) in starter.files {
        let path = directory.join(path);
        create(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn create(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

fn next(starter: &Starter, directory: &Path) -> String {
    let quoted = shell_words::quote(&directory.to_string_lossy()).into_owned();
    format!(
        "Wrote {} files of the template {} to {}.\nNext:\n  cd {quoted}\n  berth deploy . --project {} --wait",
        starter.files.len(),
        starter.slug,
        directory.display(),
        starter.slug
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_written_and_none_is_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a b");
        let starter = starters::get("typescript-stdio").unwrap();
        write(starter, &directory).unwrap();
        for (path, text) in starter.files {
            assert_eq!(fs::read_to_string(directory.join(path)).unwrap(), *text);
        }
        let error = write(starter, &directory).unwrap_err().to_string();
        assert!(error.contains("nothing was written"), "{error}");
        let shown = next(starter, Path::new("a b"));
        assert!(shown.contains("cd 'a b'\n"), "{shown}");

        // One file is enough to stop before the first is written.
        let other = root.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("tsconfig.json"), "mine").unwrap();
        write(starter, &other).unwrap_err();
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
        assert_eq!(
            fs::read_to_string(other.join("tsconfig.json")).unwrap(),
            "mine"
        );
    }
}
