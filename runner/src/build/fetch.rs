//! From a repository's address to the archive of one commit, with libgit2 as a reader only.
//!
//! Nothing is checked out: blobs are copied from the commit's tree into an archive, so hooks,
//! filters, attributes and submodules have no chance to run or to name a path on this machine.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use git2::{
    AutotagOption, Direction, ErrorClass, ErrorCode, FetchOptions, Oid, RemoteCallbacks,
    Repository, RepositoryInitOptions,
};
use outbound::Reach;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::archive::Refusal;
use super::commit::write_commit;
use super::names::printable;
use super::transport::{Fault, Registered, Session};
use crate::protocol;

/// Most objects of one fetch: every node, the trees between them, and some history.
const MAX_OBJECTS: usize = 500_000;

/// What to read.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where, already checked by [`super::source`].
    pub url: Url,
    /// Branch, tag, or `None` for the remote's HEAD.
    pub reference: Option<String>,
    /// The exact commit, once known.
    pub commit: Option<String>,
}

/// Says something for the build's log.
pub type Say = Arc<dyn Fn(String) + Send + Sync>;

/// Why nothing came of it.
#[derive(Debug)]
pub enum FetchFault {
    /// The network, the host or its answer.
    Network(Fault),
    /// Nothing readable at a `file://` address.
    NotARepository,
    /// A `file://` repository that belongs to somebody else.
    ForeignOwner,
    /// No commit at all.
    Empty,
    /// No such branch or tag; those there are.
    NoSuchReference(Vec<String>),
    /// The commit is not there or the host does not give it.
    NoSuchCommit(String),
    /// Git's data is broken or of a kind that is not supported. The text is libgit2's.
    Unreadable(String),
    /// The tree is refused.
    Refused(Refusal),
}

impl From<Refusal> for FetchFault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Fetches and writes the archive of the commit into `out`. `scratch` is an empty directory for
/// the temporary repository. Blocking; `handle`d work runs on the current tokio runtime.
pub fn fetch(
    request: &Request,
    session: Option<Session>,
    scratch: &Path,
    out: impl Write,
    say: &Say,
) -> Result<protocol::Commit, FetchFault> {
    match session {
        None => local(request, out, say),
        Some(session) => {
            let registered = Registered::new(session)
                .map_err(|error| FetchFault::Unreadable(error.to_string()))?;
            let result = remote(request, &registered, scratch, out, say);
            // The session knows what libgit2 could only put into words.
            match registered.session.fault() {
                Some(fault) if result.is_err() => Err(FetchFault::Network(fault)),
                _ => result,
            }
        }
    }
}

/// A session for an `https` request; `None` for a local repository.
pub fn session(
    url: &Url,
    reach: &Reach,
    deadline: Instant,
    canceled: CancellationToken,
) -> anyhow::Result<Option<Session>> {
    if url.scheme() == "file" {
        return Ok(None);
    }
    Session::new(url.clone(), reach, deadline, canceled).map(Some)
}

/// Reads a repository on this machine where it is. Nothing of its configuration takes effect on
/// reading objects, and nothing is copied that is not in the commit.
fn local(request: &Request, out: impl Write, say: &Say) -> Result<protocol::Commit, FetchFault> {
    let path = request
        .url
        .to_file_path()
        .map_err(|()| FetchFault::NotARepository)?;
    let repository = Repository::open(&path).map_err(|error| match error.code() {
        ErrorCode::Owner => FetchFault::ForeignOwner,
        ErrorCode::NotFound => FetchFault::NotARepository,
        _ => unreadable(&error),
    })?;
    let wanted = request.commit.as_deref().or_else(|| {
        let reference = request.reference.as_deref()?;
        is_commit_id(reference).then_some(reference)
    });
    let oid = match (wanted, &request.reference) {
        (Some(id), _) => parse_oid(id)?,
        (None, Some(reference)) => local_reference(&repository, reference)?,
        (None, None) => match repository.head() {
            Ok(head) => peel(&head)?,
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => {
                return Err(FetchFault::Empty);
            }
            Err(error) => return Err(unreadable(&error)),
        },
    };
    write_commit(&repository, oid, out, say)
}

fn local_reference(repository: &Repository, name: &str) -> Result<Oid, FetchFault> {
    for full in full_names(name) {
        if let Ok(reference) = repository.find_reference(&full) {
            return peel(&reference);
        }
    }
    let names = repository
        .references()
        .map_err(|error| unreadable(&error))?
        .filter_map(Result::ok)
        .filter_map(|reference| reference.name().ok().and_then(short_name));
    Err(FetchFault::NoSuchReference(names.collect()))
}

fn peel(reference: &git2::Reference<'_>) -> Result<Oid, FetchFault> {
    reference
        .peel_to_commit()
        .map(|commit| commit.id())
        .map_err(|error| unreadable(&error))
}

/// Fetches over the registered transport into a temporary bare repository.
fn remote(
    request: &Request,
    registered: &Registered,
    scratch: &Path,
    out: impl Write,
    say: &Say,
) -> Result<protocol::Commit, FetchFault> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).external_template(false);
    let repository =
        Repository::init_opts(scratch, &options).map_err(|error| unreadable(&error))?;
    let mut remote = repository
        .remote_anonymous(&registered.url())
        .map_err(|error| unreadable(&error))?;
    remote
        .connect(Direction::Fetch)
        .map_err(|error| unreadable(&error))?;
    let heads: Vec<(String, Oid)> = remote
        .list()
        .map_err(|error| unreadable(&error))?
        .iter()
        .map(|head| (head.name().to_owned(), head.oid()))
        .collect();
    let wanted = choose(request, &heads)?;
    let mut attempts = wanted.attempts(&heads).into_iter().peekable();
    loop {
        let Some((spec, depth)) = attempts.next() else {
            return Err(FetchFault::NoSuchCommit(wanted.oid.to_string()));
        };
        let fetched = remote.fetch(
            &[spec.as_str()],
            Some(&mut fetch_options(registered, depth)),
            None,
        );
        let over = registered.session.is_over() || registered.session.fault().is_some();
        match fetched {
            Err(error) if over || attempts.peek().is_none() && !wanted.exact => {
                return Err(unreadable(&error));
            }
            _ => {}
        }
        // A tag leads to its commit; an exact commit must be there under its own id.
        if let Ok(found) = repository.find_object(wanted.oid, None)
            && let Ok(commit) = found.peel_to_commit()
        {
            return write_commit(&repository, commit.id(), out, say);
        }
    }
}

/// What is to be fetched.
struct Wanted {
    oid: Oid,
    /// The remote name it was found under.
    name: Option<String>,
    /// Asked for by its id, so that its branch may have moved on.
    exact: bool,
}

impl Wanted {
    /// Refspecs to try with their depths (0 is all of the history), cheapest first.
    fn attempts(&self, heads: &[(String, Oid)]) -> Vec<(String, i32)> {
        const INTO: &str = "refs/berth/wanted";
        let mut attempts = Vec::new();
        let tip = heads
            .iter()
            .find(|(name, oid)| *oid == self.oid && !name.ends_with("^{}"))
            .map(|(name, _)| name.clone());
        if let Some(name) = tip.or_else(|| self.name.clone().filter(|_| !self.exact)) {
            attempts.push((format!("+{name}:{INTO}"), 1));
            // For hosts that know no shallow fetch.
            attempts.push((format!("+{name}:{INTO}"), 0));
        } else if self.exact {
            attempts.push((format!("+{}:{INTO}", self.oid), 1));
            let branch = self.name.clone().unwrap_or_else(|| "HEAD".to_owned());
            attempts.push((format!("+{branch}:{INTO}"), 0));
        }
        attempts
    }
}

/// Finds in the remote's list what is asked for.
fn choose(request: &Request, heads: &[(String, Oid)]) -> Result<Wanted, FetchFault> {
    let find = |wanted: &str| heads.iter().find(|(name, _)| name == wanted);
    let named = request
        .reference
        .iter()
        .flat_map(|reference| full_names(reference))
        .find_map(|full| find(&full));
    let exact = request.commit.as_deref().or_else(|| {
        let reference = request.reference.as_deref()?;
        (named.is_none() && is_commit_id(reference)).then_some(reference)
    });
    if let Some(id) = exact {
        return Ok(Wanted {
            oid: parse_oid(id)?,
            name: named.map(|(name, _)| name.clone()),
            exact: true,
        });
    }
    if let Some((name, oid)) = named {
        return Ok(Wanted {
            oid: *oid,
            name: Some(name.clone()),
            exact: false,
        });
    }
    if request.reference.is_some() {
        let names = heads
            .iter()
            .filter_map(|(name, _)| short_name(name))
            .collect();
        return Err(FetchFault::NoSuchReference(names));
    }
    let (name, oid) = find("HEAD").ok_or(FetchFault::Empty)?;
    Ok(Wanted {
        oid: *oid,
        name: Some(name.clone()),
        exact: false,
    })
}

fn fetch_options(registered: &Registered, depth: i32) -> FetchOptions<'static> {
    let session = Arc::clone(&registered.session);
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(move |progress| {
        !session.is_over() && progress.total_objects() <= MAX_OBJECTS
    });
    let mut options = FetchOptions::new();
    options
        .remote_callbacks(callbacks)
        .download_tags(AutotagOption::None)
        .update_fetchhead(false)
        .depth(depth);
    options
}

/// Where a short name can stand: a branch first, then a tag.
fn full_names(name: &str) -> Vec<String> {
    let candidates = if name.starts_with("refs/") {
        vec![name.to_owned()]
    } else {
        vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")]
    };
    candidates
        .into_iter()
        .filter(|full| git2::Reference::is_valid_name(full))
        .collect()
}

/// `main` for `refs/heads/main`; nothing for what is neither branch nor tag.
fn short_name(full: &str) -> Option<String> {
    let name = full
        .strip_prefix("refs/heads/")
        .or_else(|| full.strip_prefix("refs/tags/"))?;
    (!name.ends_with("^{}")).then(|| printable(name.as_bytes()))
}

/// 40 hexadecimal digits, which is also what a branch name is never meant to be.
pub fn is_commit_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn parse_oid(id: &str) -> Result<Oid, FetchFault> {
    if !is_commit_id(id) {
        return Err(FetchFault::NoSuchCommit(printable(id.as_bytes())));
    }
    Oid::from_str(id).map_err(|_| FetchFault::NoSuchCommit(printable(id.as_bytes())))
}

pub(super) fn unreadable(error: &git2::Error) -> FetchFault {
    if error.class() == ErrorClass::Os {
        return FetchFault::Refused(Refusal::Disk(std::io::Error::other(
            error.message().to_owned(),
        )));
    }
    FetchFault::Unreadable(error.message().to_owned())
}
