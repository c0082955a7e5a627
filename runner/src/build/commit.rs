//! From a commit to an archive of its tree, blob by blob, within the limits of a source.

use std::io::Write;

use git2::{Commit, FileMode, ObjectType, Oid, Repository};

use super::archive::{self, MAX_NODES, MAX_TREE_BYTES, Refusal};
use super::fetch::{FetchFault, Say, unreadable};
use super::names::{MAX_PATH_BYTES, checked_name, printable};
use crate::protocol;

/// Most bytes of one tree object, which libgit2 holds in memory: 20,000 entries of 255 bytes fit.
const MAX_TREE_OBJECT_BYTES: usize = 8 * 1024 * 1024;
/// Most bytes of one commit object.
const MAX_COMMIT_BYTES: usize = 1024 * 1024;
/// Most bytes of one file, which is held in memory on its way: what the large Git hosts accept.
const MAX_BLOB_BYTES: usize = 100 * 1024 * 1024;
/// Most characters of a commit's first line that are kept.
const MAX_SUBJECT_CHARS: usize = 200;
/// A file below this size may be a pointer of Git LFS (its specification says under 1024 bytes).
const MAX_POINTER_BYTES: usize = 1024;
/// Copies the commit's tree into an archive.
pub(super) fn write_commit(
    repository: &Repository,
    oid: Oid,
    out: impl Write,
    say: &Say,
) -> Result<protocol::Commit, FetchFault> {
    let missing = || FetchFault::NoSuchCommit(oid.to_string());
    let odb = repository.odb().map_err(|error| unreadable(&error))?;
    let (size, kind) = odb.read_header(oid).map_err(|_| missing())?;
    if kind != ObjectType::Commit {
        return Err(missing());
    }
    if size > MAX_COMMIT_BYTES {
        return Err(Refusal::TooLarge.into());
    }
    let commit = repository.find_commit(oid).map_err(|_| missing())?;
    let mut walk = Walk {
        repository,
        odb,
        writer: archive::Writer::new(out),
        bytes: 0,
        nodes: 0,
        pointers: Vec::new(),
        say,
    };
    walk.tree(commit.tree_id())?;
    walk.finish()?;
    Ok(described(&commit))
}

struct Walk<'a, W: Write> {
    repository: &'a Repository,
    odb: git2::Odb<'a>,
    writer: archive::Writer<W>,
    bytes: u64,
    nodes: usize,
    pointers: Vec<String>,
    say: &'a Say,
}

impl<W: Write> Walk<'_, W> {
    /// Walks without recursion: a stranger decides how deep a tree is.
    fn tree(&mut self, root: Oid) -> Result<(), FetchFault> {
        let mut ahead = vec![(String::new(), root)];
        while let Some((prefix, oid)) = ahead.pop() {
            let (size, _) = self
                .odb
                .read_header(oid)
                .map_err(|error| unreadable(&error))?;
            if size > MAX_TREE_OBJECT_BYTES {
                return Err(Refusal::TooMany.into());
            }
            let tree = self
                .repository
                .find_tree(oid)
                .map_err(|error| unreadable(&error))?;
            for entry in &tree {
                self.nodes += 1;
                if self.nodes > MAX_NODES {
                    return Err(Refusal::TooMany.into());
                }
                let name = component(entry.name_bytes())?;
                let path = if prefix.is_empty() {
                    name
                } else {
                    format!("{prefix}/{name}")
                };
                checked_name(path.as_bytes())?;
                match FileModeOf::from(entry.filemode()) {
                    FileModeOf::Tree => ahead.push((path, entry.id())),
                    FileModeOf::Blob { executable } => self.blob(&path, entry.id(), executable)?,
                    FileModeOf::Link => self.link(&path, entry.id())?,
                    FileModeOf::Submodule => (self.say)(format!(
                        "Skipped the submodule {}: submodules are not fetched.",
                        printable(path.as_bytes())
                    )),
                }
            }
        }
        Ok(())
    }

    /// Reads a blob whose size is checked before it is held.
    fn read(&mut self, oid: Oid) -> Result<git2::OdbObject<'_>, FetchFault> {
        let (size, kind) = self
            .odb
            .read_header(oid)
            .map_err(|error| unreadable(&error))?;
        if kind != ObjectType::Blob {
            return Err(FetchFault::Unreadable("a file is not a blob".to_owned()));
        }
        self.bytes += size as u64;
        if size > MAX_BLOB_BYTES || self.bytes > MAX_TREE_BYTES {
            return Err(Refusal::TooLarge.into());
        }
        self.odb.read(oid).map_err(|error| unreadable(&error))
    }

    fn blob(&mut self, path: &str, oid: Oid, executable: bool) -> Result<(), FetchFault> {
        let contents = self.read(oid)?.data().to_vec();
        if contents.len() < MAX_POINTER_BYTES
            && contents.starts_with(b"version https://git-lfs.github.com/spec/")
        {
            self.pointers.push(path.to_owned());
        }
        self.writer
            .file(path, executable, &contents)
            .map_err(|error| Refusal::Disk(error).into())
    }

    fn link(&mut self, path: &str, oid: Oid) -> Result<(), FetchFault> {
        let target = self.read(oid)?.data().to_vec();
        let refuse = |reason| Refusal::Link {
            link: printable(path.as_bytes()),
            target: printable(&target),
            reason,
        };
        let text = std::str::from_utf8(&target).map_err(|_| refuse("its target is not UTF-8"))?;
        if text.len() > MAX_PATH_BYTES {
            return Err(refuse("its target is longer than a path can be").into());
        }
        self.writer
            .link(path, text)
            .map_err(|error| Refusal::Disk(error).into())
    }

    fn finish(self) -> Result<(), FetchFault> {
        if let Some(first) = self.pointers.first() {
            (self.say)(format!(
                "{} file(s) are kept in Git LFS and come as pointers only, for example {}.",
                self.pointers.len(),
                printable(first.as_bytes())
            ));
        }
        self.writer
            .finish()
            .and_then(|mut out| out.flush())
            .map_err(|error| Refusal::Disk(error).into())
    }
}

/// A tree entry's mode, as Git knows it; old repositories hold group-writable files.
enum FileModeOf {
    Tree,
    Blob { executable: bool },
    Link,
    Submodule,
}

impl From<i32> for FileModeOf {
    fn from(mode: i32) -> Self {
        match mode {
            _ if mode == i32::from(FileMode::Tree) => Self::Tree,
            _ if mode == i32::from(FileMode::Link) => Self::Link,
            _ if mode == i32::from(FileMode::Commit) => Self::Submodule,
            _ => Self::Blob {
                executable: mode & 0o111 != 0,
            },
        }
    }
}

/// One name within a tree: Git itself forbids a slash in it, hostile trees hold one.
fn component(raw: &[u8]) -> Result<String, FetchFault> {
    let checked = checked_name(raw)?;
    if checked.as_bytes() != raw || raw.contains(&b'/') {
        return Err(Refusal::Name {
            name: printable(raw),
            reason: "its name is not a file name",
        }
        .into());
    }
    Ok(checked)
}

fn described(commit: &Commit<'_>) -> protocol::Commit {
    let clean = |text: String| -> Option<String> {
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_SUBJECT_CHARS)
            .collect();
        let text = text.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let first_line = |bytes: &[u8]| {
        let message = String::from_utf8_lossy(bytes);
        message
            .trim_start()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    protocol::Commit {
        id: commit.id().to_string(),
        subject: clean(first_line(commit.message_bytes())),
        author: clean(String::from_utf8_lossy(commit.author().name_bytes()).into_owned()),
    }
}
