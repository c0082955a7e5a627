//! Files that the runner brought, in a tar archive, into the image.
//!
//! The archive holds the sources of a `COPY` by their numbers: `0` for a file, `1/…` for what a
//! directory holds. Names in it are the runner's, but a repository's all the same: none leads out
//! of where it is put, and what already stands there as a link is followed only where it is the
//! destination that was written.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown, symlink,
};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use tar::{Archive, Entry, EntryType};

use super::{Failure, about, users, within};

/// One source.
#[derive(Debug, Clone, Deserialize)]
pub struct Source {
    /// What it is called in the archive.
    pub number: usize,
    /// What it is called where it comes from, without its directory.
    pub name: String,
    /// Whether it is a directory, whose content is copied.
    pub is_directory: bool,
}

/// What is copied where.
#[derive(Debug, Deserialize)]
pub struct Copy {
    sources: Vec<Source>,
    /// Absolute; with a slash at its end it is a directory, whatever is there.
    to: String,
    /// Whose the files are to be; root's unless said.
    #[serde(default)]
    owner: Option<String>,
    /// Their mode; that of the source unless said.
    #[serde(default)]
    mode: Option<u32>,
}

/// Whose files are to be, and their mode.
#[derive(Debug, Clone, Copy, Default)]
pub struct Owner {
    /// User and group.
    pub ids: Option<(u32, u32)>,
    /// Mode of files and directories alike.
    pub mode: Option<u32>,
}

impl Copy {
    /// Copies.
    pub fn work(self, root: &Path, files: &Path) -> Result<(), Failure> {
        let found = self.owner.as_deref().map(|owner| users::find(root, owner));
        let owner = Owner {
            ids: found.transpose()?.map(|user| (user.uid, user.gid)),
            mode: self.mode,
        };
        let to = within(root, &self.to);
        let is_directory = self.to.ends_with('/') || self.sources.len() > 1 || to.is_dir();
        for source in &self.sources {
            let target = if source.is_directory || !is_directory {
                to.clone()
            } else {
                to.join(&source.name)
            };
            extract(files, source, &target, owner)?;
        }
        Ok(())
    }
}

/// Puts one source of the archive at `target`.
pub fn extract(files: &Path, source: &Source, target: &Path, owner: Owner) -> Result<(), Failure> {
    make_directories(if source.is_directory {
        target
    } else {
        target.parent().unwrap_or(target)
    })?;
    let mut archive = Archive::new(File::open(files).map_err(about(files))?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(rest) = path
            .strip_prefix(source.number.to_string())
            .ok()
            .map(Path::to_owned)
        else {
            continue;
        };
        let at = place(target, &rest, owner)?;
        put(&mut entry, &at, owner).map_err(about(&at))?;
    }
    Ok(())
}

/// Where an entry goes: below `target`, in directories that are made on the way.
fn place(target: &Path, rest: &Path, owner: Owner) -> Result<PathBuf, Failure> {
    let mut at = target.to_owned();
    let mut parts = rest.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else {
            return Err(Failure::new("step_failed", "a name leads elsewhere"));
        };
        at.push(name);
        // A link to a directory is followed, as the image's own programs would be led; whatever
        // else stands in the way of a directory goes.
        if parts.peek().is_some() && !at.is_dir() {
            remove(&at).map_err(about(&at))?;
            make_directories(&at)?;
            own(&at, owner).map_err(about(&at))?;
        }
    }
    Ok(at)
}

fn put(entry: &mut Entry<'_, File>, at: &Path, owner: Owner) -> io::Result<()> {
    let mode = owner.mode.unwrap_or(entry.header().mode()? & 0o777);
    match entry.header().entry_type() {
        EntryType::Directory if at.is_dir() => {}
        EntryType::Directory => {
            remove(at)?;
            DirBuilder::new().recursive(true).mode(0o755).create(at)?;
            // Whoever may read a directory's files can reach them.
            set_mode(at, mode | (mode & 0o444) >> 2)?;
            own(at, owner)?;
        }
        EntryType::Symlink => {
            remove(at)?;
            let to = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
            symlink(to, at)?;
            own(at, owner)?;
        }
        EntryType::Regular => {
            remove(at)?;
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(at)?;
            io::copy(entry, &mut file)?;
            set_mode(at, mode)?;
            own(at, owner)?;
        }
        _ => {}
    }
    Ok(())
}

/// Makes room: what is no directory goes, a directory that is in the way of a file stays and makes
/// the copy fail.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Err(io::Error::other("there is a directory in its place")),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

fn make_directories(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(about(path))
}

/// Sets a mode, whatever the mask says.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn own(path: &Path, owner: Owner) -> io::Result<()> {
    match owner.ids {
        None => Ok(()),
        Some((uid, gid)) => lchown(path, Some(uid), Some(gid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header
    }

    fn files(directory: &Path, entries: &[(&str, &str)]) -> PathBuf {
        let path = directory.join("files.tar");
        let mut builder = Builder::new(File::create(&path).unwrap());
        for (name, text) in entries {
            if let Some(link) = text.strip_prefix("-> ") {
                builder
                    .append_link(&mut header(EntryType::Symlink, 0), name, link)
                    .unwrap();
            } else {
                let size = text.len() as u64;
                let mut header = header(EntryType::Regular, size);
                builder
                    .append_data(&mut header, name, text.as_bytes())
                    .unwrap();
            }
        }
        builder.finish().unwrap();
        path
    }

    fn source(number: usize, name: &str, is_directory: bool) -> Source {
        Source {
            number,
            name: name.to_owned(),
            is_directory,
        }
    }

    fn copy(root: &Path, files: &Path, sources: Vec<Source>, to: &str) -> Result<(), Failure> {
        let to = to.to_owned();
        Copy {
            sources,
            to,
            owner: None,
            mode: None,
        }
        .work(root, files)
    }

    #[test]
    fn a_file_goes_to_a_name_or_into_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path(), &[("0", "one")]);
        let one = || vec![source(0, "a.txt", false)];
        copy(root.path(), &files, one(), "/new/name").unwrap();
        copy(root.path(), &files, one(), "/dir/").unwrap();
        copy(root.path(), &files, one(), "/dir").unwrap();
        for path in ["new/name", "dir/a.txt"] {
            assert_eq!(fs::read_to_string(root.path().join(path)).unwrap(), "one");
        }
    }

    #[test]
    fn a_directory_is_copied_over_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("app")).unwrap();
        symlink("/etc/passwd", root.path().join("app/link")).unwrap();
        let entries = [("0/link", "mine"), ("0/b/c", "deep"), ("0/to", "-> b/c")];
        let files = files(root.path(), &entries);
        copy(root.path(), &files, vec![source(0, "src", true)], "/app").unwrap();
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(
            (read("app/link"), read("app/b/c")),
            ("mine".into(), "deep".into())
        );
        assert_eq!(read("app/to"), "deep");
        assert!(!root.path().join("app/link").is_symlink());
    }

    #[test]
    fn a_name_does_not_lead_out() {
        let root = tempfile::tempdir().unwrap();
        assert!(place(root.path(), Path::new("../x"), Owner::default()).is_err());
        assert!(place(root.path(), Path::new("/etc/x"), Owner::default()).is_err());
        assert!(place(root.path(), Path::new("a/../../x"), Owner::default()).is_err());
    }
}
