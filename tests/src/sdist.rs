//! The official Python SDK's examples, which stand in its source distribution only; tests/run
//! fetches those.

use std::collections::BTreeMap;
use std::io::Read as _;

use anyhow::{Context as _, Result};

/// Every Python file below `examples/` of one version, by its path there.
pub fn examples(version: &str) -> Result<BTreeMap<String, String>> {
    let archive = crate::cache().join(format!("sdist/mcp-{version}.tar.gz"));
    let file = std::fs::File::open(&archive).with_context(|| {
        format!(
            "{} is missing; run ./tests/run, which fetches it",
            archive.display()
        )
    })?;
    let root = format!("mcp-{version}/examples/");
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(file)).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(below) = path.strip_prefix(&root) else {
            continue;
        };
        if below.extension().is_some_and(|kind| kind == "py") {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            files.insert(below.to_string_lossy().into_owned(), text);
        }
    }
    Ok(files)
}
