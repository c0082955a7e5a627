//! Requirements files, as far as planning reads them: what they include, and what of the source
//! they install.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{FileTree, directory_of, join};
use crate::diagnose::{Code, diagnosis};
use crate::protocol::Diagnosis;

/// Deepest `-r` within `-r`.
const MAX_INCLUDES: usize = 32;

/// A requirements file and all it includes with `-r` and `-c`.
pub fn requirement_files(
    tree: &FileTree,
    path: &str,
) -> Result<BTreeMap<String, Vec<u8>>, Diagnosis> {
    let mut files = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut ahead = vec![path.to_owned()];
    while let Some(path) = ahead.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        if seen.len() > MAX_INCLUDES {
            return Err(diagnosis(
                Code::ConfigurationInvalid,
                format!(
                    "{path} is the {}th requirements file that is included.",
                    MAX_INCLUDES + 1
                ),
                "Put the requirements into fewer files.",
            ));
        }
        let text = readable(tree, &path)?;
        for name in includes(&text) {
            if name.contains("://") {
                continue; // Fetched by the installer, within the build's network.
            }
            match join(directory_of(&path), name) {
                Some(included) if tree.has(&included) => ahead.push(included),
                _ => return Err(missing(&path, name)),
            }
        }
        for place in local_places(&text) {
            local_inputs(
                tree,
                &join(directory_of(&path), place).ok_or_else(|| missing(&path, place))?,
                &mut files,
            );
        }
        files.insert(path, text.into_bytes());
    }
    Ok(files)
}

/// Paths of the source that a requirements file installs: `-e .`, `./libs/thing[extra]`.
fn local_places(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let place = line
            .strip_prefix("--editable")
            .or_else(|| line.strip_prefix("-e"))
            .unwrap_or(line);
        let place = place.trim_start_matches(['=', ' ', '\t']);
        let place = place.split(['[', ';', ' ']).next().unwrap_or_default();
        (place.starts_with('.') && !place.contains("://")).then_some(place)
    })
}

/// What of a local package decides the result: of the whole source, its metadata, since its code
/// is not installed; of a package within it, every file.
fn local_inputs(tree: &FileTree, place: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    let metadata = ["pyproject.toml", "setup.py", "setup.cfg"];
    let names: Vec<String> = if place.is_empty() {
        metadata
            .iter()
            .filter(|name| tree.has(name))
            .map(|name| (*name).to_owned())
            .collect()
    } else {
        let within = format!("{place}/");
        tree.names()
            .filter(|name| *name == place || name.starts_with(&within))
            .map(str::to_owned)
            .collect()
    };
    for name in names {
        if let Some(contents) = tree.read(&name) {
            files.insert(name, contents);
        }
    }
}

/// Names behind `-r`, `-c` and their long forms.
fn includes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let rest = ["--requirement", "--constraint", "-r", "-c"]
            .iter()
            .find_map(|option| line.strip_prefix(option))?;
        let name = rest.trim_start_matches(['=', ' ', '\t']).trim();
        (!name.is_empty()).then_some(name)
    })
}

/// Whether anything is required in it.
pub fn has_entries(contents: &[u8]) -> bool {
    String::from_utf8_lossy(contents).lines().any(|line| {
        let line = line.trim();
        !line.is_empty()
            && !line.starts_with('#')
            && (!line.starts_with('-') || line.starts_with("-e"))
    })
}

/// Whether it is a lock: pip takes one hash as the word that every package has one.
pub fn is_hashed(contents: &[u8]) -> bool {
    String::from_utf8_lossy(contents).contains("--hash=")
}

/// A file's bytes, or why they cannot be had.
pub fn bytes(tree: &FileTree, path: &str) -> Result<Vec<u8>, Diagnosis> {
    tree.read(path).ok_or_else(|| {
        diagnosis(
            Code::ConfigurationInvalid,
            format!("{path} is too large to be read."),
            "Remove what does not belong into it and deploy again.",
        )
    })
}

/// A file's text, or why it cannot be read.
pub fn readable(tree: &FileTree, path: &str) -> Result<String, Diagnosis> {
    let contents = bytes(tree, path)?;
    if contents.starts_with(&[0xff, 0xfe]) || contents.starts_with(&[0xfe, 0xff]) {
        return Err(diagnosis(
            Code::ConfigurationInvalid,
            format!("{path} is saved as UTF-16, as PowerShell's `>` does."),
            "Save it as UTF-8 and deploy again.",
        ));
    }
    let text = String::from_utf8(contents).map_err(|_| {
        diagnosis(
            Code::ConfigurationInvalid,
            format!("{path} is not UTF-8 text."),
            "Save it as UTF-8 and deploy again.",
        )
    })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}

/// A file that another one names and that is not there.
pub fn missing(named_in: &str, name: &str) -> Diagnosis {
    let mut found = diagnosis(
        Code::DependencyFileNotFound,
        format!("{named_in} names {name}, which is not in the source."),
        "Add the file to the source, or remove its mention.",
    );
    found.location = Some(named_in.to_owned());
    found
}
