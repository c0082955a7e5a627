//! Taking a file that a container left. Whatever stands at a path that a container could write is
//! of its choosing: a link there would lead the runner, which is root, to any file of the host, and
//! would lead the engine there where it is given the path to mount. So such a path is opened once,
//! not through a link, and only what was opened is used.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::container::open_tenant_file;
use super::halt::Halt;

/// How much is copied before it is looked whether anybody still waits for it.
const PART_BYTES: u64 = 16 << 20;

/// Copies what a container left at `from` into a new file at `to`, a path that no container can
/// write; everybody may read it. It may have at most so many bytes.
pub fn take(from: &Path, to: &Path, most: u64, halt: &Halt) -> io::Result<()> {
    let mut left = open_tenant_file(from)?;
    // Nothing is there before: it would be followed.
    let mut own = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    let mut taken = 0;
    loop {
        halt.check()?;
        let part = io::copy(&mut (&mut left).take(PART_BYTES), &mut own)?;
        if part == 0 {
            break;
        }
        taken += part;
        if taken > most {
            fs::remove_file(to)?;
            return Err(io::Error::other("what the build left is too large"));
        }
    }
    // On what is open, whatever its path leads to.
    own.set_permissions(Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory that a container writes, one of the runner's, and a file that is nobody's
    /// business.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            fs::create_dir(place.at("out")).unwrap();
            fs::write(place.at("secret"), "s").unwrap();
            fs::set_permissions(place.at("secret"), Permissions::from_mode(0o600)).unwrap();
            place
        }

        fn at(&self, path: &str) -> std::path::PathBuf {
            self.0.path().join(path)
        }

        fn take(&self, most: u64) -> io::Result<()> {
            let (from, to) = (self.at("out/files.tar"), self.at("files.tar"));
            take(&from, &to, most, &Halt::default())
        }

        fn secret_is_as_it_was(&self) -> bool {
            let mode = fs::metadata(self.at("secret"))
                .unwrap()
                .permissions()
                .mode();
            mode & 0o777 == 0o600 && fs::read(self.at("secret")).unwrap() == b"s"
        }
    }

    #[test]
    fn a_link_that_a_container_left_leads_nowhere() {
        let place = Place::new();
        symlink(place.at("secret"), place.at("out/files.tar")).unwrap();
        assert!(place.take(9).is_err());
        assert!(place.secret_is_as_it_was());
        assert!(!place.at("files.tar").exists(), "nothing is there to mount");
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let place = Place::new();
        fs::create_dir(place.at("out/files.tar")).unwrap();
        assert!(place.take(9).is_err());
        fs::remove_dir(place.at("out/files.tar")).unwrap();
        let socket = place.at("out/files.tar");
        let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        assert!(place.take(9).is_err());
        assert!(!place.at("files.tar").exists());
    }

    #[test]
    fn a_file_becomes_the_runners_own() {
        let place = Place::new();
        fs::write(place.at("out/files.tar"), "archive").unwrap();
        place.take(7).unwrap();
        // What happens to the one that was left is of no matter any more.
        fs::remove_file(place.at("out/files.tar")).unwrap();
        symlink(place.at("secret"), place.at("out/files.tar")).unwrap();
        let own = fs::symlink_metadata(place.at("files.tar")).unwrap();
        assert!(own.is_file());
        assert_eq!(own.permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read(place.at("files.tar")).unwrap(), b"archive");
        assert!(place.secret_is_as_it_was());
    }

    #[test]
    fn too_much_is_not_kept_and_a_link_in_its_place_not_written_through() {
        let place = Place::new();
        fs::write(place.at("out/files.tar"), "archive").unwrap();
        assert!(place.take(6).is_err());
        assert!(!place.at("files.tar").exists());
        symlink(place.at("secret"), place.at("files.tar")).unwrap();
        assert!(place.take(9).is_err());
        assert!(place.secret_is_as_it_was());
    }

    #[test]
    fn nothing_is_taken_for_a_build_that_has_ended() {
        let place = Place::new();
        fs::write(place.at("out/files.tar"), "archive").unwrap();
        let halt = Halt::default();
        halt.set();
        let (from, to) = (place.at("out/files.tar"), place.at("files.tar"));
        assert!(take(&from, &to, 9, &halt).is_err());
    }
}
