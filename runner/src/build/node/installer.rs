//! Which tool installs a project's packages: the one whose lock file is there.

use super::super::tree::{FileTree, join};
use super::manifest::Manifest;
use super::unusable;
use crate::protocol::Diagnosis;

/// The pnpm that reads each version of its lock file, and the one that is taken without.
const PNPM_VERSIONS: &[(&str, &str)] = &[("5.", "7"), ("6.", "8"), ("9.", "10")];
const PNPM: &str = "10";
/// The last yarn of version 1, and the newer one.
const YARN_CLASSIC: &str = "1";
const YARN_BERRY: &str = "4";
/// Longest version of a tool.
const MAX_VERSION_BYTES: usize = 64;

/// A tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// npm, the image's own.
    Npm,
    /// pnpm.
    Pnpm,
    /// yarn 1.
    Yarn,
    /// yarn from version 2 on.
    YarnBerry,
}

impl Kind {
    /// As the build program calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn => "yarn",
            Self::YarnBerry => "yarn-berry",
        }
    }
}

/// The tool, its version and the lock.
#[derive(Debug)]
pub struct Installer {
    /// Which.
    pub kind: Kind,
    /// Its version; the image's own where there is none.
    pub version: Option<String>,
    /// Whether the source has its lock.
    pub has_lock: bool,
    /// The lock's bytes.
    pub lock: Vec<u8>,
    lock_file: &'static str,
}

impl Installer {
    /// npm without a lock.
    pub fn npm() -> Self {
        Self {
            kind: Kind::Npm,
            version: None,
            has_lock: false,
            lock: Vec::new(),
            lock_file: "package-lock.json",
        }
    }

    /// The lock file's name.
    pub fn lock_file(&self) -> &'static str {
        self.lock_file
    }

    /// Where the packages come from, for people.
    pub fn describe(&self, directory: &str) -> String {
        let file = if self.has_lock {
            self.lock_file
        } else {
            "package.json"
        };
        match directory {
            "" => file.to_owned(),
            directory => format!("{directory}/{file}"),
        }
    }

    /// Whether it cannot install without devDependencies.
    pub fn cannot_prune(&self) -> bool {
        self.kind == Kind::YarnBerry
            && self
                .version
                .as_deref()
                .is_some_and(|version| version.starts_with("2.") || version.starts_with("3."))
    }

    /// Chooses it. Gives one sentence of reason, too.
    pub fn choose(tree: &FileTree, manifest: &Manifest) -> Result<(Self, String), Diagnosis> {
        let named = named(manifest)?;
        let locks: &[(&'static str, Option<Kind>)] = &[
            ("package-lock.json", Some(Kind::Npm)),
            ("npm-shrinkwrap.json", Some(Kind::Npm)),
            ("pnpm-lock.yaml", Some(Kind::Pnpm)),
            // Both generations of yarn call it so.
            ("yarn.lock", None),
        ];
        let mut found = Vec::new();
        for (file, kind) in locks {
            let Some(path) = join(&manifest.directory, file).filter(|path| tree.has(path)) else {
                continue;
            };
            let Some(lock) = tree.read(&path) else {
                let fix = "Lock the packages again with fewer of them.";
                return Err(unusable(
                    &path,
                    "it is larger than 16 MiB or cannot be read",
                    fix,
                ));
            };
            let kind = kind.unwrap_or_else(|| yarn_of(&lock));
            found.push((*file, kind, lock));
        }
        // One that package.json names wins over one that was left behind.
        let at = named
            .as_ref()
            .and_then(|(kind, _)| found.iter().position(|(_, found, _)| found == kind))
            .unwrap_or(0);
        if at < found.len() {
            let (lock_file, kind, lock) = found.swap_remove(at);
            let named = named.filter(|(named, _)| *named == kind);
            let version = named
                .map(|(_, version)| version)
                .or_else(|| usual_version(kind, &lock));
            let reason = format!(
                "{} installs exactly what {lock_file} names.",
                spell(kind, version.as_deref())
            );
            let installer = Self {
                kind,
                version,
                has_lock: true,
                lock,
                lock_file,
            };
            return Ok((installer, reason));
        }
        let Some((kind, version)) = named else {
            let reason = "npm resolves package.json, since there is no lock file; what it chose is kept for later builds.";
            return Ok((Self::npm(), reason.to_owned()));
        };
        let version = if kind == Kind::Npm {
            None
        } else {
            Some(version)
        };
        let reason = format!(
            "{} resolves package.json, which names it; there is no lock file, so what it chose is kept for later builds.",
            spell(kind, version.as_deref())
        );
        let lock_file = match kind {
            Kind::Npm => "package-lock.json",
            Kind::Pnpm => "pnpm-lock.yaml",
            Kind::Yarn | Kind::YarnBerry => "yarn.lock",
        };
        Ok((
            Self {
                kind,
                version,
                lock_file,
                ..Self::npm()
            },
            reason,
        ))
    }
}

fn spell(kind: Kind, version: Option<&str>) -> String {
    let name = if kind == Kind::YarnBerry {
        "yarn"
    } else {
        kind.as_str()
    };
    version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"))
}

fn yarn_of(lock: &[u8]) -> Kind {
    let is_berry = lock
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"__metadata:"));
    if is_berry {
        Kind::YarnBerry
    } else {
        Kind::Yarn
    }
}

fn usual_version(kind: Kind, lock: &[u8]) -> Option<String> {
    match kind {
        Kind::Npm => None,
        Kind::Yarn => Some(YARN_CLASSIC.to_owned()),
        Kind::YarnBerry => Some(YARN_BERRY.to_owned()),
        Kind::Pnpm => {
            let text = String::from_utf8_lossy(lock);
            let version = text
                .lines()
                .find_map(|line| line.strip_prefix("lockfileVersion:"))
                .map(|version| version.trim().trim_matches(['\'', '"']).to_owned());
            let known = version.and_then(|version| {
                let known = PNPM_VERSIONS
                    .iter()
                    .find(|(lock, _)| version.starts_with(lock))?;
                Some(known.1)
            });
            Some(known.unwrap_or(PNPM).to_owned())
        }
    }
}

/// The tool that `packageManager` names, `pnpm@9.12.0+sha512.…`.
fn named(manifest: &Manifest) -> Result<Option<(Kind, String)>, Diagnosis> {
    let Some(text) = &manifest.package_manager else {
        return Ok(None);
    };
    let (name, version) = text.split_once('@').unwrap_or((text, ""));
    let version = version.split('+').next().unwrap_or_default();
    let is_version = version.len() <= MAX_VERSION_BYTES
        && version.split('.').count() == 3
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let kind = match name {
        "npm" => Kind::Npm,
        "pnpm" => Kind::Pnpm,
        "yarn" if version.starts_with("1.") => Kind::Yarn,
        "yarn" => Kind::YarnBerry,
        _ => {
            let why = format!("packageManager is {name:?}");
            return Err(unusable(&manifest.path, why, "Use npm, pnpm or yarn."));
        }
    };
    if !is_version {
        let why = format!("packageManager names the version {version:?} of {name}");
        let fix = "Write an exact version, like pnpm@10.12.1.";
        return Err(unusable(&manifest.path, why, fix));
    }
    Ok(Some((kind, version.to_owned())))
}
