//! Examples that a project can begin with, built into the binary: each is a whole repository that
//! deploys as it is. They lie in `web/starters/`, a directory each.

use std::io;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use crate::error::{Error, Result};

/// An example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Starter {
    /// Its name in addresses and commands, and its directory.
    pub slug: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// One sentence about it.
    pub sentence: &'static str,
    /// `Python` or `TypeScript`.
    pub language: &'static str,
    /// Paths and what stands there, UTF-8.
    pub files: &'static [(&'static str, &'static str)],
}

/// The files of a directory below `web/starters/`.
macro_rules! files {
    ($slug:literal: $($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../web/starters/", $slug, "/", $path)))),+]
    };
}

/// Every example, in the order in which they are shown.
pub const STARTERS: [Starter; 6] = [
    Starter {
        slug: "fastmcp-hello",
        title: "FastMCP",
        sentence: "The smallest useful server: one tool, and a variable that changes what it says.",
        language: "Python",
        files: files!("fastmcp-hello": ".env.example", ".gitignore", "README.md", "main.py", "requirements.txt"),
    },
    Starter {
        slug: "fastmcp-notes",
        title: "FastMCP with storage",
        sentence: "Tools, resources and a prompt around notes that stay from one deployment to the next.",
        language: "Python",
        files: files!("fastmcp-notes": ".env.example", ".gitignore", "README.md", "main.py", "requirements.txt"),
    },
    Starter {
        slug: "fastapi",
        title: "FastAPI with MCP",
        sentence: "A web application with routes of its own and an MCP server mounted beside them.",
        language: "Python",
        files: files!("fastapi": ".gitignore", "README.md", "main.py", "requirements.txt"),
    },
    Starter {
        slug: "python-sdk",
        title: "Official Python SDK, low level",
        sentence: "Full control over every message: tools described by JSON Schema, calls answered one by one.",
        language: "Python",
        files: files!("python-sdk": ".gitignore", "README.md", "requirements.txt", "server.py"),
    },
    Starter {
        slug: "typescript-http",
        title: "TypeScript over HTTP",
        sentence: "The official TypeScript SDK with Express, compiled by the build.",
        language: "TypeScript",
        files: files!("typescript-http": ".gitignore", "README.md", "package.json", "src/index.ts", "tsconfig.json"),
    },
    Starter {
        slug: "typescript-stdio",
        title: "TypeScript over stdio",
        sentence: "A server as desktop clients start it; Berth serves it over HTTP without a change.",
        language: "TypeScript",
        files: files!("typescript-stdio": ".gitignore", "README.md", "package.json", "src/index.ts", "tsconfig.json"),
    },
];

/// The example of this name.
pub fn get(slug: &str) -> Result<&'static Starter> {
    STARTERS
        .iter()
        .find(|starter| starter.slug == slug)
        .ok_or(Error::NotFound("template"))
}

impl Starter {
    /// All of it as a gzip-compressed tar archive, in a directory of its name. The same example
    /// gives the same bytes.
    pub fn archive(&self) -> io::Result<Vec<u8>> {
        let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (path, text) in self.files {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_mtime(0);
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            let name = format!("{}/{path}", self.slug);
            tar.append_data(&mut header, name, text.as_bytes())?;
        }
        tar.into_inner()?.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::io::Read as _;
    use std::path::Path;

    use super::*;

    fn below(directory: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }

    #[test]
    fn every_file_is_in_the_table() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/starters");
        let mut there = BTreeSet::new();
        below(&root, &root, &mut there);
        let listed: BTreeSet<String> = STARTERS
            .iter()
            .flat_map(|it| {
                it.files
                    .iter()
                    .map(|(path, _)| format!("{}/{path}", it.slug))
            })
            .collect();
        assert_eq!(listed, there);
    }

    #[test]
    fn each_says_how_it_is_used_and_ignores_what_is_secret() {
        for starter in &STARTERS {
            let text = |name: &str| {
                let found = starter.files.iter().find(|(path, _)| *path == name);
                found
                    .unwrap_or_else(|| panic!("{}: no {name}", starter.slug))
                    .1
            };
            assert!(
                text("README.md").contains("berth deploy ."),
                "{}",
                starter.slug
            );
            assert!(
                text(".gitignore").lines().any(|line| line == ".env"),
                "{}",
                starter.slug
            );
            assert_eq!(get(starter.slug).unwrap(), starter);
        }
        assert!(get("../fastapi").is_err());
    }

    #[test]
    fn an_archive_holds_a_directory_with_all_files() {
        let starter = get("typescript-http").unwrap();
        let packed = starter.archive().unwrap();
        assert_eq!(packed, starter.archive().unwrap());
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&*packed));
        let found: Vec<(String, String)> = tar
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                (path, text)
            })
            .collect();
        let wanted = starter.files.iter();
        let wanted =
            wanted.map(|(path, text)| (format!("typescript-http/{path}"), (*text).to_owned()));
        assert_eq!(found, wanted.collect::<Vec<_>>());
    }
}
