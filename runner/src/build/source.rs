//! Where the code of deployments is kept: one directory for each exact commit or archive,
//! written once and never changed.
//!
//! ```text
//! <root>/git-<commit>-<repository>/commit.json   what it is, and how much
//! <root>/git-<commit>-<repository>/tree/         the files; mounted read-only into instances
//! <root>/upload-<sha256>/…
//! <root>/.incoming-…                             being written; removed at the next start
//! ```
//! The repository is part of the name: whoever knows a commit's id could otherwise deploy the
//! code of a repository that only somebody else can read.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use outbound::{AllowedAddress, Reach};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::access;
use super::archive::{self, Refusal, Totals};
use super::fetch::{self, Say};
use super::git_url::checked_url;
use super::transport::Session;
use super::upload::{hex, receive, upload_missing, upload_timeout};
use crate::diagnose::{self, Code};
use crate::logs::LogWriter;
use crate::protocol::{self, Diagnosis, RepositoryAccess, Source};

/// Longest fetch of a source, whatever the build may still take.
pub const FETCH_TIMEOUT: Duration = Duration::from_mins(1);
/// Directories of this name are not finished.
const INCOMING: &str = ".incoming-";
/// Hex digits of the repository's hash in a directory's name: 64 bits tell one's repositories apart.
const REPOSITORY_DIGITS: usize = 16;

pub use super::upload::{MAX_UPLOAD_BYTES, UploadSource, UploadStream};

/// What sources a runner accepts.
#[derive(Debug, Clone, Default)]
pub struct SourceSettings {
    /// Whether `file://` repositories may be read: everything the runner can read, for everybody
    /// who may deploy. For one's own machine only.
    pub allow_file: bool,
    /// Private hosts and networks that repositories may be fetched from.
    pub allow_private_addresses: Vec<AllowedAddress>,
}

/// A source on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTree {
    /// The directory with the files. Never written to again.
    pub path: PathBuf,
    /// What exactly it is.
    pub commit: protocol::Commit,
}

/// The directory of all sources.
pub struct SourceStore {
    root: PathBuf,
    settings: SourceSettings,
    reach: Reach,
}

/// `commit.json`: what lies beside it, and enough to notice that it was damaged.
#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    subject: Option<String>,
    author: Option<String>,
    totals: Totals,
}

impl SourceStore {
    /// Opens the store, makes its directory, and removes what an interrupted run left unfinished.
    pub fn new(root: PathBuf, settings: SourceSettings) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .with_context(|| format!("cannot create {}", root.display()))?;
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(INCOMING) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let reach = Reach::new(&settings.allow_private_addresses);
        Ok(Self {
            root,
            settings,
            reach,
        })
    }

    /// Gives the tree of a source, from the store or from where it comes. Takes at most
    /// [`FETCH_TIMEOUT`] and not beyond `deadline`; dropping the future stops the work.
    pub async fn obtain(
        &self,
        source: &Source,
        uploads: &dyn UploadSource,
        log: &LogWriter,
        deadline: Instant,
    ) -> Result<SourceTree, Diagnosis> {
        let log = log.clone();
        let say: Say = Arc::new(move |text| log.line(text));
        self.obtain_saying(source, uploads, say, deadline).await
    }

    /// The same; `say` hears what happens.
    pub(crate) async fn obtain_saying(
        &self,
        source: &Source,
        uploads: &dyn UploadSource,
        say: Say,
        deadline: Instant,
    ) -> Result<SourceTree, Diagnosis> {
        let deadline = deadline.min(Instant::now() + FETCH_TIMEOUT);
        match source {
            Source::Git {
                url,
                reference,
                commit,
                repository,
            } => {
                let request = |url| fetch::Request {
                    url,
                    reference: reference.clone().filter(|name| !name.trim().is_empty()),
                    commit: commit.as_ref().map(|id| id.to_ascii_lowercase()),
                };
                let Some(id) = *repository else {
                    let url = checked_url(url, self.settings.allow_file)?;
                    return self.obtain_git(request(url), None, say, deadline).await;
                };
                // What is here needs no access, and no GitHub that answers.
                if let (Some(commit), Ok(url)) = (commit, Url::parse(url))
                    && let Some(tree) = self.find(git_name(commit, &url, Some(id))).await
                {
                    say(format!("The source of {commit} is already here."));
                    return Ok(tree);
                }
                let access = tokio::time::timeout_at(deadline.into(), uploads.access(id))
                    .await
                    .map_err(|late| access::unavailable(&late.into()))?
                    .map_err(|error| access::unavailable(&error))?
                    .ok_or_else(access::refused)?;
                let request = request(access::checked_url(url, &access.origin)?);
                self.obtain_git(request, Some((id, access)), say, deadline)
                    .await
            }
            Source::Upload { sha256 } => self.obtain_upload(sha256, uploads, say, deadline).await,
            Source::Package(package) => Err(diagnose::platform_failure(format!(
                "{package} has no source to fetch."
            ))),
        }
    }

    /// The tree of a package's deployments: what its installer reads, and nothing else.
    pub async fn written(
        &self,
        package: &protocol::Package,
        files: &[(&str, String)],
    ) -> Result<PathBuf, Diagnosis> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, name, text.as_bytes())
                .map_err(disk)?;
        }
        let archive = archive.into_inner().map_err(disk)?;
        let name = format!("package-{}", hex(digest(&SHA256, &archive).as_ref()));
        if let Some(tree) = self.find(name.clone()).await {
            return Ok(tree.path);
        }
        let root = self.root.clone();
        let commit = protocol::Commit {
            id: package.version.clone().unwrap_or_default(),
            subject: None,
            author: None,
        };
        let tree = blocking(move || {
            let incoming = Incoming::new(&root)?;
            incoming.keep(&root, &name, &*archive, commit, Code::PlatformFailure)
        })
        .await?;
        Ok(tree.path)
    }

    /// Removes every source but those whose tree is in `keep`, and says how many.
    pub fn retain(&self, keep: &[PathBuf]) -> anyhow::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(INCOMING) || keep.contains(&path.join("tree")) {
                continue;
            }
            remove(&self.root, &path)?;
            removed += 1;
        }
        Ok(removed)
    }

    async fn obtain_git(
        &self,
        request: fetch::Request,
        access: Option<(i64, RepositoryAccess)>,
        say: Say,
        deadline: Instant,
    ) -> Result<SourceTree, Diagnosis> {
        let shown = request.url.to_string();
        let repository = access.as_ref().map(|(id, _)| *id);
        if let Some(commit) = &request.commit
            && let Some(tree) = self.find(git_name(commit, &request.url, repository)).await
        {
            say(format!("The source of {commit} is already here."));
            return Ok(tree);
        }
        say(match (&request.commit, &request.reference) {
            (Some(commit), _) => format!("Fetching {shown} at {commit}."),
            (None, Some(reference)) => format!("Fetching {reference} of {shown}."),
            (None, None) => format!("Fetching {shown}."),
        });
        let canceled = CancellationToken::new();
        let stop = canceled.clone().drop_guard();
        let session = self
            .session(
                &request.url,
                access.map(|(_, access)| access),
                deadline,
                canceled,
            )
            .map_err(|error| {
                diagnose::platform_failure(format!("The runner cannot fetch: {error:#}."))
            })?;
        let root = self.root.clone();
        let log = Arc::clone(&say);
        let result = blocking(move || {
            let incoming = Incoming::new(&root)?;
            let mut archive = incoming.file("archive")?;
            let scratch = incoming.path().join("repository");
            let commit = fetch::fetch(
                &request,
                session,
                &scratch,
                BufWriter::new(&mut archive),
                &log,
            )
            .map_err(|fault| {
                diagnose::from_fetch_fault(
                    &fault,
                    request.url.as_str(),
                    request.reference.as_deref(),
                )
            })?;
            let name = git_name(&commit.id, &request.url, repository);
            archive.rewind().map_err(disk)?;
            // The packs are not needed any more, and the tree may be as large.
            let _ = fs::remove_dir_all(&scratch);
            incoming.keep(
                &root,
                &name,
                BufReader::new(archive),
                commit,
                Code::RepositoryUnreadable,
            )
        })
        .await?;
        drop(stop);
        say(format!(
            "Fetched commit {}{}.",
            result.commit.id,
            result
                .commit
                .subject
                .as_ref()
                .map(|subject| format!(": {subject}"))
                .unwrap_or_default()
        ));
        Ok(result)
    }

    fn session(
        &self,
        url: &Url,
        access: Option<RepositoryAccess>,
        deadline: Instant,
        canceled: CancellationToken,
    ) -> anyhow::Result<Option<Session>> {
        let Some(access) = access else {
            return fetch::session(url, &self.reach, deadline.into(), canceled);
        };
        let session = Session::new(url.clone(), &access::reach(url), deadline.into(), canceled)?;
        Ok(Some(session.with_credential(access::header(&access)?)))
    }

    async fn obtain_upload(
        &self,
        sha256: &str,
        uploads: &dyn UploadSource,
        say: Say,
        deadline: Instant,
    ) -> Result<SourceTree, Diagnosis> {
        let well_formed = sha256.len() == 64
            && sha256
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !well_formed {
            return Err(upload_missing());
        }
        let name = format!("upload-{sha256}");
        if let Some(tree) = self.find(name.clone()).await {
            say("The uploaded source is already here.".to_owned());
            return Ok(tree);
        }
        say("Receiving the uploaded source.".to_owned());
        let incoming = Incoming::new(&self.root)?;
        let archive = incoming.file("archive")?;
        let received = receive(uploads, sha256, archive);
        let archive = tokio::time::timeout_at(deadline.into(), received)
            .await
            .map_err(|_| upload_timeout())??;
        let root = self.root.clone();
        let commit = protocol::Commit {
            id: sha256.to_owned(),
            subject: None,
            author: None,
        };
        let tree = blocking(move || {
            let unpacked = flate2::read::MultiGzDecoder::new(BufReader::new(archive));
            incoming.keep(&root, &name, unpacked, commit, Code::ArchiveCorrupt)
        })
        .await?;
        say(format!("Received the source {}.", &sha256[..12]));
        Ok(tree)
    }

    /// A finished source, if it is there and still whole.
    async fn find(&self, name: String) -> Option<SourceTree> {
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || find_in(&root, &name))
            .await
            .ok()
            .flatten()
    }
}

fn find_in(root: &Path, name: &str) -> Option<SourceTree> {
    let path = root.join(name);
    let record: Record = serde_json::from_slice(&fs::read(path.join("commit.json")).ok()?).ok()?;
    let tree = path.join("tree");
    if measure(&tree).ok()? != record.totals {
        // A crash of the machine can lose what was written last.
        tracing::warn!(
            source.name = name,
            "a stored source is damaged and is fetched again"
        );
        remove(root, &path).ok()?;
        return None;
    }
    Some(SourceTree {
        path: tree,
        commit: protocol::Commit {
            id: record.id,
            subject: record.subject,
            author: record.author,
        },
    })
}

/// Removes a source; out of sight first, so that an interruption leaves nothing that looks whole.
fn remove(root: &Path, path: &Path) -> io::Result<()> {
    let doomed = root.join(format!("{INCOMING}{}", uuid::Uuid::new_v4()));
    fs::rename(path, &doomed)?;
    fs::remove_dir_all(&doomed)
}

/// A directory that is being filled; removed unless it is kept.
struct Incoming(tempfile::TempDir);

impl Incoming {
    fn new(root: &Path) -> Result<Self, Diagnosis> {
        let directory = tempfile::Builder::new()
            .prefix(INCOMING)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(root)
            .map_err(disk)?;
        Ok(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> Result<File, Diagnosis> {
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path().join(name))
            .map_err(disk)
    }

    /// Extracts the archive, records what it is, and gives it its name in one step.
    fn keep(
        self,
        root: &Path,
        name: &str,
        archive: impl Read,
        commit: protocol::Commit,
        corrupt: Code,
    ) -> Result<SourceTree, Diagnosis> {
        let finished = self.path().join("finished");
        let tree = finished.join("tree");
        for directory in [&finished, &tree] {
            fs::DirBuilder::new()
                .mode(0o755)
                .create(directory)
                .map_err(disk)?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(disk)?;
        }
        let totals = archive::extract(archive, &tree)
            .map_err(|refusal| diagnose::from_archive_refusal(&refusal, corrupt))?;
        let record = Record {
            id: commit.id.clone(),
            subject: commit.subject.clone(),
            author: commit.author.clone(),
            totals,
        };
        let mut file = File::create_new(finished.join("commit.json")).map_err(disk)?;
        serde_json::to_writer(&mut file, &record)
            .map_err(io::Error::from)
            .and_then(|()| file.sync_all())
            .map_err(disk)?;
        let place = root.join(name);
        match fs::rename(&finished, &place) {
            Ok(()) => {}
            // Another deployment of the same source was faster; both are the same.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) => {}
            Err(error) => return Err(disk(error)),
        }
        Ok(SourceTree {
            path: place.join("tree"),
            commit,
        })
    }
}

/// What was read with access lies apart from what everybody may read at the same address: who only
/// names the address and the commit must not find it here.
fn git_name(commit: &str, url: &Url, access: Option<i64>) -> String {
    let named = match access {
        Some(id) => format!("{id} {url}"),
        None => url.to_string(),
    };
    let repository = hex(digest(&SHA256, named.as_bytes()).as_ref());
    format!("git-{commit}-{}", &repository[..REPOSITORY_DIGITS])
}

/// What a tree holds, without following links.
fn measure(tree: &Path) -> io::Result<Totals> {
    let mut totals = Totals::default();
    let mut ahead = vec![tree.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                ahead.push(entry.path());
            } else {
                totals.files += 1;
                totals.bytes += if metadata.is_file() {
                    metadata.len()
                } else {
                    0
                };
            }
        }
    }
    Ok(totals)
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Diagnosis> + Send + 'static,
) -> Result<T, Diagnosis> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        diagnose::platform_failure(format!(
            "The runner failed while reading the source: {error}."
        ))
    })?
}

fn disk(error: io::Error) -> Diagnosis {
    diagnose::from_archive_refusal(&Refusal::Disk(error), Code::PlatformFailure)
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile;
