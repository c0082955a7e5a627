//! The files that a Dockerfile can copy: the project's root directory without what `.dockerignore`
//! leaves out. They reach a container as an archive that the runner makes, so that nothing else of
//! the source is in reach there, and nothing of the host.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use tar::{Builder, EntryType, Header};

use super::super::tree::{
    FileTree, MAX_IGNORE_BYTES, MAX_IGNORE_RULES, directory_of, join, upwards,
};
use crate::build::halt::Halt;
use crate::hash::Hash;

/// What a file or link takes in an archive beside its bytes, at the least: a header, and the rest of
/// its last block.
const ENTRY_BYTES: u64 = 1024;
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

    /// What it takes in memory until it is copied, about.
    pub fn weight(&self) -> usize {
        let files = self.files.iter().flatten();
        let names = files.map(|name| name.len() + size_of::<String>());
        let path = self.path.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.name.len() + path + self.text.len() + names.sum::<usize>()
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
    pub fn new(view: &FileTree, dockerfile: &str, halt: &Halt) -> Result<Self, Refusal> {
        let own = format!("{dockerfile}.dockerignore");
        let ignore_file = [own.as_str(), ".dockerignore"]
            .into_iter()
            .find(|file| view.has(file));
        let rules = match ignore_file {
            Some(file) => Rules::read(view, file)?,
            None => Rules::default(),
        };
        let mut found = Self {
            names: BTreeSet::new(),
            ignored: BTreeSet::new(),
            ignore_file: ignore_file.map(str::to_owned),
        };
        let mut known = HashMap::new();
        for name in view.names() {
            if halt.is_set() {
                return Err(("the build has ended".to_owned(), "Deploy again."));
            }
            let names = if rules.leave_out(name, &mut known) {
                &mut found.ignored
            } else {
                &mut found.names
            };
            names.insert(name.to_owned());
        }
        Ok(found)
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

/// Why `.dockerignore` cannot be heeded, as a sentence's end, and what to do.
type Refusal = (String, &'static str);

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
#[derive(Default)]
struct Rules {
    /// Whether what a rule matches stays.
    keeps: Vec<bool>,
    patterns: GlobSet,
}

impl Rules {
    fn read(view: &FileTree, file: &str) -> Result<Self, Refusal> {
        const CORRECT: &str = "Correct the pattern that it names.";
        const SHORTEN: &str =
            "Name directories instead of what is in them, for example `data` or `**/*.csv`.";
        if view.size(file).is_some_and(|size| size > MAX_IGNORE_BYTES) {
            let why = format!("it has more than {} KiB", MAX_IGNORE_BYTES / 1024);
            return Err((why, SHORTEN));
        }
        let text = view.text(file).unwrap_or_default();
        let mut keeps = Vec::new();
        let mut patterns = GlobSetBuilder::new();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (kept, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            let Some(pattern) = join("", pattern.trim_start_matches('/')) else {
                continue;
            };
            if pattern.is_empty() {
                continue;
            }
            if keeps.len() == MAX_IGNORE_RULES {
                let why = format!("it has more than {MAX_IGNORE_RULES} rules");
                return Err((why, SHORTEN));
            }
            keeps.push(kept);
            patterns.add(glob(&pattern).map_err(|error| (error, CORRECT))?);
        }
        let patterns = patterns.build();
        let patterns = patterns.map_err(|error| (error.to_string(), CORRECT))?;
        Ok(Self { keeps, patterns })
    }

    /// Whether they leave out a name. `known` holds what decides of directories: they are the same
    /// for many names.
    fn leave_out<'a>(&self, name: &'a str, known: &mut HashMap<&'a str, Option<usize>>) -> bool {
        let mut decides = None;
        let mut unknown = Vec::new();
        for directory in upwards(directory_of(name)).take_while(|above| !above.is_empty()) {
            if let Some(found) = known.get(directory) {
                decides = *found;
                break;
            }
            unknown.push(directory);
        }
        for directory in unknown.into_iter().rev() {
            decides = decides.max(self.last(directory));
            known.insert(directory, decides);
        }
        let decides = decides.max(self.last(name));
        decides.is_some_and(|rule| !self.keeps[rule])
    }

    /// The last rule that matches a path.
    fn last(&self, path: &str) -> Option<usize> {
        self.patterns.matches(path).into_iter().max()
    }
}

fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    glob(pattern).map(|glob| glob.compile_matcher())
}

fn glob(pattern: &str) -> Result<Glob, String> {
    // Braces are only text here.
    let pattern = pattern.replace('{', "[{]").replace('}', "[}]");
    let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
    glob.map_err(|error| error.to_string())
}

/// Writes the sources of a `COPY` into an archive, by their numbers; `root` is the root directory
/// on this machine.
pub fn write(root: &Path, sources: &[Selected], target: &Path, halt: &Halt) -> io::Result<()> {
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
                add(&mut builder, &real, Path::new(&number), halt)?;
            }
            (Some(path), Some(files)) => {
                let directory = within(root, path)?;
                for file in files {
                    let name = Path::new(&number).join(file);
                    add(&mut builder, &directory.join(file), &name, halt)?;
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

fn add(builder: &mut Builder<File>, path: &Path, name: &Path, halt: &Halt) -> io::Result<()> {
    halt.check()?;
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        let mut header = header(EntryType::Symlink, 0o777);
        return builder.append_link(&mut header, name, fs::read_link(path)?);
    }
    let mode = mode(&metadata);
    let mut header = header(EntryType::Regular, mode);
    header.set_size(metadata.len());
    let file = Halting(File::open(path)?, halt);
    builder.append_data(&mut header, name, file)
}

/// A file whose reading stops with the build.
struct Halting<'a>(File, &'a Halt);

impl Read for Halting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.check()?;
        self.0.read(buffer)
    }
}

/// Whether it is a program; the rest of a stored source's mode is the store's.
fn mode(metadata: &fs::Metadata) -> u32 {
    if metadata.permissions().mode() & 0o100 == 0 {
        0o644
    } else {
        0o755
    }
}

/// How large the archive of sources would be, about, in bytes: a source's files may be named by many
/// paths and links, each of which is a copy there.
pub fn size(root: &Path, sources: &[Selected], halt: &Halt) -> io::Result<u64> {
    let mut total = 0;
    for source in sources {
        halt.check()?;
        let Some(path) = &source.path else {
            total += source.text.len() as u64 + ENTRY_BYTES;
            continue;
        };
        let at = within(root, path)?;
        match &source.files {
            // It is followed where it is a link.
            None => total += fs::metadata(at)?.len() + ENTRY_BYTES,
            Some(files) => {
                for file in files {
                    total += fs::symlink_metadata(at.join(file))?.len() + ENTRY_BYTES;
                }
            }
        }
    }
    Ok(total)
}

/// What the sources of a `COPY` hold, as a name.
pub fn hash(root: &Path, sources: &[Selected], halt: &Halt) -> io::Result<String> {
    let mut hash = Hash::new();
    for source in sources {
        halt.check()?;
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
                    halt.check()?;
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
        planned(files).unwrap()
    }

    fn planned(files: Vec<(&str, &str)>) -> Result<Context, Refusal> {
        Context::new(&FileTree::from_files(files), "Dockerfile", &Halt::default())
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
        let halt = Halt::default();
        let context = Context::new(&tree, "Dockerfile", &halt).unwrap();
        assert!(context.select("out").is_err());
        let mut sources = context.select("d").unwrap();
        sources.extend(context.select("d/link").unwrap());
        sources.push(Selected::text("EOF", "text\n".into()));
        let target = root.path().join("files.tar");
        write(root.path(), &sources, &target, &halt).unwrap();
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
        let hash = || hash(root.path(), &sources, &halt).unwrap();
        let before = hash();
        assert_eq!(hash(), before);
        fs::remove_file(root.path().join("d/run")).unwrap();
        fs::write(root.path().join("d/run"), "two").unwrap();
        assert_ne!(hash(), before);
    }

    #[test]
    fn an_ignore_file_has_bounds() {
        let most = "x\n".repeat(MAX_IGNORE_RULES);
        assert!(planned(vec![(".dockerignore", &most)]).is_ok());
        let (why, fix) = planned(vec![(".dockerignore", &format!("{most}!y\n"))])
            .err()
            .unwrap();
        assert_eq!(why, "it has more than 1000 rules");
        assert!(fix.contains("Name directories"), "{fix}");
        let long = format!("# {}\n", "x".repeat(64 * 1024));
        let (why, _) = planned(vec![("Dockerfile.dockerignore", &long)])
            .err()
            .unwrap();
        assert_eq!(why, "it has more than 64 KiB");
    }

    #[test]
    fn the_last_rule_decides_also_of_what_is_deeper() {
        let ignore = "a\n!a/b\na/b/c/*.txt\n!a/b/c/keep.txt\n";
        let files = ["a/x", "a/b/y", "a/b/c/z", "a/b/c/z.txt", "a/b/c/keep.txt"];
        let context = context(ignore, &files);
        let kept: Vec<&str> = context.names.iter().map(String::as_str).collect();
        assert_eq!(
            kept,
            [".dockerignore", "a/b/c/keep.txt", "a/b/c/z", "a/b/y"]
        );
    }

    #[test]
    fn links_to_one_file_count_as_often_as_they_are_copied() {
        const LARGE: u64 = 1 << 20;
        let root = tempfile::tempdir().unwrap();
        let large = File::create(root.path().join("large")).unwrap();
        large.set_len(LARGE).unwrap();
        fs::create_dir(root.path().join("links")).unwrap();
        for number in 0..3 {
            let link = root.path().join(format!("links/{number}"));
            std::os::unix::fs::symlink("../large", link).unwrap();
        }
        let tree = FileTree::open(root.path()).unwrap();
        let halt = Halt::default();
        let context = Context::new(&tree, "Dockerfile", &halt).unwrap();
        let size = |written| {
            let sources = context.select(written).unwrap();
            size(root.path(), &sources, &halt).unwrap()
        };
        assert_eq!(size("links/*"), 3 * (LARGE + ENTRY_BYTES));
        assert!(size("links") < 4 * ENTRY_BYTES, "they stay links there");
    }

    #[test]
    fn a_build_that_has_ended_reads_and_writes_no_more() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "x").unwrap();
        let tree = FileTree::open(root.path()).unwrap();
        let halt = Halt::default();
        let context = Context::new(&tree, "Dockerfile", &halt).unwrap();
        let sources = context.select(".").unwrap();
        halt.set();
        assert!(Context::new(&tree, "Dockerfile", &halt).is_err());
        assert!(size(root.path(), &sources, &halt).is_err());
        assert!(hash(root.path(), &sources, &halt).is_err());
        let target = root.path().join("files.tar");
        assert!(write(root.path(), &sources, &target, &halt).is_err());
        // Also in the middle of a file.
        let file = File::open(root.path().join("a")).unwrap();
        assert!(Halting(file, &halt).read(&mut [0; 8]).is_err());
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
        let (forged, halt) = ([forged], Halt::default());
        assert!(write(root.path(), &forged, &target, &halt).is_err());
        assert!(hash(root.path(), &forged, &halt).is_err());
        assert!(size(root.path(), &forged, &halt).is_err());
    }
}
