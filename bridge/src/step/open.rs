//! The last step: what was made for root, or for a user of the image, can be read by the user that
//! instances run as. `RUN` as root leaves programs in `/root`, and homes are often closed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::archive::set_mode;
use super::within;

/// What is opened.
#[derive(Debug, Deserialize)]
pub struct Open {
    /// Absolute paths in the image; those that are not there are passed over.
    paths: Vec<String>,
}

impl Open {
    /// Gives everyone what the owner may do, except to write. What cannot be changed stays.
    pub fn work(self, root: &Path) {
        let mut ahead: Vec<PathBuf> = self.paths.iter().map(|path| within(root, path)).collect();
        while let Some(path) = ahead.pop() {
            let Ok(found) = fs::symlink_metadata(&path) else {
                continue;
            };
            // Nothing is changed that is so already: a change copies the file into the layer.
            let mode = found.permissions().mode() & 0o7777;
            let readable = mode | (mode & 0o500) >> 6;
            if !found.is_symlink() && readable != mode {
                let _ = set_mode(&path, readable);
            }
            if found.is_dir() {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                ahead.extend(entries.map(|entry| entry.path()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_may_read_what_the_owner_may() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("root/.local")).unwrap();
        fs::write(at("root/.local/tool"), "").unwrap();
        set_mode(&at("root/.local/tool"), 0o700).unwrap();
        set_mode(&at("root"), 0o700).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", at("root/link")).unwrap();
        let paths = ["/root", "/none"].map(str::to_owned).to_vec();
        Open { paths }.work(root.path());
        let mode = |path: &str| fs::metadata(at(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("root"), mode("root/.local/tool")), (0o705, 0o705));
    }
}
