//! Finds the installed Postgres.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

/// The oldest major version we work with.
const OLDEST: u32 = 14;

/// Where Debian keeps its versions side by side, each as `MAJOR/bin`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// One installed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    major: u32,
    directory: PathBuf,
}

impl Binaries {
    /// The version that `needed` data wants, else the newest one.
    pub fn find(needed: Option<u32>) -> anyhow::Result<Self> {
        choose(installed(), needed)
    }

    /// The server.
    pub fn postgres(&self) -> PathBuf {
        self.directory.join("postgres")
    }

    /// The program that makes a cluster.
    pub fn initdb(&self) -> PathBuf {
        self.directory.join("initdb")
    }

    /// Its major version.
    pub fn major(&self) -> u32 {
        self.major
    }
}

fn choose(mut installed: Vec<Binaries>, needed: Option<u32>) -> anyhow::Result<Binaries> {
    installed.retain(|binaries| binaries.major >= OLDEST);
    installed.sort_by_key(|binaries| binaries.major);
    let Some(newest) = installed.last() else {
        bail!(
            "no Postgres {OLDEST} or newer is installed: install one with \
             `apt-get install postgresql`, or name a database with BERTH_DATABASE_URL"
        );
    };
    let Some(needed) = needed else {
        return Ok(newest.clone());
    };
    match installed.iter().find(|binaries| binaries.major == needed) {
        Some(binaries) => Ok(binaries.clone()),
        None => bail!(
            "the private database was made by Postgres {needed}, and only Postgres {} is \
             installed: install it with `apt-get install postgresql-{needed}`, or move the data \
             with pg_upgrade",
            newest.major
        ),
    }
}

fn installed() -> Vec<Binaries> {
    let mut found: Vec<Binaries> = fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            let directory = entry.path().join("bin");
            is_complete(&directory).then_some(Binaries { major, directory })
        })
        .collect();
    if found.is_empty() {
        found.extend(on_path());
    }
    found
}

fn is_complete(directory: &Path) -> bool {
    ["postgres", "initdb"]
        .iter()
        .all(|program| directory.join(program).is_file())
}

fn on_path() -> Option<Binaries> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the search path is no setting of ours"
    )]
    let path = std::env::var_os("PATH")?;
    let directory = std::env::split_paths(&path).find(|directory| is_complete(directory))?;
    // The links in a search path may lead elsewhere; the server looks for its files from there.
    let server = directory.join("postgres").canonicalize().ok()?;
    let output = Command::new(&server).arg("--version").output().ok()?;
    let major = major(&String::from_utf8_lossy(&output.stdout))?;
    Some(Binaries {
        major,
        directory: server.parent()?.to_owned(),
    })
}

/// Reads `postgres (PostgreSQL) 15.14 (Debian …)`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    number
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u32) -> Binaries {
        Binaries {
            major,
            directory: PathBuf::new(),
        }
    }

    #[test]
    fn the_newest_is_taken_for_new_data() {
        let installed = vec![version(15), version(17), version(13)];
        assert_eq!(choose(installed, None).unwrap().major, 17);
    }

    #[test]
    fn old_data_gets_its_own_version_or_a_clear_sentence() {
        let installed = vec![version(15), version(17)];
        assert_eq!(choose(installed.clone(), Some(15)).unwrap().major, 15);
        let error = choose(installed, Some(16)).unwrap_err().to_string();
        assert!(error.contains("apt-get install postgresql-16"), "{error}");
    }

    #[test]
    fn without_any_the_sentence_says_how_to_install_one() {
        let error = choose(vec![version(13)], None).unwrap_err().to_string();
        assert!(error.contains("apt-get install postgresql"), "{error}");
    }

    #[test]
    fn version_lines_are_read() {
        assert_eq!(
            major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"),
            Some(15)
        );
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("nonsense"), None);
    }
}
