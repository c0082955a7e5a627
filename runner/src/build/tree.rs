//! A source's files as the planner sees them: names, and the contents of small ones.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file that planning reads. Lock files of large projects are a few MiB.
const MAX_READ_BYTES: u64 = 16 * 1024 * 1024;

/// Largest ignore file, bytes, and most rules of one: each is tried on every name of a source. The
/// longest that people write have a few hundred.
pub const MAX_IGNORE_BYTES: u64 = 64 * 1024;
pub const MAX_IGNORE_RULES: usize = 1_000;

/// Files of a source by their path relative to its root, `/` between components.
#[derive(Clone)]
pub struct FileTree {
    files: BTreeMap<String, u64>,
    contents: Contents,
    /// What stands before each name in `contents`: empty, or a directory with its slash.
    prefix: String,
}

#[derive(Clone)]
enum Contents {
    Disk(PathBuf),
    Memory(Arc<BTreeMap<String, Vec<u8>>>),
}

impl FileTree {
    /// Lists the files below `root`. Symbolic links to files inside it count as files; links to
    /// directories are not entered, and nothing outside `root` is ever read.
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let mut files = BTreeMap::new();
        let mut ahead = vec![root.clone()];
        while let Some(directory) = ahead.pop() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    ahead.push(path);
                } else if let Some(size) = size_within(&root, &path)
                    && let Some(name) = path.strip_prefix(&root).ok().and_then(Path::to_str)
                {
                    files.insert(name.to_owned(), size);
                }
            }
        }
        Ok(Self {
            files,
            contents: Contents::Disk(root),
            prefix: String::new(),
        })
    }

    /// A tree in memory.
    pub fn from_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let contents: BTreeMap<String, Vec<u8>> = files
            .into_iter()
            .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
            .collect();
        Self {
            files: contents
                .iter()
                .map(|(name, bytes)| (name.clone(), bytes.len() as u64))
                .collect(),
            contents: Contents::Memory(Arc::new(contents)),
            prefix: String::new(),
        }
    }

    /// The part of the tree in one directory, with names relative to it; `None` when there is no
    /// file below it.
    pub fn below(&self, directory: &str) -> Option<Self> {
        if directory.is_empty() {
            return Some(self.clone());
        }
        let within = format!("{directory}/");
        let files: BTreeMap<String, u64> = self
            .files
            .iter()
            .filter_map(|(name, size)| Some((name.strip_prefix(&within)?.to_owned(), *size)))
            .collect();
        (!files.is_empty()).then(|| Self {
            files,
            contents: self.contents.clone(),
            prefix: format!("{}{within}", self.prefix),
        })
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// A file's size in bytes.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.files.get(name).copied()
    }

    /// A file's bytes; `None` when it is not there, too large or unreadable.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        if self.size(name)? > MAX_READ_BYTES {
            return None;
        }
        let name = format!("{}{name}", self.prefix);
        match &self.contents {
            Contents::Memory(contents) => contents.get(&name).cloned(),
            Contents::Disk(root) => {
                let path = root.join(name);
                size_within(root, &path)?;
                let mut bytes = Vec::new();
                File::open(path)
                    .ok()?
                    .take(MAX_READ_BYTES)
                    .read_to_end(&mut bytes)
                    .ok()?;
                Some(bytes)
            }
        }
    }

    /// A file's text without a byte order mark; `None` also when it is not UTF-8.
    pub fn text(&self, name: &str) -> Option<String> {
        let text = String::from_utf8(self.read(name)?).ok()?;
        Some(
            text.strip_prefix('\u{feff}')
                .map_or(text.clone(), str::to_owned),
        )
    }
}

/// The size of a regular file that lies within `root` once links are followed.
fn size_within(root: &Path, path: &Path) -> Option<u64> {
    let real = path.canonicalize().ok()?;
    let metadata = fs::metadata(&real).ok()?;
    (real.starts_with(root) && metadata.is_file()).then_some(metadata.len())
}

/// The directory of a path within the tree; empty at the root.
pub fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// `directory` and every directory above it, up to the root (`""`).
pub fn upwards(directory: &str) -> impl Iterator<Item = &str> {
    let mut next = Some(directory);
    std::iter::from_fn(move || {
        let here = next?;
        next = (!here.is_empty()).then(|| directory_of(here));
        Some(here)
    })
}

/// `name` within `directory`, with `.` and `..` resolved; `None` when it leaves the root.
pub fn join(directory: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = directory
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_files_inside_are_seen() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/c.py"), "\u{feff}hello").unwrap();
        symlink("a/b/c.py", root.path().join("link.py")).unwrap();
        symlink(outside.path().join("secret"), root.path().join("out")).unwrap();
        symlink(outside.path(), root.path().join("outdir")).unwrap();
        symlink("nowhere", root.path().join("dangling")).unwrap();

        let tree = FileTree::open(root.path()).unwrap();
        assert_eq!(tree.names().collect::<Vec<_>>(), ["a/b/c.py", "link.py"]);
        assert_eq!(tree.text("link.py").unwrap(), "hello");
        assert!(tree.read("out").is_none());
    }

    #[test]
    fn paths_resolve_within_the_root() {
        assert_eq!(join("a/b", "../c.txt").unwrap(), "a/c.txt");
        assert_eq!(join("", "./x").unwrap(), "x");
        assert!(join("a", "../../x").is_none());
        assert!(join("", "/etc/passwd").is_none());
        assert_eq!(upwards("a/b").collect::<Vec<_>>(), ["a/b", "a", ""]);
        assert_eq!(upwards("").collect::<Vec<_>>(), [""]);
    }
}
