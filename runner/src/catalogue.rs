//! Packages of the public registries as sources of their own: `pypi:NAME`, `pypi:NAME==VERSION`,
//! `npm:NAME`, `npm:@SCOPE/NAME@VERSION`.
//!
//! Only names and exact versions: a package's name goes to an installer, and everything else that
//! those understand (addresses, paths, markers) would be a source of another kind.

use std::fmt;

use nodejs_semver::Version;
use serde::{Deserialize, Serialize};

/// Longest name, npm's own limit; PyPI's names are shorter.
const MAX_NAME: usize = 214;
/// Longest version.
const MAX_VERSION: usize = 128;

/// A package registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registry {
    /// The Python Package Index, or the index that builds use in its place.
    Pypi,
    /// npm's.
    Npm,
}

impl Registry {
    /// As sources name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pypi => "pypi",
            Self::Npm => "npm",
        }
    }
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Where it is.
    pub registry: Registry,
    /// Its name there, as written.
    pub name: String,
    /// Its exact version; `None` means the newest one.
    pub version: Option<String>,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.registry.as_str(), self.name)?;
        match (&self.version, self.registry) {
            (None, _) => Ok(()),
            (Some(version), Registry::Pypi) => write!(f, "=={version}"),
            (Some(version), Registry::Npm) => write!(f, "@{version}"),
        }
    }
}

impl Package {
    /// Whether a source is meant as a package.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("pypi:") || text.starts_with("npm:")
    }

    /// Reads one.
    ///
    /// # Errors
    /// One sentence: what is wrong, and how it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("pypi", rest)) => parse_pypi(rest),
            Some(("npm", rest)) => parse_npm(rest),
            _ => Err("A package begins with pypi: or npm:, like pypi:mcp-server-time.".to_owned()),
        }
    }

    /// The same package in this version.
    ///
    /// # Errors
    /// One sentence, when it is none.
    pub fn at(&self, version: &str) -> Result<Self, String> {
        let pinned = Self {
            version: Some(version.to_owned()),
            ..self.clone()
        };
        Self::parse(&pinned.to_string())
    }
}

/// `NAME[==VERSION]`: a name as PEP 508 has it, a version as PEP 440 has it.
fn parse_pypi(text: &str) -> Result<Package, String> {
    let (name, version) = match text.split_once("==") {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let is_name = bytes.len() <= MAX_NAME
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if !is_name {
        return Err(
            "A package of PyPI is written pypi:NAME or pypi:NAME==VERSION; a name has letters, digits, dots, underscores and hyphens.".to_owned(),
        );
    }
    let is_version = |version: &str| {
        version.len() <= MAX_VERSION
            && version.starts_with(|c: char| c.is_ascii_digit())
            && version.bytes().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'!' | b'+' | b'-' | b'_')
            })
    };
    match version {
        Some(version) if !is_version(version) => Err(format!(
            "The version of {name} is not an exact one; write it like pypi:{name}==1.2.3."
        )),
        version => Ok(Package {
            registry: Registry::Pypi,
            name: name.to_owned(),
            version: version.map(str::to_owned),
        }),
    }
}

/// `NAME[@VERSION]`, `@SCOPE/NAME[@VERSION]`: npm's rules for new packages.
fn parse_npm(text: &str) -> Result<Package, String> {
    // A scope begins with the sign that also stands before a version.
    let at = text
        .get(1..)
        .and_then(|rest| rest.find('@'))
        .map(|at| at + 1);
    let (name, version) = match at {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || matches!(byte, b'.' | b'_' | b'-')
            })
    };
    let is_name = name.len() <= MAX_NAME
        && match name.strip_prefix('@') {
            Some(scoped) => scoped
                .split_once('/')
                .is_some_and(|(scope, name)| is_part(scope) && is_part(name)),
            None => is_part(name),
        };
    if !is_name {
        return Err(
            "A package of npm is written npm:NAME, npm:@SCOPE/NAME or either with @VERSION; a name has lower-case letters, digits, dots, underscores and hyphens.".to_owned(),
        );
    }
    let is_version = |version: &str| {
        version.len() <= MAX_VERSION
            && version.starts_with(|c: char| c.is_ascii_digit())
            && Version::parse(version).is_ok_and(|parsed| parsed.to_string() == version)
    };
    match version {
        Some(version) if !is_version(version) => Err(format!(
            "The version of {name} is not an exact one; write it like npm:{name}@1.2.3."
        )),
        version => Ok(Package {
            registry: Registry::Npm,
            name: name.to_owned(),
            version: version.map(str::to_owned),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_and_written() {
        for (text, name, version) in [
            ("pypi:mcp-server-time", "mcp-server-time", None),
            (
                "pypi:Zope.Interface==5.0.0rc1",
                "Zope.Interface",
                Some("5.0.0rc1"),
            ),
            ("pypi:a==1!2.0+local.1", "a", Some("1!2.0+local.1")),
            ("npm:left-pad", "left-pad", None),
            ("npm:left-pad@1.3.0", "left-pad", Some("1.3.0")),
            (
                "npm:@modelcontextprotocol/server-everything",
                "@modelcontextprotocol/server-everything",
                None,
            ),
            ("npm:@a/b@2.0.0-beta.1", "@a/b", Some("2.0.0-beta.1")),
        ] {
            let package = Package::parse(text).expect(text);
            assert_eq!(
                (package.name.as_str(), package.version.as_deref()),
                (name, version)
            );
            assert_eq!(package.to_string(), text);
            assert!(Package::is_meant(text));
        }
        let package = Package::parse("npm:@a/b").unwrap();
        assert_eq!(package.at("1.0.0").unwrap().to_string(), "npm:@a/b@1.0.0");
        assert!(package.at("latest").is_err());
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "pypi:",
            "npm:",
            "pip:x",
            "mcp-server-time",
            "https://x/y.git",
            "pypi:-r",
            "pypi:--index-url",
            "pypi:a b",
            "pypi:a;b",
            "pypi:a[extra]",
            "pypi:a>=1",
            "pypi:a==",
            "pypi:a==1 --pre",
            "pypi:a==*",
            "pypi:a @ https://x",
            "pypi:../a",
            "pypi:a/b",
            "pypi:a\n",
            "npm:-g",
            "npm:A",
            "npm:.hidden",
            "npm:_x",
            "npm:@a",
            "npm:@/b",
            "npm:@a/",
            "npm:@a/b/c",
            "npm:a@",
            "npm:a@latest",
            "npm:a@^1",
            "npm:a@1",
            "npm:a@1.0.0 x",
            "npm:a@file:x",
            "npm:../a",
            "npm:a/b",
            "npm:a@npm:b",
            "npm:github:a/b",
            "npm:é",
        ] {
            let refused = Package::parse(text).expect_err(text);
            assert!(refused.ends_with('.'), "{text:?}: {refused}");
        }
        assert!(Package::parse(&format!("pypi:{}", "a".repeat(215))).is_err());
        assert!(Package::parse(&format!("npm:a@1.0.{}", "1".repeat(200))).is_err());
    }
}
