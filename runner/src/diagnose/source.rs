//! Diagnoses of fetching and unpacking a source.

use super::text::{diagnosis, list};
use super::{Code, platform_failure};
use crate::build::archive::{MAX_NODES, MAX_TREE_BYTES, Refusal};
use crate::build::fetch::FetchFault;
use crate::build::source::FETCH_TIMEOUT;
use crate::build::transport::{Fault, MAX_FETCH_BYTES};
use crate::protocol::Diagnosis;

/// Most branch names a sentence lists.
const MOST_NAMES: usize = 8;

/// A repository that could not be read. `url` is the checked address, without credentials.
pub(crate) fn from_fetch_fault(
    fault: &FetchFault,
    url: &str,
    reference: Option<&str>,
) -> Diagnosis {
    match fault {
        FetchFault::Network(fault) => from_network_fault(fault, url),
        FetchFault::NotARepository => diagnosis(
            Code::RepositoryNotFound,
            format!("There is no Git repository at {url}."),
            "Check the path; it must be the directory that holds .git, or a bare repository.",
        ),
        FetchFault::ForeignOwner => diagnosis(
            Code::RepositoryUnreadable,
            format!("{url} belongs to another user of the machine than the platform."),
            "Give the directory to the user who runs the platform (chown), or add it to git's safe.directory for them.",
        ),
        FetchFault::Empty => diagnosis(
            Code::RepositoryEmpty,
            format!("{url} has no commits on its default branch."),
            "Push a commit, or name the branch to deploy, and deploy again.",
        ),
        FetchFault::NoSuchReference(names) => {
            no_such_reference(reference.unwrap_or("HEAD"), url, names)
        }
        FetchFault::NoSuchCommit(id) => diagnosis(
            Code::CommitNotFound,
            format!("Commit {id} cannot be fetched from {url}."),
            "Push it, or deploy a commit that a branch or tag of the repository still leads to.",
        ),
        FetchFault::Unreadable(text) => diagnosis(
            Code::RepositoryUnreadable,
            format!(
                "The data of {url} cannot be read: {}.",
                text.trim_end_matches('.')
            ),
            "Check that `git clone` of this address works and deploy again.",
        ),
        FetchFault::Refused(refusal) => from_archive_refusal(refusal, Code::RepositoryUnreadable),
    }
}

fn no_such_reference(reference: &str, url: &str, names: &[String]) -> Diagnosis {
    let fix = if names.is_empty() {
        "Push it, or leave the branch empty to deploy the default one.".to_owned()
    } else {
        format!(
            "Use one of those it has ({}), or push it.",
            list(names, MOST_NAMES)
        )
    };
    diagnosis(
        Code::RefNotFound,
        format!("{url} has no branch or tag named {reference}."),
        fix,
    )
}

fn from_network_fault(fault: &Fault, url: &str) -> Diagnosis {
    match fault {
        Fault::Forbidden(why) => diagnosis(
            Code::AddressForbidden,
            format!("{url} is not fetched: {why}."),
            "Use a repository on a public host, or ask the operator to allow this host's address.",
        ),
        Fault::Unreachable(why) => diagnosis(
            Code::RepositoryUnreachable,
            format!("{url} cannot be reached: {}.", why.trim_end_matches('.')),
            "Check the host in the address, and deploy again once it answers.",
        ),
        Fault::NotFound(_) => diagnosis(
            Code::RepositoryNotFound,
            format!("There is no repository at {url} that can be read without signing in."),
            "Check the address; a private repository must be made public or be deployed with `berth deploy PATH`.",
        ),
        Fault::Status(status) => diagnosis(
            Code::RepositoryUnreachable,
            format!("{url} answered with status {status}."),
            "Deploy again in a few minutes; if it stays, check the host's status page.",
        ),
        Fault::Moved(to) => diagnosis(
            Code::RepositoryUnreachable,
            format!("{url} redirects to {to}."),
            "Use the address it redirects to, if you trust it.",
        ),
        Fault::TooLarge => diagnosis(
            Code::SourceTooLarge,
            format!(
                "{url} sends more than {} MiB.",
                MAX_FETCH_BYTES / 1024 / 1024
            ),
            "Move large files out of the repository, or deploy the needed part with `berth deploy PATH`.",
        ),
        Fault::TimedOut => diagnosis(
            Code::FetchTimeout,
            format!(
                "Fetching {url} took longer than {} seconds.",
                FETCH_TIMEOUT.as_secs()
            ),
            "Deploy again; if it stays, make the repository smaller or deploy with `berth deploy PATH`.",
        ),
        Fault::Canceled => diagnosis(
            Code::PlatformFailure,
            format!("Fetching {url} was stopped because the deployment ended."),
            "Deploy again.",
        ),
    }
}

/// An archive or tree that is refused. `corrupt` is the code for one that cannot be read, which
/// says where it came from.
pub(crate) fn from_archive_refusal(refusal: &Refusal, corrupt: Code) -> Diagnosis {
    match refusal {
        Refusal::Name { name, reason } => diagnosis(
            Code::FileNameInvalid,
            format!("The source holds a file that cannot be accepted, {name}: {reason}."),
            "Rename or remove the file and deploy again.",
        ),
        Refusal::Twice(name) => diagnosis(
            Code::FileNameInvalid,
            format!("The source holds {name} twice, or as a file and as a directory."),
            "Remove one of the two and deploy again.",
        ),
        Refusal::Link {
            link,
            target,
            reason,
        } => diagnosis(
            Code::SymlinkEscapes,
            format!("The symbolic link {link} points to {target}, and {reason}."),
            "Replace it with a file, or with a relative link to a file of the same source.",
        ),
        Refusal::Kind { name, kind } => diagnosis(
            Code::ArchiveCorrupt,
            format!(
                "The archive's {name} is {kind}; only files, directories and symbolic links are accepted."
            ),
            "Run `berth deploy` again, or pack the archive without it.",
        ),
        Refusal::TooMany => diagnosis(
            Code::SourceTooLarge,
            format!("The source has more than {MAX_NODES} files and directories."),
            "Leave out what the server does not need (virtual environments, node_modules, data) and deploy again.",
        ),
        Refusal::TooLarge => diagnosis(
            Code::SourceTooLarge,
            format!(
                "The source is larger than {} MiB, or one file of it larger than 100 MiB.",
                MAX_TREE_BYTES / 1024 / 1024
            ),
            "Leave out what the server does not need (virtual environments, models, data) and deploy again.",
        ),
        Refusal::Corrupt(why) => diagnosis(
            corrupt,
            format!(
                "The source's archive cannot be read: {}.",
                why.trim_end_matches('.')
            ),
            "Run `berth deploy` again; if it was packed by hand, pack it as a gzip-compressed tar.",
        ),
        Refusal::Disk(error) => {
            tracing::error!(error = %error, "cannot write a source");
            platform_failure(format!("The runner cannot write the source: {error}."))
        }
    }
}
