//! The files that a Dockerfile can copy: the project's root directory without what `.dockerignore`
//! leaves out. They reach a container as an archive that the runner makes, so that nothing else of
//! the source is in reach there, and nothing of the host.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use tar::{Builder, EntryType, Header};

use super::super::tree::{FileTree, join};
use crate::hash::Hash;

/// Signs that make a path a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// One source of a `COPY`, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its own name, without its directory.
    pub name: String,
    /// Its path from the root directory; empty for the whole. `None` for a text of the Dockerfile's own.
    pub path: Option<String>,
    /// What it holds, if it is a directory: names from it.
    pub files: Option<Vec<String>>,
    /// The text, if it is one.
    pub text: String,
}

impl Selected {
    /// A text of the Dockerfile's own.
    pub fn text(name: &str, text: String) -> Self {
        Self {
            name: name.to_owned(),
            path: None,
            files: None,
            text,
        }
    }
}

/// What can be copied.
#[derive(Clone)]
pub struct Context {
    /// Names from the root directory: files and links.
    names: BTreeSet<String>,
    /// Those that are left out.
    ignored: BTreeSet<String>,
    ignore_file: Option<String>,
}

impl Context {
    /// Of a root directory. `dockerfile` is never left out of the reading, but of the copying.
    pub fn new(view: &FileTree, dockerfile: &str) -> Result<Self, String> {
        let own = format!("{dockerfile}.dockerignore");
        let ignore_file = [own.as_str(), ".dockerignore"]
            .into_iter()
            .find(|file| view.has(file));
        let text = ignore_file
            .and_then(|file| view.text(file))
            .unwrap_or_default();
        let rules = Rules::read(&text)?;
        let (ignored, names) = view
            .names()
            .map(str::to_owned)
            .partition(|name: &String| rules.leaves_out(name));
        Ok(Self {
            names,
            ignored,
            ignore_file: ignore_file.map(str::to_owned),
        })
    }

    /// What a source of `COPY` names. The error is a sentence's end.
    pub fn select(&self, written: &str) -> Result<Vec<Selected>, Missing> {
        // `/x` is the context's, and `../x` cannot leave it: both as the reference says.
        let path = join("", written.trim_start_matches('/'))
            .ok_or_else(|| Missing::Outside(written.to_owned()))?;
        if !path.contains(WILD) {
            return self
                .one(&path)
                .map(|found| vec![found])
                .ok_or_else(|| self.missing(written, &path));
        }
        let matcher = matcher(&path).map_err(|_| Missing::Nowhere(written.to_owned()))?;
        let depth = path.split('/').count();
        // A pattern matches names of its own depth, of files and of directories.
        let candidates: BTreeSet<String> = self
            .names
            .iter()
            .filter_map(|name| {
                let parts: Vec<&str> = name.split('/').collect();
                Some(parts.get(..depth)?.join("/"))
            })
            .collect();
        let found: Vec<Selected> = candidates
            .iter()
            .filter(|candidate| matcher.is_match(candidate))
            .filter_map(|candidate| self.one(candidate))
            .collect();
        if found.is_empty() {
            return Err(self.missing(written, &path));
        }
        Ok(found)
    }

    fn one(&self, path: &str) -> Option<Selected> {
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        let files = if self.names.contains(path) {
            None
        } else {
            let prefix = if path.is_empty() {
                String::new()
            } else {
                format!("{path}/")
            };
            let below: Vec<String> = self
                .names
                .iter()
                .filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned))
                .collect();
            if below.is_empty() {
                return None;
            }
            Some(below)
        };
        Some(Selected {
            name,
            path: Some(path.to_owned()),
            files,
            text: String::new(),
        })
    }

    /// Whether `.dockerignore` is the reason.
    fn missing(&self, written: &str, path: &str) -> Missing {
        let prefix = format!("{path}/");
        let pattern = matcher(path).ok();
        let is_left_out = self.ignored.iter().any(|name| {
            name == path
                || name.starts_with(&prefix)
                || pattern
                    .as_ref()
                    .is_some_and(|pattern| pattern.is_match(name))
        });
        match &self.ignore_file {
            Some(file) if is_left_out => Missing::Ignored(written.to_owned(), file.clone()),
            _ => Missing::Nowhere(written.to_owned()),
        }
    }
}

/// Why nothing is copied.
#[derive(Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no such file.
    Nowhere(String),
    /// There is one, and this file leaves it out.
    Ignored(String, String),
    /// It is outside of the source.
    Outside(String),
}

/// `.dockerignore`: the last rule that matches a name, or a directory above it, decides.
struct Rules(Vec<(bool, GlobMatcher)>);

impl Rules {
    fn read(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (keeps, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            let Some(pattern) = join("", pattern.trim_start_matches('/')) else {
                continue;
            };
            if pattern.is_empty() {
                continue;
            }
            rules.push((keeps, matcher(&pattern)?));
        }
        Ok(Self(rules))
    }

    fn leaves_out(&self, name: &str) -> bool {
        let ends = name
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([name.len()]);
        let above: Vec<&str> = ends.map(|end| &name[..end]).collect();
        let last = self
            .0
            .iter()
            .rev()
            .find(|(_, matcher)| above.iter().any(|path| matcher.is_match(path)));
        last.is_some_and(|(keeps, _)| !keeps)
    }
}

fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    // Braces are only text here.
    let pattern = pattern.replace('{', "[{]").replace('}', "[}]");
    let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|error| error.to_string())
}

/// Writes the sources of a `COPY` into an archive, by their numbers; `root` is the root directory
/// on this machine.
pub fn write(root: &Path, sources: &[Selected], target: &Path) -> io::Result<()> {
    let mut builder = Builder::new(File::create(target)?);
    for (number, source) in sources.iter().enumerate() {
        let number = number.to_string();
        match (&source.path, &source.files) {
            (None, _) => {
                let text = source.text.as_bytes();
                let mut header = header(EntryType::Regular, 0o644);
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, number, text)?;
            }
            // A file that was named is followed where it is a link; links lead inside a source.
            (Some(path), None) => {
                let real = within(root, path)?.canonicalize()?;
                add(&mut builder, &real, Path::new(&number))?;
            }
            (Some(path), Some(files)) => {
                let directory = within(root, path)?;
                for file in files {
                    add(
                        &mut builder,
                        &directory.join(file),
                        &Path::new(&number).join(file),
                    )?;
                }
            }
        }
    }
    builder.finish()?;
    fs::set_permissions(target, fs::Permissions::from_mode(0o644))
}

/// A path of the source on this machine. A source's links all lead inside it, and here once more
/// nothing else is taken.
fn within(root: &Path, path: &str) -> io::Result<PathBuf> {
    let top = root.canonicalize()?;
    let found = top.join(path);
    if found.canonicalize()?.starts_with(&top) {
        return Ok(found);
    }
    Err(io::Error::other("a link leads out of the source"))
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header
}

fn add(builder: &mut Builder<File>, path: &Path, name: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        let mut header = header(EntryType::Symlink, 0o777);
        return builder.append_link(&mut header, name, fs::read_link(path)?);
    }
    let mode = mode(&metadata);
    let mut header = header(EntryType::Regular, mode);
    header.set_size(metadata.len());
    builder.append_data(&mut header, name, File::open(path)?)
}

/// Whether it is a program; the rest of a stored source's mode is the store's.
fn mode(metadata: &fs::Metadata) -> u32 {
    if metadata.permissions().mode() & 0o100 == 0 {
        0o644
    } else {
        0o755
    }
}

/// What the sources of a `COPY` hold, as a name.
pub fn hash(root: &Path, sources: &[Selected]) -> io::Result<String> {
    let mut hash = Hash::new();
    for source in sources {
        hash = hash
            .part(source.name.as_bytes())
            .part(source.text.as_bytes());
        let Some(path) = &source.path else {
            continue;
        };
        let directory = within(root, path)?;
        match &source.files {
            None => hash = hash_file(hash, &directory.canonicalize()?, "")?,
            Some(files) => {
                for file in files {
                    hash = hash_file(hash, &directory.join(file), file)?;
                }
            }
        }
    }
    Ok(hash.hex())
}

fn hash_file(hash: Hash, path: &Path, name: &str) -> io::Result<Hash> {
    let metadata = fs::symlink_metadata(path)?;
    let hash = hash.part(name.as_bytes());
    if metadata.is_symlink() {
        let to = fs::read_link(path)?;
        return Ok(hash.part(b"link").part(to.as_os_str().as_encoded_bytes()));
    }
    // A source has at most 200 MiB, and each of its files is read once.
    let bytes = fs::read(path)?;
    Ok(hash.part(&mode(&metadata).to_be_bytes()).part(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(ignore: &str, names: &[&str]) -> Context {
        let mut files: Vec<(&str, &str)> = names.iter().map(|name| (*name, "x")).collect();
        files.push((".dockerignore", ignore));
        Context::new(&FileTree::from_files(files), "Dockerfile").unwrap()
    }

    fn names(context: &Context, written: &str) -> Vec<(String, usize)> {
        let found = context.select(written).unwrap().into_iter();
        found
            .map(|s| (s.name, s.files.map_or(0, |files| files.len())))
            .collect()
    }

    #[test]
    fn files_directories_and_patterns_are_found() {
        let context = context("", &["a.py", "b.py", "src/c.py", "src/d/e.txt"]);
        assert_eq!(names(&context, "a.py"), [("a.py".into(), 0)]);
        assert_eq!(names(&context, "./src/"), [("src".into(), 2)]);
        assert_eq!(names(&context, "/src/d"), [("d".into(), 1)]);
        assert_eq!(names(&context, "."), [(String::new(), 5)]);
        assert_eq!(
            names(&context, "*.py"),
            [("a.py".into(), 0), ("b.py".into(), 0)]
        );
        assert_eq!(names(&context, "s*"), [("src".into(), 2)]);
        assert_eq!(
            context.select("gone*").unwrap_err(),
            Missing::Nowhere("gone*".into())
        );
    }

    #[test]
    fn nothing_outside_is_found() {
        let context = context("", &["etc/passwd", "a"]);
        for outside in ["../../etc/passwd", "a/../../x", ".."] {
            assert_eq!(
                context.select(outside).unwrap_err(),
                Missing::Outside(outside.into())
            );
        }
        // An absolute path is the context's own.
        assert_eq!(names(&context, "/etc/passwd"), [("passwd".into(), 0)]);
        assert!(context.select("/etc/shadow").is_err());
    }

    #[test]
    fn what_is_ignored_is_told_from_what_is_missing() {
        let ignore =
            "# secrets\n.env*\n**/node_modules\n*.md\n!README.md\ndocs\n!docs/keep.txt\n/build/\n";
        let files = [
            ".env",
            ".env.local",
            "web/node_modules/x/y.js",
            "README.md",
            "OTHER.md",
            "web/OTHER.md",
            "docs/a",
            "docs/keep.txt",
            "build/x",
            "a{b}.py",
        ];
        let context = context(ignore, &files);
        let kept: Vec<String> = context.names.iter().cloned().collect();
        assert_eq!(
            kept,
            [
                ".dockerignore",
                "README.md",
                "a{b}.py",
                "docs/keep.txt",
                "web/OTHER.md"
            ]
        );
        let ignored = |path: &str| Missing::Ignored(path.into(), ".dockerignore".into());
        assert_eq!(context.select(".env").unwrap_err(), ignored(".env"));
        assert_eq!(context.select("build").unwrap_err(), ignored("build"));
        assert_eq!(context.select(".env*").unwrap_err(), ignored(".env*"));
        assert_eq!(
            context.select("x").unwrap_err(),
            Missing::Nowhere("x".into())
        );
        assert_eq!(names(&context, "a{b}.py").len(), 1);
    }

    #[test]
    fn an_archive_holds_what_was_selected_and_its_hash_follows_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        fs::write(root.path().join("d/run"), "one").unwrap();
        fs::set_permissions(root.path().join("d/run"), fs::Permissions::from_mode(0o555)).unwrap();
        std::os::unix::fs::symlink("run", root.path().join("d/link")).unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("s"), "secret").unwrap();
        std::os::unix::fs::symlink(outside.path().join("s"), root.path().join("out")).unwrap();
        let tree = FileTree::open(root.path()).unwrap();
        let context = Context::new(&tree, "Dockerfile").unwrap();
        assert!(context.select("out").is_err());
        let mut sources = context.select("d").unwrap();
        sources.extend(context.select("d/link").unwrap());
        sources.push(Selected::text("EOF", "text\n".into()));
        let target = root.path().join("files.tar");
        write(root.path(), &sources, &target).unwrap();
        let mut archive = tar::Archive::new(File::open(&target).unwrap());
        let entries: Vec<(String, u32)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.path().unwrap().to_string_lossy().into_owned();
                (name, entry.header().mode().unwrap())
            })
            .collect();
        assert_eq!(
            entries,
            [
                ("0/link".into(), 0o777),
                ("0/run".into(), 0o755),
                ("1".into(), 0o755),
                ("2".into(), 0o644)
            ]
        );
        let before = hash(root.path(), &sources).unwrap();
        assert_eq!(hash(root.path(), &sources).unwrap(), before);
        fs::remove_file(root.path().join("d/run")).unwrap();
        fs::write(root.path().join("d/run"), "two").unwrap();
        assert_ne!(hash(root.path(), &sources).unwrap(), before);
    }

    #[test]
    fn a_link_that_leads_out_is_not_archived() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("p")).unwrap();
        let forged = Selected {
            name: "p".into(),
            path: Some("p".into()),
            files: None,
            text: String::new(),
        };
        let target = root.path().join("files.tar");
        assert!(write(root.path(), std::slice::from_ref(&forged), &target).is_err());
        assert!(hash(root.path(), &[forged]).is_err());
    }
}
