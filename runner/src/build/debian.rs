//! Which Debian packages a source wants beside its Python ones.

use super::requirements::readable;
use super::tree::{FileTree, join};
use crate::diagnose::{Code, diagnosis};
use crate::protocol::{BuildSettings, Diagnosis, MAX_PACKAGES, check_package};

/// Where a source lists them, one a line.
const FILE: &str = "apt.txt";

/// The packages and the sentence that says where they are listed; sorted, each once.
pub fn find(
    tree: &FileTree,
    root: &str,
    settings: &BuildSettings,
) -> Result<(Vec<String>, Option<String>), Diagnosis> {
    let (listed, place) = if settings.system_packages.is_empty() {
        let nearest = [root, ""]
            .iter()
            .filter_map(|directory| join(directory, FILE))
            .find(|path| tree.has(path));
        let Some(path) = nearest else {
            return Ok((Vec::new(), None));
        };
        (lines(&readable(tree, &path)?), path)
    } else {
        let numbered = settings
            .system_packages
            .iter()
            .cloned()
            .map(|name| (None, name));
        (numbered.collect(), "the settings".to_owned())
    };
    let mut packages = Vec::new();
    for (line, package) in listed {
        check_package(&package).map_err(|why| {
            let mut found = diagnosis(
                Code::ConfigurationInvalid,
                format!("The system package {package:?} in {place} cannot be installed: {why}."),
                "Name Debian packages, one each, like libmagic1 or ffmpeg=7:5.1.6-0+deb12u1.",
            );
            found.location = line.map(|line| format!("{place}:{line}"));
            found
        })?;
        packages.push(package);
    }
    packages.sort();
    packages.dedup();
    if packages.len() > MAX_PACKAGES {
        return Err(diagnosis(
            Code::ConfigurationInvalid,
            format!("More than {MAX_PACKAGES} system packages are listed in {place}."),
            "Name only those the server uses; what they depend on comes by itself.",
        ));
    }
    let reason = (!packages.is_empty()).then(|| {
        format!(
            "System packages {}: they are listed in {place}.",
            packages.join(", ")
        )
    });
    Ok((packages, reason))
}

/// The names with their line numbers; what follows a `#` is a comment.
fn lines(text: &str) -> Vec<(Option<usize>, String)> {
    let lines = text.lines().enumerate().map(|(index, line)| {
        let name = line.split('#').next().unwrap_or_default().trim();
        (Some(index + 1), name.to_owned())
    });
    lines.filter(|(_, name)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_before_the_file_and_the_nearest_file_counts() {
        let tree = FileTree::from_files([
            ("apt.txt", "# for the whole\nffmpeg\n"),
            ("srv/apt.txt", "libmagic1 # types\n\nlibmagic1\ncurl=1.0\n"),
        ]);
        let find = |root: &str, packages: &[&str]| {
            let settings = BuildSettings {
                system_packages: packages.iter().map(|p| (*p).to_owned()).collect(),
                ..BuildSettings::default()
            };
            find(&tree, root, &settings).expect("packages")
        };
        assert_eq!(find("srv", &[]).0, ["curl=1.0", "libmagic1"]);
        assert_eq!(find("other", &[]).0, ["ffmpeg"]);
        let (packages, reason) = find("srv", &["jq"]);
        assert_eq!(packages, ["jq"]);
        assert_eq!(
            reason.as_deref(),
            Some("System packages jq: they are listed in the settings.")
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        let tree = FileTree::from_files([("apt.txt", "curl\n-o Dir::Etc=/x\n")]);
        let found = find(&tree, "", &BuildSettings::default()).expect_err("refused");
        assert_eq!(found.location.as_deref(), Some("apt.txt:2"));
        assert_eq!(found.code, "configuration_invalid");
    }
}
