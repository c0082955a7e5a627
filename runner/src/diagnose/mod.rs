//! Error → cause → fix, deterministic: one catalogue for everything that can go wrong between a
//! source and a healthy instance.
//!
//! Every [`Diagnosis`] is made here, from a [`Code`], so the catalogue is complete by
//! construction. A cause is one sentence that names the thing; a fix is one sentence that says
//! the next step. What nothing recognises becomes [`Code::UnknownFailure`] with what was last
//! written, and no guess.

mod environment;
mod instance;
mod launcher;
mod node;
mod python;
mod source;

pub use environment::{EnvironmentFailure, build_timeout, from_environment_failure};
pub use instance::{
    ProbeAnswer, exited, out_of_memory, port_never_opened, probe_failed, refuses_host,
    start_timeout,
};
pub use launcher::{LauncherFailure, from_launcher_failure};
pub use node::from_node_failure;
pub(crate) use source::{from_archive_refusal, from_fetch_fault};

use crate::protocol::Diagnosis;

/// Longest cause or fix, in characters: what a page shows without folding. A tenant's exception
/// text ends up in causes, and it can be of any length.
const MAX_SENTENCE_CHARS: usize = 600;

macro_rules! codes {
    ($($variant:ident $code:literal $title:literal)+) => {
        /// What went wrong, as a stable name. The text of [`Code::as_str`] never changes meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $title] $variant,)+
        }

        impl Code {
            /// The stable name, for example `entrypoint_not_found`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// A short title for people.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
        }

        /// Every code there is, in the order in which a deployment can meet them.
        const ALL: &[Code] = &[$(Code::$variant,)+];
    };
}

codes! {
    SourceUrlInvalid "source_url_invalid" "The repository's address cannot be used"
    AddressForbidden "address_forbidden" "The repository's host is on a private network"
    RepositoryUnreachable "repository_unreachable" "The repository's host does not answer"
    RepositoryNotFound "repository_not_found" "There is no readable repository at the address"
    RepositoryEmpty "repository_empty" "The repository has no commits"
    RepositoryUnreadable "repository_unreadable" "The repository's data cannot be read"
    RefNotFound "ref_not_found" "The branch or tag does not exist"
    CommitNotFound "commit_not_found" "The commit cannot be fetched"
    FetchTimeout "fetch_timeout" "Fetching the source took too long"
    SourceTooLarge "source_too_large" "The source is larger than allowed"
    SymlinkEscapes "symlink_escapes" "A symbolic link leaves the source"
    FileNameInvalid "file_name_invalid" "A file name cannot be accepted"
    ArchiveCorrupt "archive_corrupt" "The uploaded archive cannot be read"
    UploadMissing "upload_missing" "The uploaded archive is no longer there"
    NoEntrypoint "no_entrypoint" "No file to start was found"
    EntrypointInvalid "entrypoint_invalid" "The entrypoint is not written correctly"
    EntrypointNotFound "entrypoint_not_found" "The entrypoint's file does not exist"
    ConfigurationInvalid "configuration_invalid" "A configuration file cannot be used"
    PythonVersionUnavailable "python_version_unavailable" "The Python version is not installed here"
    NodeVersionUnavailable "node_version_unavailable" "The Node version is not installed here"
    DependencyFileNotFound "dependency_file_not_found" "A dependency file does not exist"
    DependenciesUnresolvable "dependencies_unresolvable" "The dependencies contradict each other"
    DependencyNotFound "dependency_not_found" "A dependency does not exist"
    DependencyBuildFailed "dependency_build_failed" "A dependency could not be built"
    LockOutdated "lock_outdated" "The lock file does not match the project"
    RegistryUnreachable "registry_unreachable" "The package index does not answer"
    BuildScriptFailed "build_script_failed" "The project's build script failed"
    BuildTimeout "build_timeout" "The build took too long"
    SyntaxError "syntax_error" "The code is not valid Python"
    ImportError "import_error" "A module cannot be imported"
    MissingVariable "missing_variable" "A required variable is not set"
    ImportExited "import_exited" "The code ended the process while it was imported"
    ImportFailed "import_failed" "The code raised an exception while it was imported"
    NoServerObject "no_server_object" "The entrypoint has no MCP server object"
    ObjectNotFound "object_not_found" "The named object does not exist"
    NotAServer "not_a_server" "The named object is not an MCP server"
    FactoryFailed "factory_failed" "The function that makes the server failed"
    ServeFailed "serve_failed" "The server could not be started"
    StdioTransport "stdio_transport" "The server speaks stdio, not HTTP"
    PortNotOpened "port_not_opened" "The server did not open its port"
    StartTimeout "start_timeout" "The server took too long to start"
    HostRefused "host_refused" "The server refuses its public host name"
    McpProbeFailed "mcp_probe_failed" "The server does not answer as an MCP server"
    OutOfMemory "out_of_memory" "The server used more memory than it has"
    Exited "exited" "The server ended by itself"
    PlatformFailure "platform_failure" "The platform itself failed"
    UnknownFailure "unknown_failure" "It failed in a way that is not recognised"
}

/// One entry of the catalogue: what `/docs/errors#code` is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The stable name.
    pub code: &'static str,
    /// A short title for people.
    pub title: &'static str,
}

/// Every diagnosis there can be, in the order in which a deployment can meet them.
pub fn catalogue() -> Vec<Entry> {
    ALL.iter()
        .map(|code| Entry {
            code: code.as_str(),
            title: code.title(),
        })
        .collect()
}

/// A diagnosis without a place in the source. Both sentences lose control characters and are cut
/// at [`MAX_SENTENCE_CHARS`], because they often quote what a stranger's code said.
pub fn diagnosis(code: Code, cause: impl AsRef<str>, fix: impl AsRef<str>) -> Diagnosis {
    Diagnosis {
        code: code.as_str().to_owned(),
        cause: sentence(cause.as_ref()),
        fix: sentence(fix.as_ref()),
        location: None,
    }
}

/// The platform's own fault: a full disk, an engine that does not answer. `what` is for people.
pub fn platform_failure(what: impl AsRef<str>) -> Diagnosis {
    diagnosis(
        Code::PlatformFailure,
        what,
        "Deploy again; if it fails again, ask whoever runs this platform to look at the runner's log.",
    )
}

/// What nothing recognises: the last lines as they were, and no guess.
pub fn unknown_failure(doing: &str, tail: &[String]) -> Diagnosis {
    let last = last_lines(tail);
    let cause = if last.is_empty() {
        format!("{doing} failed without saying why.")
    } else {
        format!("{doing} failed; the last lines were: {last}")
    };
    diagnosis(
        Code::UnknownFailure,
        cause,
        "Read the log of this deployment above these lines, correct what it names, and deploy again.",
    )
}

/// Adds `file:line` of the tenant's source.
fn at(mut diagnosis: Diagnosis, file: Option<&str>, line: Option<u64>) -> Diagnosis {
    diagnosis.location = file.map(|file| {
        let file = sentence(source_path(file));
        line.map_or(file.clone(), |line| format!("{file}:{line}"))
    });
    diagnosis
}

/// A path as the user knows it: the source is mounted at `/app` in instances and builds.
fn source_path(path: &str) -> &str {
    path.strip_prefix("/app/").unwrap_or(path)
}

/// The last three lines that say something, joined.
fn last_lines(tail: &[String]) -> String {
    let mut lines: Vec<&str> = tail
        .iter()
        .rev()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty() && !is_noise(line))
        .take(3)
        .collect();
    lines.reverse();
    lines.join(" | ")
}

/// Lines that well-behaved servers print when they stop or start. They never explain a failure.
fn is_noise(line: &str) -> bool {
    const NOISE: &[&str] = &[
        "AuthlibDeprecationWarning",
        "Error in standalone SSE writer",
        "ClosedResourceError",
        "timeout graceful shutdown exceeded",
        "Update available",
        "@@berth ",
    ];
    NOISE.iter().any(|noise| line.contains(noise))
}

/// One line without control characters, at most [`MAX_SENTENCE_CHARS`] long.
fn sentence(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_SENTENCE_CHARS));
    let mut space = false;
    let mut length = 0;
    for character in text.trim().chars() {
        if character.is_whitespace() || character.is_control() {
            space = true;
            continue;
        }
        if length >= MAX_SENTENCE_CHARS {
            clean.push('…');
            break;
        }
        if space {
            clean.push(' ');
            length += 1;
            space = false;
        }
        clean.push(character);
        length += 1;
    }
    clean
}

/// `a`, `a and b`, `a, b and c`; the first `most` of them, and how many more there are.
pub(crate) fn list(items: &[impl AsRef<str>], most: usize) -> String {
    let shown: Vec<&str> = items.iter().take(most).map(AsRef::as_ref).collect();
    let more = items.len() - shown.len();
    match (shown.as_slice(), more) {
        ([], _) => String::new(),
        ([one], 0) => (*one).to_owned(),
        ([init @ .., last], 0) => format!("{} and {last}", init.join(", ")),
        (all, more) => format!("{} and {more} more", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_stable_in_form() {
        let mut seen = std::collections::HashSet::new();
        for entry in catalogue() {
            assert!(seen.insert(entry.code), "{} twice", entry.code);
            assert!(
                entry
                    .code
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{}",
                entry.code
            );
            assert!(!entry.title.is_empty());
        }
    }

    #[test]
    fn every_code_has_its_place_on_the_page() {
        let page = include_str!("../../../web/templates/docs/errors.html");
        let anchors: Vec<&str> = page
            .split("<section class=\"panel\" id=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let codes: Vec<&str> = catalogue().into_iter().map(|entry| entry.code).collect();
        assert_eq!(anchors, codes);
    }

    #[test]
    fn sentences_lose_control_characters_and_excess() {
        assert_eq!(sentence(" a\n\t b\u{1b}[31m c "), "a b [31m c");
        let long = sentence(&"x".repeat(5_000));
        assert_eq!(long.chars().count(), MAX_SENTENCE_CHARS + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn unknown_failures_quote_and_do_not_guess() {
        let tail = vec![
            "first".to_owned(),
            "boom: 7".to_owned(),
            "Cancel 0 running task(s), timeout graceful shutdown exceeded".to_owned(),
            String::new(),
        ];
        let found = unknown_failure("Starting the server", &tail);
        assert_eq!(found.code, "unknown_failure");
        assert_eq!(
            found.cause,
            "Starting the server failed; the last lines were: first | boom: 7"
        );
        assert!(
            unknown_failure("It", &[])
                .cause
                .contains("without saying why")
        );
    }

    #[test]
    fn lists_read_well() {
        let none: [&str; 0] = [];
        assert_eq!(list(&none, 3), "");
        assert_eq!(list(&["a"], 3), "a");
        assert_eq!(list(&["a", "b", "c"], 3), "a, b and c");
        assert_eq!(list(&["a", "b", "c"], 2), "a, b and 1 more");
    }
}
