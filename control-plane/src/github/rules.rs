//! What a project's branch rules make of a push: pure decisions.

use ignore::gitignore::Gitignore;

use super::rest::Comparison;
use crate::branch_rules::{Rules, matcher};

/// What, anywhere in a commit's message and in letters of either case, has it not deployed. The
/// words of GitHub Actions, GitLab and Netlify, and two of our own.
/// <https://docs.github.com/en/actions/how-tos/manage-workflow-runs/skip-workflow-runs>
pub const SKIP_MARKERS: &[&str] = &[
    "[skip berth]",
    "[berth skip]",
    "[skip deploy]",
    "[skip ci]",
    "[ci skip]",
    "[no ci]",
];

/// The trailer that says the same, as the last line of a message.
const SKIP_TRAILER: &str = "skip-checks";

/// Files that GitHub names in a comparison at the most; with so many there may be more.
/// <https://docs.github.com/en/rest/commits/commits#compare-two-commits>
pub const MAX_FILES: usize = 300;

/// Patterns that a reason names.
const NAMED: usize = 3;

/// Whether a commit's message says that it is not to be deployed.
pub fn skips(message: &str) -> bool {
    skip_marker(message).is_some()
}

/// What of a commit's message says that it is not to be deployed.
pub fn skip_marker(message: &str) -> Option<&'static str> {
    let lower = message.to_ascii_lowercase();
    let found = SKIP_MARKERS.iter().find(|marker| lower.contains(**marker));
    found.copied().or_else(|| {
        let (key, value) = lower.trim_end().lines().next_back()?.split_once(':')?;
        (key == SKIP_TRAILER && value.trim() == "true").then_some("skip-checks: true")
    })
}

/// Why a push is not deployed that brought these changes since what was deployed last: the rest of a
/// sentence that begins with the commit. `None` when it is to be deployed, and also when that cannot
/// be told: after a force-push, and of more files than GitHub names.
pub fn reason_to_skip(rules: &Rules, since: &Comparison) -> Option<String> {
    if since.status != "ahead" || since.files.len() >= MAX_FILES {
        return None;
    }
    // Patterns are checked before they are kept; one that is not understood has everything deployed.
    let watched = matcher(&rules.watch_paths).ok()?;
    let ignored = matcher(&rules.ignored_paths).ok()?;
    let under = |list: &Gitignore, path: &str| {
        let path = path.trim_start_matches('/');
        list.matched_path_or_any_parents(path, false).is_ignore()
    };
    let is_watched = |path: &str| rules.watch_paths.is_empty() || under(&watched, path);
    let mut paths = since.files.iter().flat_map(|file| {
        let before = file.previous_filename.as_deref();
        std::iter::once(file.filename.as_str()).chain(before)
    });
    if paths
        .clone()
        .any(|path| is_watched(path) && !under(&ignored, path))
    {
        return None;
    }
    Some(if rules.watch_paths.is_empty() {
        format!(
            "it changes only what is ignored: {}",
            named(&rules.ignored_paths)
        )
    } else if paths.any(is_watched) {
        format!(
            "what it changes under {} is ignored: {}",
            named(&rules.watch_paths),
            named(&rules.ignored_paths)
        )
    } else {
        format!("it changes nothing under {}", named(&rules.watch_paths))
    })
}

/// The first patterns of a list.
fn named(patterns: &[String]) -> String {
    let first = patterns[..patterns.len().min(NAMED)].join(", ");
    match patterns.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::rest::ChangedFile;

    fn rules(watch: &[&str], ignored: &[&str]) -> Rules {
        let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
        Rules {
            watch_paths: owned(watch),
            ignored_paths: owned(ignored),
            ..Rules::default()
        }
    }

    fn since(files: &[&str]) -> Comparison {
        Comparison {
            status: "ahead".into(),
            files: files
                .iter()
                .map(|name| ChangedFile {
                    filename: (*name).to_owned(),
                    previous_filename: None,
                })
                .collect(),
        }
    }

    #[test]
    fn markers_are_found_anywhere_and_in_any_case() {
        for message in [
            "[skip berth] Fix a comment",
            "Fix a comment\n\nNothing else. [Berth Skip]",
            "x [SKIP CI]",
            "x [ci skip]",
            "x [no ci]",
            "x [skip deploy]",
            "x\n\n\nskip-checks: true",
            "x\n\n\nSigned-off-by: a\nskip-checks:true\n",
        ] {
            assert!(skips(message), "{message}");
        }
        for message in [
            "",
            "skip ci",
            "[skip actions] x",
            "Explain [skip  ci]",
            "x\n\nskip-checks: true\nReviewed-by: b",
            "x\n\nskip-checks: false",
            "no skip-checks: true",
        ] {
            assert!(!skips(message), "{message}");
        }
    }

    #[test]
    fn a_push_counts_by_what_it_changes() {
        for (watch, ignored, files, deployed) in [
            (
                &["services/a/"][..],
                &[][..],
                &["services/a/x.py"][..],
                true,
            ),
            (&["services/a"], &[], &["services/a/deep/x.py"], true),
            (
                &["services/a/"],
                &[],
                &["services/b/x.py", "README.md"],
                false,
            ),
            (&["services/a/"], &[], &["other/services/a/x.py"], false),
            (&["*.py"], &[], &["deep/x.py"], true),
            (&["/*.py"], &[], &["deep/x.py"], false),
            (&["a/", "!a/docs/"], &[], &["a/docs/x"], false),
            (&["a/", "!a/docs/"], &[], &["a/docs/x", "a/y"], true),
            (
                &[],
                &["docs/", "*.md"],
                &["docs/x.html", "README.md"],
                false,
            ),
            (&[], &["docs/", "*.md"], &["docs/x.html", "server.py"], true),
            (&["a/"], &["*.md"], &["a/README.md", "b/x.py"], false),
            (&["a/"], &["*.md"], &["a/README.md", "a/x.py"], true),
            (&["a/"], &[], &[], false),
            (&["a/"], &[], &["/a/x"], true),
        ] {
            let reason = reason_to_skip(&rules(watch, ignored), &since(files));
            assert_eq!(
                reason.is_none(),
                deployed,
                "{watch:?} {ignored:?} {files:?}"
            );
        }
    }

    #[test]
    fn a_file_that_moved_away_counts_where_it_was() {
        let mut moved = since(&["b/x.py"]);
        moved.files[0].previous_filename = Some("a/x.py".into());
        assert_eq!(reason_to_skip(&rules(&["a/"], &[]), &moved), None);
    }

    #[test]
    fn what_cannot_be_told_is_deployed() {
        let rules = rules(&["a/"], &[]);
        for status in ["diverged", "behind", "identical", ""] {
            let mut other = since(&["b"]);
            other.status = status.into();
            assert_eq!(reason_to_skip(&rules, &other), None, "{status}");
        }
        assert_eq!(reason_to_skip(&rules, &since(&["b"; MAX_FILES])), None);
        assert!(reason_to_skip(&rules, &since(&["b"; MAX_FILES - 1])).is_some());
    }

    #[test]
    fn a_reason_names_a_few_patterns() {
        let reason = |watch: &[&str], ignored: &[&str], files: &[&str]| {
            reason_to_skip(&rules(watch, ignored), &since(files)).unwrap()
        };
        assert_eq!(
            reason(&["a/", "b/", "c/", "d/", "e/"], &[], &["x"]),
            "it changes nothing under a/, b/, c/ and 2 more"
        );
        assert_eq!(
            reason(&[], &["docs/"], &["docs/x"]),
            "it changes only what is ignored: docs/"
        );
        assert_eq!(
            reason(&["a/"], &["*.md"], &["a/x.md"]),
            "what it changes under a/ is ignored: *.md"
        );
    }
}
