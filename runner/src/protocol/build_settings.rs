//! How a project is built and started, as far as its owner says it, and what may be said.

use serde::{Deserialize, Serialize};

/// Most Debian packages that may be named; what they depend on comes besides.
pub const MAX_PACKAGES: usize = 100;
/// Longest package name or version, bytes; Debian's longest are below 80.
const MAX_PACKAGE_BYTES: usize = 128;
/// Longest path, bytes: what a form shows in one line.
const MAX_PATH_BYTES: usize = 255;
/// Most words of a command.
const MAX_ARGUMENTS: usize = 100;
/// Longest command, bytes: what is longer belongs into a file of the source.
const MAX_COMMAND_BYTES: usize = 4_096;

/// What a project's owner decides of its build and its start, beside the entrypoint; whatever is
/// left out is worked out from the source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildSettings {
    /// The directory of the source that holds the server, `services/weather`; the whole if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_directory: Option<String>,
    /// The file that declares the dependencies, relative to the root directory; found if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependency_file: Option<String>,
    /// The Dockerfile that the server is built by, relative to the root directory; without it, one
    /// is taken only where nothing else can be planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// Debian packages, `name` or `name=version`, in place of what an `apt.txt` lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system_packages: Vec<String>,
    /// Program and arguments that are run once the dependencies are installed; no shell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub build_command: Vec<String>,
    /// Program and arguments that are the server, in place of an entrypoint; no shell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub start_command: Vec<String>,
}

impl BuildSettings {
    /// What cannot stay as it is: the field's name, and a sentence that says what to do.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let paths = [
            ("root_directory", &self.root_directory),
            ("dependency_file", &self.dependency_file),
            ("dockerfile", &self.dockerfile),
        ];
        for (name, path) in paths {
            if path.as_deref().is_some_and(|path| !is_inside(path)) {
                let what = match name {
                    "dockerfile" => "Dockerfile".to_owned(),
                    name => name.replace('_', " "),
                };
                problems.push((name, format!("The {what} must lie inside the repository: write it without a leading slash and without `..`, like services/weather.")));
            }
        }
        let bad = self.system_packages.iter().find_map(|package| {
            check_package(package)
                .err()
                .map(|why| format!("{package:?} cannot be installed: {why}. Name Debian packages, like libmagic1 or jq=1.6-2.1."))
        });
        problems.extend(bad.map(|sentence| ("system_packages", sentence)));
        if self.system_packages.len() > MAX_PACKAGES {
            problems.push((
                "system_packages",
                format!("At most {MAX_PACKAGES} packages can be named; what they depend on comes by itself."),
            ));
        }
        let commands = [
            ("build_command", &self.build_command),
            ("start_command", &self.start_command),
        ];
        for (name, command) in commands {
            if let Err(why) = check_command(command) {
                problems.push((name, format!("The {} {why}.", name.replace('_', " "))));
            }
        }
        problems
    }
}

fn is_inside(path: &str) -> bool {
    path.len() <= MAX_PATH_BYTES
        && !path.starts_with(['/', '~'])
        && !path.contains('\\')
        && !path.chars().any(char::is_control)
        && !path.split('/').any(|part| part == "..")
}

fn check_command(command: &[String]) -> Result<(), &'static str> {
    let bytes: usize = command.iter().map(String::len).sum();
    if command.first().is_some_and(String::is_empty) {
        return Err("names no program; its first word is the program");
    }
    if command.len() > MAX_ARGUMENTS || bytes > MAX_COMMAND_BYTES {
        return Err("is too long; put it into a script of the source");
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err("holds a NUL byte, which no program can be given");
    }
    Ok(())
}

/// A name as Debian's policy has it (sections 5.6.1 and 5.6.12), which is also what apt takes for a
/// name and for nothing else: `x-` would remove x, and `x*` stand for many. The error says why not.
pub fn check_package(package: &str) -> Result<(), &'static str> {
    let (name, version) = match package.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (package, None),
    };
    let is_name = (2..=MAX_PACKAGE_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !name.ends_with('-');
    if !is_name {
        return Err("that is not the name of a Debian package");
    }
    let is_version = version.is_none_or(|version| {
        version.len() <= MAX_PACKAGE_BYTES
            && version.starts_with(|c: char| c.is_ascii_digit())
            && version
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".+~:-".contains(&b))
    });
    if is_version {
        Ok(())
    } else {
        Err("what follows its = is not a version")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names_are_debians_and_nothing_that_apt_takes_for_more() {
        for good in [
            "libmagic1",
            "g++",
            "libstdc++6",
            "7zip",
            "a1",
            "ffmpeg=7:5.1.6-0+deb12u1",
            "x0=1~rc1",
        ] {
            assert_eq!(check_package(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "x",
            "-y",
            "--option",
            "curl-",
            "Curl",
            "cu*rl",
            "a b",
            "a;b",
            "curl/bookworm",
            "curl:amd64",
            "./x.deb",
            "^curl",
            "curl=",
            "curl=x",
            "curl=1;id",
            "curl=1 2",
            "curl=$(id)",
            "cürl",
            "curl\n",
            "curl=1\0",
            &"a".repeat(129),
        ] {
            assert!(check_package(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_said_for_each_field() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let settings = BuildSettings {
            root_directory: Some("../x".into()),
            dependency_file: Some("/etc/passwd".into()),
            dockerfile: Some("a/../../Dockerfile".into()),
            system_packages: words(&["jq", "-o"]),
            build_command: words(&["", "x"]),
            start_command: words(&["a\0b"]),
        };
        let names: Vec<&str> = settings
            .problems()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names,
            [
                "root_directory",
                "dependency_file",
                "dockerfile",
                "system_packages",
                "build_command",
                "start_command"
            ]
        );
        let settings = BuildSettings {
            root_directory: Some("services/a".into()),
            build_command: words(&["make", "--", "all; $(id)"]),
            ..BuildSettings::default()
        };
        assert_eq!(settings.problems(), []);
        assert_eq!(BuildSettings::default().problems(), []);
        let long = BuildSettings {
            start_command: vec!["x".repeat(5_000)],
            system_packages: vec!["jq".into(); 101],
            ..BuildSettings::default()
        };
        assert_eq!(long.problems().len(), 2);
    }
}
