//! Users and groups as the image names them.

use std::fs;
use std::path::Path;

use super::{Failure, within};

/// A user of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group's.
    pub gid: u32,
    /// Its home.
    pub home: String,
}

/// `name`, `name:group`, `1000`, `1000:1000`: names are those of the image.
pub fn find(root: &Path, written: &str) -> Result<User, Failure> {
    let (name, group) = match written.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (written, None),
    };
    let passwd = fs::read_to_string(within(root, "/etc/passwd")).unwrap_or_default();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [entry, _, uid, gid, _, home, ..] = fields[..] else {
            return None;
        };
        (entry == name || uid == name).then(|| {
            Some(User {
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                home: home.to_owned(),
            })
        })?
    });
    let mut user = match (entry, name.parse()) {
        (Some(user), _) => user,
        // A number needs no entry; without one its group is root's, as engines have it.
        (None, Ok(uid)) => User {
            uid,
            gid: 0,
            home: "/".to_owned(),
        },
        (None, Err(_)) => {
            return Err(Failure::new(
                "user_not_found",
                format!("The image has no user {name}"),
            ));
        }
    };
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        user.gid = group_number(root, group)?;
    }
    Ok(user)
}

fn group_number(root: &Path, group: &str) -> Result<u32, Failure> {
    let text = fs::read_to_string(within(root, "/etc/group")).unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    });
    found
        .or_else(|| group.parse().ok())
        .ok_or_else(|| Failure::new("user_not_found", format!("The image has no group {group}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_those_of_the_image() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(
            root.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbroken\n",
        )
        .unwrap();
        fs::write(root.path().join("etc/group"), "staff:x:50:\n").unwrap();
        let ids = |text| find(root.path(), text).map(|user| (user.uid, user.gid, user.home));
        assert_eq!(ids("app").unwrap(), (1000, 1001, "/home/app".into()));
        assert_eq!(ids("1000").unwrap(), (1000, 1001, "/home/app".into()));
        assert_eq!(ids("app:staff").unwrap().1, 50);
        assert_eq!(ids("7:8").unwrap(), (7, 8, "/".into()));
        assert!(ids("nobody").is_err() && ids("app:none").is_err());
    }
}
