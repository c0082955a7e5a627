//! The one form every source takes on its way in: a tar archive, written from a commit's tree or
//! sent by `berth deploy`, and the strict extractor that turns it into a directory.
//!
//! The extractor writes into a directory nobody else writes to. Files and directories come
//! first, each created new; symbolic links are only checked while reading and created last, so
//! no write can follow one. Everything an archive says is checked before it has an effect.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use tar::EntryType;

use super::names::{MAX_PATH_BYTES, checked_name, printable};

/// Most files, directories and links together: far above any honest server's repository, and
/// little enough that a listing stays cheap.
pub const MAX_NODES: usize = 20_000;
/// Most bytes of all files together.
pub const MAX_TREE_BYTES: u64 = 200 * 1024 * 1024;
/// Most bytes of an archive once decompressed: the files, and for every node a header, padding
/// and the blocks of a long name.
pub const MAX_ARCHIVE_BYTES: u64 = MAX_TREE_BYTES + (MAX_NODES as u64) * 6 * 512;
/// Most bytes of an extended header (long names, pax records), which is held in memory.
const MAX_EXTENSION_BYTES: u64 = 64 * 1024;
/// Most symbolic links one name may lead through, as in Linux' `MAXSYMLINKS`.
const MAX_LINK_HOPS: usize = 40;

/// Why an archive is refused. Names are as the archive gave them, made printable.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A name that must not exist in a source.
    #[error("{name}: {reason}")]
    Name {
        /// The offending name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A symbolic link that leaves the tree or never ends.
    #[error("{link} -> {target}: {reason}")]
    Link {
        /// The link.
        link: String,
        /// What it points to.
        target: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Neither file, directory nor symbolic link.
    #[error("{name} is {kind}")]
    Kind {
        /// The entry.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// The same name twice.
    #[error("{0} is listed twice")]
    Twice(String),
    /// More nodes than [`MAX_NODES`].
    #[error("more than {MAX_NODES} files")]
    TooMany,
    /// More bytes than [`MAX_TREE_BYTES`] or [`MAX_ARCHIVE_BYTES`].
    #[error("more than {} MiB", MAX_TREE_BYTES / 1024 / 1024)]
    TooLarge,
    /// Not readable as an archive.
    #[error("{0}")]
    Corrupt(String),
    /// The runner's own disk.
    #[error("cannot write the source: {0}")]
    Disk(#[source] io::Error),
}

/// What came out of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// Files and symbolic links.
    pub files: u64,
    /// Bytes in files.
    pub bytes: u64,
}

/// Writes the intermediate archive from a commit's tree.
pub struct Writer<W: Write> {
    tar: tar::Builder<W>,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self {
            tar: tar::Builder::new(out),
        }
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, executable: bool, contents: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(if executable { 0o755 } else { 0o644 });
        header.set_size(contents.len() as u64);
        header.set_mtime(0);
        append(&mut self.tar, &mut header, path, contents)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        header.set_mtime(0);
        extension(&mut self.tar, EntryType::GNULongLink, target)?;
        append(&mut self.tar, &mut header, path, &[])
    }

    /// Ends the archive and gives back what it was written to.
    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()
    }
}

/// Appends an entry whose name always travels as an extension: the crate's own way would
/// normalize or refuse names that the extractor is to judge.
fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    header: &mut tar::Header,
    path: &str,
    contents: &[u8],
) -> io::Result<()> {
    extension(tar, EntryType::GNULongName, path)?;
    header.set_cksum();
    tar.append(header, contents)
}

fn extension<W: Write>(tar: &mut tar::Builder<W>, kind: EntryType, text: &str) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(text.len() as u64 + 1);
    header.set_cksum();
    tar.append(&header, text.as_bytes().chain(&b"\0"[..]))
}

/// Extracts `archive` (plain tar) into `into`, an empty directory that only this process writes.
pub fn extract(archive: impl Read, into: &Path) -> Result<Totals, Refusal> {
    let over = Cell::new(false);
    let bounded = Bounded {
        inner: archive,
        left: MAX_ARCHIVE_BYTES,
        over: &over,
    };
    let result = extract_bounded(bounded, into);
    // Readers in between wrap the error, so the limit is told by its own mark.
    if over.get() {
        Err(Refusal::TooLarge)
    } else {
        result
    }
}

fn extract_bounded(archive: impl Read, into: &Path) -> Result<Totals, Refusal> {
    let mut tar = tar::Archive::new(archive);
    let mut extraction = Extraction {
        root: into,
        nodes: BTreeMap::new(),
        totals: Totals::default(),
    };
    let mut pending = Pending::default();
    let mut any = false;
    for entry in tar.entries().map_err(|error| corrupt(&error))?.raw(true) {
        let mut entry = entry.map_err(|error| corrupt(&error))?;
        any = true;
        if pending.take_extension(&mut entry)? {
            continue;
        }
        let names = std::mem::take(&mut pending);
        extraction.take(&mut entry, names)?;
    }
    if !any {
        return Err(Refusal::Corrupt("it is empty".to_owned()));
    }
    extraction.finish()
}

/// Long names that announce the next entry.
#[derive(Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Pending {
    /// Reads `entry` if it is an extension of the next one. The size is checked before the
    /// contents are held.
    fn take_extension<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<bool, Refusal> {
        let kind = entry.header().entry_type();
        if !matches!(
            kind,
            EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader
        ) {
            return Ok(false);
        }
        if entry.size() > MAX_EXTENSION_BYTES {
            return Err(Refusal::Corrupt("a header in it is too long".to_owned()));
        }
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .map_err(|error| corrupt(&error))?;
        match kind {
            EntryType::GNULongName => self.path = Some(without_nul(bytes)),
            EntryType::GNULongLink => self.link = Some(without_nul(bytes)),
            EntryType::XHeader => self.take_pax(&bytes)?,
            _ => {} // A global header holds comments, for example the commit `git archive` adds.
        }
        Ok(true)
    }

    fn take_pax(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        for record in tar::PaxExtensions::new(bytes) {
            let record = record.map_err(|error| corrupt(&error))?;
            match record.key_bytes() {
                b"path" => self.path = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                // A size that overrides the header's shifts where the next header is read.
                b"size" => return Err(Refusal::Corrupt("it holds a pax size".to_owned())),
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(Refusal::Corrupt("it holds a sparse file".to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn without_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    // One terminator belongs to the format; any other NUL is part of the name and is refused.
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

enum Node {
    Directory,
    File,
    Link(String),
}

struct Extraction<'a> {
    root: &'a Path,
    nodes: BTreeMap<String, Node>,
    totals: Totals,
}

impl Extraction<'_> {
    fn take<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        names: Pending,
    ) -> Result<(), Refusal> {
        let raw = names
            .path
            .unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let name = checked_name(&raw)?;
        let kind = entry.header().entry_type();
        if name.is_empty() {
            // `./`, the root itself.
            return if kind.is_dir() {
                Ok(())
            } else {
                Err(Refusal::Twice("the root".to_owned()))
            };
        }
        match kind {
            EntryType::Directory => self.directory(&name),
            EntryType::Regular | EntryType::Continuous => self.file(&name, entry),
            EntryType::Symlink => {
                let target = names
                    .link
                    .or_else(|| {
                        entry
                            .header()
                            .link_name_bytes()
                            .map(std::borrow::Cow::into_owned)
                    })
                    .unwrap_or_default();
                self.link(&name, &target)
            }
            other => Err(Refusal::Kind {
                name: printable(name.as_bytes()),
                kind: kind_name(other),
            }),
        }
    }

    /// Counts a node before it exists.
    fn claim(&mut self, name: &str, node: Node) -> Result<(), Refusal> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Refusal::TooMany);
        }
        if self.nodes.contains_key(name) {
            return Err(Refusal::Twice(printable(name.as_bytes())));
        }
        self.nodes.insert(name.to_owned(), node);
        Ok(())
    }

    fn directory(&mut self, name: &str) -> Result<(), Refusal> {
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.parents(parent)?;
        }
        self.one_directory(name)
    }

    /// Makes sure that `name` and all above it are directories, and no links.
    fn parents(&mut self, name: &str) -> Result<(), Refusal> {
        for (end, _) in name.match_indices('/') {
            self.one_directory(&name[..end])?;
        }
        self.one_directory(name)
    }

    fn one_directory(&mut self, name: &str) -> Result<(), Refusal> {
        match self.nodes.get(name) {
            Some(Node::Directory) => return Ok(()),
            Some(_) => return Err(Refusal::Twice(printable(name.as_bytes()))),
            None => {}
        }
        self.claim(name, Node::Directory)?;
        let path = self.root.join(name);
        fs::create_dir(&path).map_err(Refusal::Disk)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Refusal::Disk)
    }

    fn file<R: Read>(&mut self, name: &str, entry: &mut tar::Entry<'_, R>) -> Result<(), Refusal> {
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.parents(parent)?;
        }
        let size = entry.size();
        if size > MAX_TREE_BYTES - self.totals.bytes {
            return Err(Refusal::TooLarge);
        }
        self.claim(name, Node::File)?;
        let executable = entry.header().mode().map_err(|error| corrupt(&error))? & 0o111 != 0;
        let path = self.root.join(name);
        // `create_new` is O_CREAT|O_EXCL, which never follows a link at the last component.
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Refusal::Disk)?;
        let copied = copy(entry, &mut out)?;
        if copied != size {
            return Err(Refusal::Corrupt(format!(
                "it ends within {}",
                printable(name.as_bytes())
            )));
        }
        let mode = if executable { 0o755 } else { 0o644 };
        out.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(Refusal::Disk)?;
        self.totals.files += 1;
        self.totals.bytes += size;
        Ok(())
    }

    fn link(&mut self, name: &str, target: &[u8]) -> Result<(), Refusal> {
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.parents(parent)?;
        }
        let refuse = |reason| Refusal::Link {
            link: printable(name.as_bytes()),
            target: printable(target),
            reason,
        };
        if target.is_empty() || target.len() > MAX_PATH_BYTES || target.contains(&0) {
            return Err(refuse("its target is not a path"));
        }
        if target[0] == b'/' {
            return Err(refuse("its target is absolute"));
        }
        let Ok(text) = std::str::from_utf8(target) else {
            return Err(refuse("its target is not UTF-8"));
        };
        let text = text.to_owned();
        self.claim(name, Node::Link(text))
    }

    /// Checks every link against the whole tree, then creates them.
    fn finish(mut self) -> Result<Totals, Refusal> {
        for (name, node) in &self.nodes {
            let Node::Link(target) = node else { continue };
            if let Err(reason) = stays_inside(&self.nodes, name) {
                return Err(Refusal::Link {
                    link: printable(name.as_bytes()),
                    target: printable(target.as_bytes()),
                    reason,
                });
            }
        }
        for (name, node) in &self.nodes {
            if let Node::Link(target) = node {
                symlink(target, self.root.join(name)).map_err(Refusal::Disk)?;
                self.totals.files += 1;
            }
        }
        Ok(self.totals)
    }
}

/// Follows `link` through the tree as the kernel would, and says why it must not be followed.
/// A link to a name that is not there is harmless and stays.
fn stays_inside(nodes: &BTreeMap<String, Node>, link: &str) -> Result<(), &'static str> {
    let mut here: Vec<String> = Vec::new();
    let mut ahead: Vec<String> = reversed(link);
    let mut hops = 0;
    while let Some(component) = ahead.pop() {
        match component.as_str() {
            "" | "." => {}
            ".." => {
                if here.pop().is_none() {
                    return Err("it leads out of the source");
                }
            }
            _ => {
                here.push(component);
                if let Some(Node::Link(target)) = nodes.get(&here.join("/")) {
                    hops += 1;
                    if hops > MAX_LINK_HOPS {
                        return Err("it leads in a circle");
                    }
                    here.pop();
                    ahead.extend(reversed(target));
                }
            }
        }
    }
    Ok(())
}

fn reversed(path: &str) -> Vec<String> {
    path.split('/').rev().map(str::to_owned).collect()
}

fn kind_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a named pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "of a kind that is not known",
    }
}

/// Reads within [`MAX_ARCHIVE_BYTES`] and fails beyond, however small the compressed form was.
struct Bounded<'a, R> {
    inner: R,
    left: u64,
    over: &'a Cell<bool>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(left) = self.left.checked_sub(count as u64) {
            self.left = left;
            return Ok(count);
        }
        self.over.set(true);
        Err(io::Error::other("the archive is too large"))
    }
}

fn corrupt(error: &io::Error) -> Refusal {
    Refusal::Corrupt(error.to_string())
}

/// Copies, and keeps apart whether reading (the archive) or writing (the disk) failed.
fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<u64, Refusal> {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(corrupt(&error)),
        };
        to.write_all(&buffer[..count]).map_err(Refusal::Disk)?;
        total += count as u64;
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
