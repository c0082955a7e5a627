//! Postgres refuses to run as root, and rightly.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Who may run it, best first: the user its Debian package makes, then the one without rights.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// An account of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// The user to run Postgres as; `None` means as ourselves, since we are not root.
pub fn user() -> anyhow::Result<Option<User>> {
    if !rustix::process::getuid().is_root() {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let found = CANDIDATES.iter().find_map(|name| parse(&accounts, name));
    match found {
        Some(user) => Ok(Some(user)),
        None => bail!(
            "Postgres does not run as root, and this machine has no user `postgres`: add one with \
             `useradd --system postgres`"
        ),
    }
}

/// Finds `name` in the text of `/etc/passwd` (passwd(5)). Root under another name does not count.
fn parse(accounts: &str, name: &str) -> Option<User> {
    accounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, uid, gid, ..] = fields[..] else {
            return None;
        };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        (found == name && uid != 0).then(|| User {
            name: name.to_owned(),
            uid,
            gid,
        })
    })
}

impl User {
    /// Whether this user can reach what lies in `directory`, an absolute path: the execute bit
    /// on it and on all above it. Group memberships beyond the first do not count, since the
    /// process is started without them.
    pub fn can_enter(&self, directory: &Path) -> anyhow::Result<bool> {
        for ancestor in directory.ancestors() {
            let metadata = fs::metadata(ancestor)
                .with_context(|| format!("cannot look at {}", ancestor.display()))?;
            let bit = if metadata.uid() == self.uid {
                0o100
            } else if metadata.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if metadata.mode() & bit == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_name_and_root_never_is() {
        let accounts =
            "root:x:0:0::/root:/bin/sh\npostgres:x:101:104:,,,:/var:/bin/sh\nnobody:x:0:0::/:\n";
        let user = parse(accounts, "postgres").unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert_eq!(parse(accounts, "nobody"), None);
        assert_eq!(parse(accounts, "post"), None);
    }
}
