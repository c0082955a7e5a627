//! Which Node a project wants, and which of those present it gets. Only the major version is
//! chosen: the rest is the image's. Where a smaller part would decide, the image is taken to have it.

use nodejs_semver::Range;

use super::super::tree::{FileTree, join};
use super::manifest::Manifest;
use crate::diagnose::{Code, diagnosis, list};
use crate::protocol::Diagnosis;

/// Taken where it is present and fits.
const DEFAULT: u32 = 22;
/// How an image's name begins.
const IMAGE_PREFIX: &str = "node:";
/// Files that name a version, in order.
const FILES: &[&str] = &[".node-version", ".nvmrc"];
/// Longest wish that is read.
const MAX_WISH_BYTES: usize = 256;

/// Chooses among `images`. Gives the major version and one sentence of reason.
pub fn choose(
    tree: &FileTree,
    manifest: &Manifest,
    images: &[String],
) -> Result<(String, String), Diagnosis> {
    let present = present(images);
    let usual = usual(images).ok_or_else(|| {
        diagnosis(
            Code::NodeVersionUnavailable,
            "This platform has no Node runtime image.",
            "Ask the operator to build one with deploy/images/build node:22.",
        )
    })?;
    let Some((wish, file)) = wish(tree, manifest) else {
        let chosen = usual;
        let reason = format!("Node {chosen}: nothing asks for a version.");
        return Ok((chosen.to_string(), reason));
    };
    let range = Some(&wish)
        .filter(|wish| wish.len() <= MAX_WISH_BYTES)
        .and_then(|wish| Range::parse(wish).ok());
    let Some(range) = range else {
        return Err(diagnosis(
            Code::ConfigurationInvalid,
            format!("{file} asks for Node {wish:?}, which is no version range."),
            "Write one like >=20 or 22.",
        ));
    };
    let fitting: Vec<u32> = present
        .iter()
        .copied()
        .filter(|major| {
            let all = Range::parse(major.to_string()).expect("a number is a range");
            range.allows_any(&all)
        })
        .collect();
    let Some(chosen) = best(&fitting) else {
        let names: Vec<String> = present.iter().map(u32::to_string).collect();
        return Err(diagnosis(
            Code::NodeVersionUnavailable,
            format!(
                "{file} asks for Node {wish}, and this platform has {}.",
                list(&names, names.len())
            ),
            format!(
                "Change it to admit Node {usual}, or ask the operator to add the version you need."
            ),
        ));
    };
    Ok((
        chosen.to_string(),
        format!("Node {chosen}: {file} asks for {wish}."),
    ))
}

/// The major versions that are there, in order.
fn present(images: &[String]) -> Vec<u32> {
    let mut present: Vec<u32> = images
        .iter()
        .filter_map(|image| image.strip_prefix(IMAGE_PREFIX)?.parse().ok())
        .collect();
    present.sort_unstable();
    present
}

/// The version that is taken where nothing asks for one; `None` where there is no Node.
pub fn usual(images: &[String]) -> Option<u32> {
    best(&present(images))
}

fn best(majors: &[u32]) -> Option<u32> {
    let usual = majors.contains(&DEFAULT).then_some(DEFAULT);
    usual.or_else(|| majors.last().copied())
}

/// What is asked for, and the file it stands in.
fn wish(tree: &FileTree, manifest: &Manifest) -> Option<(String, String)> {
    if let Some(engine) = &manifest.engine {
        return Some((engine.clone(), manifest.path.clone()));
    }
    FILES.iter().find_map(|name| {
        let path = join(&manifest.directory, name)?;
        let text = tree.text(&path)?;
        let line = text.lines().next()?.trim();
        let line = line.strip_prefix('v').unwrap_or(line);
        // `lts/*` and `node` name no version.
        line.starts_with(|c: char| c.is_ascii_digit())
            .then(|| (line.to_owned(), path))
    })
}
