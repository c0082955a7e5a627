//! Packs a directory for upload. The same tree gives the same bytes wherever it is packed, so
//! that the hash names the content: times, owners and the order of the directory do not count.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use ignore::{DirEntry, WalkBuilder};
use tar::{Builder, EntryType, Header};

use super::exit::Failure;

/// Read beside `.gitignore`, at every level, with the same rules.
const IGNORE_FILE: &str = ".dockerignore";

/// More than this is surely a mistake, such as a home directory; the server's own limit on the
/// packed size is told by the server. Bytes before packing.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// A packed directory.
#[derive(Debug)]
pub struct Archive {
    /// The gzip-compressed tar archive, to be read from its beginning; gone when closed.
    pub file: File,
    /// How many files are in it.
    pub files: u64,
    /// Its size, bytes.
    pub size: u64,
}

/// Packs what is in `directory`, except `.git` and what its ignore files leave out. Links are
/// packed as links and never followed.
pub fn pack(directory: &Path) -> anyhow::Result<Archive> {
    if !directory.is_dir() {
        bail!(Failure::Usage(format!(
            "{} is no directory; name one, or a repository with --git",
            directory.display()
        )));
    }
    let file = tempfile::tempfile().context("cannot make a temporary file")?;
    // Level and header carry no time: flate2 writes none unless told to.
    let gzip = GzEncoder::new(BufWriter::new(file), Compression::default());
    let mut packer = Packer {
        tar: Builder::new(gzip),
        files: 0,
        bytes: 0,
    };
    for entry in walk(directory) {
        let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
        packer
            .add(directory, &entry)
            .with_context(|| format!("cannot pack {}", entry.path().display()))?;
    }
    packer.finish(directory)
}

fn walk(directory: &Path) -> ignore::Walk {
    WalkBuilder::new(directory)
        .hidden(false)
        .parents(false)
        .git_global(false)
        .git_exclude(true)
        .git_ignore(true)
        .require_git(false)
        .ignore(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .follow_links(false)
        .sort_by_file_name(Ord::cmp)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build()
}

struct Packer<W: Write> {
    tar: Builder<W>,
    files: u64,
    bytes: u64,
}

impl<W: Write> Packer<W> {
    fn add(&mut self, root: &Path, entry: &DirEntry) -> anyhow::Result<()> {
        let name = entry
            .path()
            .strip_prefix(root)
            .context("the walk left its directory")?;
        let Some(kind) = entry.file_type().filter(|_| !name.as_os_str().is_empty()) else {
            return Ok(());
        };
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        header.set_size(0);
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            self.tar
                .append_link(&mut header, name, fs::read_link(entry.path())?)?;
        } else if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            self.tar.append_data(&mut header, name, io::empty())?;
        } else if kind.is_file() {
            self.add_file(header, name, entry.path())?;
        } else {
            // Sockets, pipes and devices are no source code.
            tracing::warn!(path = %name.display(), "left out: neither file, directory nor link");
        }
        Ok(())
    }

    fn add_file(&mut self, mut header: Header, name: &Path, path: &Path) -> anyhow::Result<()> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        self.files += 1;
        self.bytes += metadata.len();
        ensure!(
            self.bytes <= MAX_BYTES,
            "the directory holds more than {} MiB; name what is not source code in {IGNORE_FILE}",
            MAX_BYTES / 1024 / 1024
        );
        let executable = metadata.permissions().mode() & 0o100 != 0;
        header.set_mode(if executable { 0o755 } else { 0o644 });
        header.set_size(metadata.len());
        // A file that grows while it is read must not spoil the archive; one that shrinks fails.
        self.tar
            .append_data(&mut header, name, io::Read::take(file, metadata.len()))?;
        Ok(())
    }
}

impl Packer<GzEncoder<BufWriter<File>>> {
    fn finish(self, directory: &Path) -> anyhow::Result<Archive> {
        ensure!(
            self.files > 0,
            "{} holds no files to deploy, or its ignore files leave all of them out",
            directory.display()
        );
        let writer = self.tar.into_inner()?.finish()?;
        let mut file = writer.into_inner().context("cannot write the archive")?;
        let size = file.stream_position()?;
        file.rewind()?;
        Ok(Archive {
            file,
            files: self.files,
            size,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(archive: &mut Archive) -> Vec<String> {
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(&mut archive.file));
        tar.entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect()
    }

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        for directory in [".git", "src", "data"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        write(".git/config", "");
        write(".gitignore", "*.pyc\n.env\n");
        write(".dockerignore", "data\n");
        write(".env", "SECRET=1");
        write("data/large", "");
        write("src/main.py", "print()");
        write("src/main.pyc", "");
        symlink("/etc/passwd", root.path().join("link")).unwrap();
        root
    }

    #[test]
    fn ignored_files_stay_and_links_are_not_followed() {
        let root = tree();
        let mut archive = pack(root.path()).unwrap();
        let expected = [".dockerignore", ".gitignore", "link", "src", "src/main.py"];
        assert_eq!(names(&mut archive), expected);
        assert_eq!(archive.files, 3);
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let bytes = |root: &Path| {
            let mut bytes = Vec::new();
            pack(root).unwrap().file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let (one, two) = (tree(), tree());
        let old = std::time::SystemTime::UNIX_EPOCH;
        File::open(two.path().join("src/main.py"))
            .unwrap()
            .set_modified(old)
            .unwrap();
        assert_eq!(bytes(one.path()), bytes(two.path()));
    }

    #[test]
    fn an_empty_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let error = pack(root.path()).unwrap_err().to_string();
        assert!(error.contains("holds no files to deploy"), "{error}");
    }
}
