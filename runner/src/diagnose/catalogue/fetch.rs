//! Fetching and unpacking a source. Their sentences are made where the fault is found, since they
//! name the address, the commit or the file.

use crate::diagnose::code::Code;
use crate::diagnose::entry::{Change, Entry, Match, Phase};

/// An entry that the runner finds itself while it fetches.
const fn fetched(
    code: Code,
    title: &'static str,
    matches: &'static [Match],
    cause: &'static str,
    fix: &'static str,
) -> Entry {
    Entry {
        code,
        phase: Phase::Fetch,
        title,
        matches,
        cause,
        fix,
        change: Change::None,
        verified: &[],
        rows: &[],
    }
}

pub const ENTRIES: &[Entry] = &[
    fetched(
        Code::SourceUrlInvalid,
        "The repository's address cannot be used",
        &[Match::Found(
            "The address is checked before anything is fetched.",
        )],
        "The address is not one that a repository can be read from.",
        "Use an https address without a user name or password, like `https://github.com/you/server.git`; addresses beginning with `file://` work only where the operator allows them.",
    ),
    fetched(
        Code::AddressForbidden,
        "The repository's host is on a private network",
        &[Match::Found(
            "The host's name resolves to an address that is not public.",
        )],
        "The repository's host is on a private network, and the runner does not fetch from there: otherwise anyone who deploys could read what only the runner's network can reach.",
        "Use a repository on a public host; an operator allows an own Git host with `BERTH_BUILD_ALLOW`, see `berth runner --help`.",
    ),
    fetched(
        Code::RepositoryUnreachable,
        "The repository's host does not answer",
        &[Match::Found(
            "The connection fails, or the host answers with an error.",
        )],
        "The host did not answer, its certificate is not trusted, or the connection broke.",
        "Check the spelling of the host, open the address in a browser, and deploy again.",
    ),
    fetched(
        Code::RepositoryNotFound,
        "There is no readable repository at the address",
        &[Match::Found(
            "The host answers 401, 403, 404 or 410, or the directory is no repository.",
        )],
        "The host answers, but has no repository there that can be read without signing in.",
        "Check the address; a private repository cannot be read by its address alone, and is deployed with `berth deploy PATH`.",
    ),
    fetched(
        Code::RepositoryEmpty,
        "The repository has no commits",
        &[Match::Found("Its default branch leads to no commit.")],
        "The repository is there and has no commit.",
        "Push a commit and deploy again.",
    ),
    fetched(
        Code::RepositoryUnreadable,
        "The repository's data cannot be read",
        &[Match::Found(
            "The objects it sends are not what Git defines, or belong to another user.",
        )],
        "What the host sent is not a Git repository as Git defines it.",
        "Run `git fsck` on the repository and push it again.",
    ),
    fetched(
        Code::RefNotFound,
        "The branch or tag does not exist",
        &[Match::Found(
            "The repository's list of branches and tags lacks it.",
        )],
        "The branch or tag does not exist in the repository.",
        "Check its spelling; the message names those that are there.",
    ),
    fetched(
        Code::CommitNotFound,
        "The commit cannot be fetched",
        &[Match::Found("The repository does not give out the commit.")],
        "The host does not give out this commit, or it was removed by a force-push.",
        "Deploy the branch instead, or push the commit again.",
    ),
    fetched(
        Code::FetchTimeout,
        "Fetching the source took too long",
        &[Match::Found("The time that a fetch may take is over.")],
        "The source did not arrive within the time a fetch may take.",
        "Deploy again; if it stays, make the repository smaller.",
    ),
    fetched(
        Code::SourceTooLarge,
        "The source is larger than allowed",
        &[Match::Found(
            "Its files or bytes are counted while they arrive.",
        )],
        "The source has more files or bytes than a deployment may have.",
        "Leave out what the server does not need: data, models, virtual environments; for uploads, name it in `.gitignore` or `.dockerignore`.",
    ),
    fetched(
        Code::SymlinkEscapes,
        "A symbolic link leaves the source",
        &[Match::Found(
            "A link's target is followed before it is written.",
        )],
        "A symbolic link points outside the source; on a shared machine that would reach other people's files.",
        "Replace the link by the file, or by a relative link inside the source.",
    ),
    fetched(
        Code::FileNameInvalid,
        "A file name cannot be accepted",
        &[Match::Found("Every name is checked before it is written.")],
        "A file has a name that cannot be unpacked safely, such as `..` or `.git`.",
        "Rename it and deploy again.",
    ),
    fetched(
        Code::ArchiveCorrupt,
        "The uploaded archive cannot be read",
        &[Match::Found(
            "It is not a complete gzip-compressed tar archive.",
        )],
        "The upload is not a complete gzip-compressed tar archive.",
        "Send it with `berth deploy PATH`; if you did, send it again.",
    ),
    fetched(
        Code::UploadMissing,
        "The uploaded archive is no longer there",
        &[Match::Found(
            "The platform's store has no archive of that hash.",
        )],
        "The archive of this deployment is no longer in the platform's store.",
        "Run `berth deploy PATH` again.",
    ),
];
