//! `COPY --from`, its first half: files of another stage's image into an archive, as
//! [`super::archive`] reads it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::{Failure, about, within};

/// Signs that make a path a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// What is taken.
#[derive(Debug, Deserialize)]
pub struct Pack {
    /// Absolute paths in the image, with wildcards.
    paths: Vec<String>,
    /// Most bytes.
    most_bytes: u64,
}

/// An archive at work.
struct Work {
    builder: Builder<File>,
    left: u64,
}

impl Pack {
    /// Writes `files.tar` and `sources.json`.
    pub fn work(self, root: &Path, out: &Path) -> Result<(), Failure> {
        let target = out.join("files.tar");
        let mut builder = Builder::new(File::create(&target).map_err(about(&target))?);
        builder.follow_symlinks(false);
        let mut work = Work {
            builder,
            left: self.most_bytes,
        };
        let mut sources: Vec<Value> = Vec::new();
        for path in &self.paths {
            for found in find(root, path)? {
                // The path that was written is followed; what lies below it is taken as it is.
                let metadata = fs::metadata(&found).map_err(about(&found))?;
                let number = sources.len();
                if metadata.is_dir() {
                    work.directory(&found, &PathBuf::from(number.to_string()))?;
                } else {
                    let real = found.canonicalize().map_err(about(&found))?;
                    work.add(&real, &PathBuf::from(number.to_string()))?;
                }
                let name = found.file_name().unwrap_or_default().to_string_lossy();
                sources.push(
                    json!({"number": number, "name": name, "is_directory": metadata.is_dir()}),
                );
            }
        }
        work.builder.finish()?;
        let list = out.join("sources.json");
        fs::write(&list, Value::from(sources).to_string()).map_err(about(&list))
    }
}

impl Work {
    fn directory(&mut self, path: &Path, name: &Path) -> Result<(), Failure> {
        let mut ahead = vec![(path.to_owned(), name.to_owned())];
        while let Some((path, name)) = ahead.pop() {
            let mut entries: Vec<PathBuf> = fs::read_dir(&path)
                .map_err(about(&path))?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<_>>()?;
            entries.sort();
            for entry in entries {
                let name = name.join(entry.file_name().unwrap_or_default());
                self.add(&entry, &name)?;
                if fs::symlink_metadata(&entry).is_ok_and(|found| found.is_dir()) {
                    ahead.push((entry, name));
                }
            }
        }
        Ok(())
    }

    /// Devices, pipes and sockets are left out.
    fn add(&mut self, path: &Path, name: &Path) -> Result<(), Failure> {
        let metadata = fs::symlink_metadata(path).map_err(about(path))?;
        let mut header = Header::new_gnu();
        header.set_mode(metadata.permissions().mode() & 0o777);
        header.set_size(0);
        if metadata.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let to = fs::read_link(path).map_err(about(path))?;
            self.builder.append_link(&mut header, name, to)?;
        } else if metadata.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.builder.append_data(&mut header, name, io::empty())?;
        } else if metadata.is_file() {
            let size = metadata.len();
            self.left = self.left.checked_sub(size).ok_or_else(|| {
                Failure::new("disk", "The files that are copied are too large together")
            })?;
            header.set_size(size);
            let file = File::open(path).map_err(about(path))?;
            self.builder.append_data(&mut header, name, file)?;
        }
        Ok(())
    }
}

/// What a path of a Dockerfile names, in order.
fn find(root: &Path, written: &str) -> Result<Vec<PathBuf>, Failure> {
    if !written.contains(WILD) {
        let path = within(root, written);
        fs::symlink_metadata(&path)
            .map_err(|_| Failure::new("not_found", format!("{written} is not there")))?;
        return Ok(vec![path]);
    }
    let mut found = vec![root.to_owned()];
    for part in written.split('/').filter(|part| !part.is_empty()) {
        if !part.contains(WILD) {
            for path in &mut found {
                path.push(part);
            }
            continue;
        }
        let pattern = matcher(part)?;
        found = found
            .iter()
            .flat_map(|path| matching(path, &pattern))
            .collect();
    }
    found.retain(|path| fs::symlink_metadata(path).is_ok());
    if found.is_empty() {
        return Err(Failure::new(
            "not_found",
            format!("{written} matches nothing"),
        ));
    }
    Ok(found)
}

fn matcher(part: &str) -> Result<GlobMatcher, Failure> {
    // Braces are only text in a Dockerfile.
    let pattern = part.replace('{', "[{]").replace('}', "[}]");
    let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|error| Failure::new("not_found", format!("{part} is no pattern: {error}")))
}

fn matching(directory: &Path, pattern: &GlobMatcher) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| pattern.is_match(entry.file_name()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::archive::{self, Source};

    fn packed(
        root: &Path,
        paths: &[&str],
        most_bytes: u64,
    ) -> Result<(tempfile::TempDir, Vec<Source>), Failure> {
        let out = tempfile::tempdir().unwrap();
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Pack { paths, most_bytes }.work(root, out.path())?;
        let list = fs::read(out.path().join("sources.json")).unwrap();
        Ok((out, serde_json::from_slice(&list).unwrap()))
    }

    #[test]
    fn what_is_taken_comes_out_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("app/bin")).unwrap();
        fs::write(root.path().join("app/bin/run"), "x").unwrap();
        fs::write(root.path().join("a.whl"), "w").unwrap();
        std::os::unix::fs::symlink("run", root.path().join("app/bin/link")).unwrap();
        std::os::unix::fs::symlink("app/bin/run", root.path().join("top")).unwrap();
        let (out, sources) = packed(root.path(), &["/app", "/*.whl", "/top"], 100).unwrap();
        let shown: Vec<_> = sources
            .iter()
            .map(|source| (source.name.as_str(), source.is_directory))
            .collect();
        assert_eq!(shown, [("app", true), ("a.whl", false), ("top", false)]);
        let to = tempfile::tempdir().unwrap();
        let files = out.path().join("files.tar");
        archive::extract(
            &files,
            &sources[0],
            &to.path().join("x"),
            archive::Owner::default(),
        )
        .unwrap();
        archive::extract(
            &files,
            &sources[2],
            &to.path().join("y"),
            archive::Owner::default(),
        )
        .unwrap();
        assert_eq!(
            fs::read_link(to.path().join("x/bin/link")).unwrap(),
            Path::new("run")
        );
        assert!(to.path().join("y").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn too_much_and_nothing_are_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("big"), "12345").unwrap();
        assert_eq!(packed(root.path(), &["/big"], 4).unwrap_err().code, "disk");
        for gone in ["/gone", "/*.gone", "/big/x*"] {
            assert_eq!(
                packed(root.path(), &[gone], 9).unwrap_err().code,
                "not_found"
            );
        }
    }
}
