//! From a repository's address to the archive of one commit, with libgit2 as a reader only.
//!
//! Nothing is checked out: blobs are copied from the commit's tree into an archive, so hooks,
//! filters, attributes and submodules have no chance to run or to name a path on this machine.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use git2::{
    AutotagOption, Commit, Direction, ErrorClass, ErrorCode, FetchOptions, FileMode, ObjectType,
    Oid, RemoteCallbacks, Repository, RepositoryInitOptions,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::address::Reach;
use super::archive::{self, MAX_NODES, MAX_TREE_BYTES, Refusal};
use super::transport::{Fault, Registered, Session};
use crate::protocol;

/// Most bytes of one tree object, which libgit2 holds in memory: 20,000 entries of 255 bytes fit.
const MAX_TREE_OBJECT_BYTES: usize = 8 * 1024 * 1024;
/// Most bytes of one commit object.
const MAX_COMMIT_BYTES: usize = 1024 * 1024;
/// Most bytes of one file, which is held in memory on its way: what the large Git hosts accept.
const MAX_BLOB_BYTES: usize = 100 * 1024 * 1024;
/// Most characters of a commit's first line that are kept.
const MAX_SUBJECT_CHARS: usize = 200;
/// A file below this size may be a pointer of Git LFS (its specification says under 1024 bytes).
const MAX_POINTER_BYTES: usize = 1024;
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

/// Copies the commit's tree into an archive.
fn write_commit(
    repository: &Repository,
    oid: Oid,
    out: impl Write,
    say: &Say,
) -> Result<protocol::Commit, FetchFault> {
    let missing = || FetchFault::NoSuchCommit(oid.to_string());
    let odb = repository.odb().map_err(|error| unreadable(&error))?;
    let (size, kind) = odb.read_header(oid).map_err(|_| missing())?;
    if kind != ObjectType::Commit {
        return Err(missing());
    }
    if size > MAX_COMMIT_BYTES {
        return Err(Refusal::TooLarge.into());
    }
    let commit = repository.find_commit(oid).map_err(|_| missing())?;
    let mut walk = Walk {
        repository,
        odb,
        writer: archive::Writer::new(out),
        bytes: 0,
        nodes: 0,
        pointers: Vec::new(),
        say,
    };
    walk.tree(commit.tree_id())?;
    walk.finish()?;
    Ok(described(&commit))
}

struct Walk<'a, W: Write> {
    repository: &'a Repository,
    odb: git2::Odb<'a>,
    writer: archive::Writer<W>,
    bytes: u64,
    nodes: usize,
    pointers: Vec<String>,
    say: &'a Say,
}

impl<W: Write> Walk<'_, W> {
    /// Walks without recursion: a stranger decides how deep a tree is.
    fn tree(&mut self, root: Oid) -> Result<(), FetchFault> {
        let mut ahead = vec![(String::new(), root)];
        while let Some((prefix, oid)) = ahead.pop() {
            let (size, _) = self
                .odb
                .read_header(oid)
                .map_err(|error| unreadable(&error))?;
            if size > MAX_TREE_OBJECT_BYTES {
                return Err(Refusal::TooMany.into());
            }
            let tree = self
                .repository
                .find_tree(oid)
                .map_err(|error| unreadable(&error))?;
            for entry in &tree {
                self.nodes += 1;
                if self.nodes > MAX_NODES {
                    return Err(Refusal::TooMany.into());
                }
                let name = component(entry.name_bytes())?;
                let path = if prefix.is_empty() {
                    name
                } else {
                    format!("{prefix}/{name}")
                };
                archive::checked_name(path.as_bytes())?;
                match FileModeOf::from(entry.filemode()) {
                    FileModeOf::Tree => ahead.push((path, entry.id())),
                    FileModeOf::Blob { executable } => self.blob(&path, entry.id(), executable)?,
                    FileModeOf::Link => self.link(&path, entry.id())?,
                    FileModeOf::Submodule => (self.say)(format!(
                        "Skipped the submodule {}: submodules are not fetched.",
                        printable(&path)
                    )),
                }
            }
        }
        Ok(())
    }

    /// Reads a blob whose size is checked before it is held.
    fn read(&mut self, oid: Oid) -> Result<git2::OdbObject<'_>, FetchFault> {
        let (size, kind) = self
            .odb
            .read_header(oid)
            .map_err(|error| unreadable(&error))?;
        if kind != ObjectType::Blob {
            return Err(FetchFault::Unreadable("a file is not a blob".to_owned()));
        }
        self.bytes += size as u64;
        if size > MAX_BLOB_BYTES || self.bytes > MAX_TREE_BYTES {
            return Err(Refusal::TooLarge.into());
        }
        self.odb.read(oid).map_err(|error| unreadable(&error))
    }

    fn blob(&mut self, path: &str, oid: Oid, executable: bool) -> Result<(), FetchFault> {
        let contents = self.read(oid)?.data().to_vec();
        if contents.len() < MAX_POINTER_BYTES
            && contents.starts_with(b"version https://git-lfs.github.com/spec/")
        {
            self.pointers.push(path.to_owned());
        }
        self.writer
            .file(path, executable, &contents)
            .map_err(|error| Refusal::Disk(error).into())
    }

    fn link(&mut self, path: &str, oid: Oid) -> Result<(), FetchFault> {
        let target = self.read(oid)?.data().to_vec();
        let refuse = |reason| Refusal::Link {
            link: printable(path),
            target: printable(&String::from_utf8_lossy(&target)),
            reason,
        };
        let text = std::str::from_utf8(&target).map_err(|_| refuse("its target is not UTF-8"))?;
        if text.len() > archive::MAX_PATH_BYTES {
            return Err(refuse("its target is longer than a path can be").into());
        }
        self.writer
            .link(path, text)
            .map_err(|error| Refusal::Disk(error).into())
    }

    fn finish(self) -> Result<(), FetchFault> {
        if let Some(first) = self.pointers.first() {
            (self.say)(format!(
                "{} file(s) are kept in Git LFS and come as pointers only, for example {}.",
                self.pointers.len(),
                printable(first)
            ));
        }
        self.writer
            .finish()
            .and_then(|mut out| out.flush())
            .map_err(|error| Refusal::Disk(error).into())
    }
}

/// A tree entry's mode, as Git knows it; old repositories hold group-writable files.
enum FileModeOf {
    Tree,
    Blob { executable: bool },
    Link,
    Submodule,
}

impl From<i32> for FileModeOf {
    fn from(mode: i32) -> Self {
        match mode {
            _ if mode == i32::from(FileMode::Tree) => Self::Tree,
            _ if mode == i32::from(FileMode::Link) => Self::Link,
            _ if mode == i32::from(FileMode::Commit) => Self::Submodule,
            _ => Self::Blob {
                executable: mode & 0o111 != 0,
            },
        }
    }
}

/// One name within a tree: Git itself forbids a slash in it, hostile trees hold one.
fn component(raw: &[u8]) -> Result<String, FetchFault> {
    let checked = archive::checked_name(raw)?;
    if checked.as_bytes() != raw || raw.contains(&b'/') {
        return Err(Refusal::Name {
            name: printable(&String::from_utf8_lossy(raw)),
            reason: "its name is not a file name",
        }
        .into());
    }
    Ok(checked)
}

fn described(commit: &Commit<'_>) -> protocol::Commit {
    let clean = |text: String| -> Option<String> {
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_SUBJECT_CHARS)
            .collect();
        let text = text.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    let first_line = |bytes: &[u8]| {
        let message = String::from_utf8_lossy(bytes);
        message
            .trim_start()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    protocol::Commit {
        id: commit.id().to_string(),
        subject: clean(first_line(commit.message_bytes())),
        author: clean(String::from_utf8_lossy(commit.author().name_bytes()).into_owned()),
    }
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
    (!name.ends_with("^{}")).then(|| printable(name))
}

/// 40 hexadecimal digits, which is also what a branch name is never meant to be.
pub fn is_commit_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn parse_oid(id: &str) -> Result<Oid, FetchFault> {
    if !is_commit_id(id) {
        return Err(FetchFault::NoSuchCommit(printable(id)));
    }
    Oid::from_str(id).map_err(|_| FetchFault::NoSuchCommit(printable(id)))
}

fn unreadable(error: &git2::Error) -> FetchFault {
    if error.class() == ErrorClass::Os {
        return FetchFault::Refused(Refusal::Disk(std::io::Error::other(
            error.message().to_owned(),
        )));
    }
    FetchFault::Unreadable(error.message().to_owned())
}

fn printable(text: &str) -> String {
    const MOST_CHARS: usize = 120;
    text.chars()
        .take(MOST_CHARS)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
