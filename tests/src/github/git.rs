//! The objects of repositories: real bare repositories, written and read with libgit2.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use git2::{Commit, Delta, DiffOptions, ObjectType, Oid, Repository, Signature, Time};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Shared;
use super::state::{self, Account, State};
use super::views;

/// What becomes of a file in a commit.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// It is written.
    Write(&'a str, &'a [u8]),
    /// It is removed.
    Remove(&'a str),
}

/// Names a person in commits; GitHub finds the account by this address.
pub fn email(login: &str) -> String {
    format!("{login}@users.noreply.github.com")
}

fn signature(login: &str) -> Result<Signature<'static>> {
    let now = Time::new(state::now().unix_timestamp(), 0);
    Ok(Signature::new(login, &email(login), &now)?)
}

impl Shared {
    /// Where a repository's objects lie.
    pub(super) fn git_path(&self, id: u64) -> PathBuf {
        self.directory.path().join(format!("{id}.git"))
    }

    /// The objects of a repository.
    pub(super) fn git(&self, id: u64) -> Result<Repository> {
        Ok(Repository::open_bare(self.git_path(id))?)
    }

    /// A new repository without commits.
    pub(super) fn git_init(&self, id: u64) -> Result<()> {
        let mut options = git2::RepositoryInitOptions::new();
        options.bare(true).initial_head("main");
        let git = Repository::init_opts(self.git_path(id), &options)?;
        configure(&git)
    }

    /// A copy of another's.
    pub(super) fn git_fork(&self, from: u64, id: u64) -> Result<()> {
        self.git_init(id)?;
        let source = self.git_path(from);
        let source = source.to_str().context("a path that is text")?;
        let branches = ["+refs/heads/*:refs/heads/*"];
        let git = self.git(id)?;
        git.remote_anonymous(source)?.fetch(&branches, None, None)?;
        Ok(())
    }

    /// Copies the objects of a commit and names it.
    pub(super) fn git_import(&self, from: u64, to: u64, sha: &str, reference: &str) -> Result<()> {
        let git = self.git(to)?;
        if from != to {
            let source = self.git_path(from);
            let source = source.to_str().context("a path that is text")?;
            // Advertised only with a name.
            self.git(from)?
                .reference("refs/export", Oid::from_str(sha)?, true, "")?;
            git.remote_anonymous(source)?.fetch(
                &[format!("+refs/export:{reference}")],
                None,
                None,
            )?;
        }
        git.reference(reference, Oid::from_str(sha)?, true, "")?;
        Ok(())
    }
}

/// GitHub hands out any commit that a client names, and takes no push here.
fn configure(git: &Repository) -> Result<()> {
    let mut config = git.config()?;
    config.set_bool("uploadpack.allowAnySHA1InWant", true)?;
    config.set_bool("uploadpack.allowFilter", true)?;
    config.set_bool("http.receivepack", false)?;
    Ok(())
}

/// Whether nothing was pushed yet. libgit2's own word for it wants its own default branch as well.
pub fn is_new(git: &Repository) -> Result<bool> {
    Ok(git.references()?.next().is_none())
}

/// The commit of a branch.
pub fn branch(git: &Repository, name: &str) -> Option<String> {
    let found = git.refname_to_id(&format!("refs/heads/{name}")).ok()?;
    Some(found.to_string())
}

/// Every branch and its commit, by name.
pub fn branches(git: &Repository) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for reference in git.references_glob("refs/heads/*")? {
        let reference = reference?;
        let name = reference
            .name()?
            .trim_start_matches("refs/heads/")
            .to_owned();
        all.push((name, reference.peel_to_commit()?.id().to_string()));
    }
    all.sort();
    Ok(all)
}

/// A commit by branch, tag or (short) id, as the API's `ref` and `sha` parameters name it.
pub fn resolve<'g>(git: &'g Repository, name: &str) -> Option<Commit<'g>> {
    let short = name.trim_start_matches("refs/");
    for full in [
        format!("refs/{short}"),
        format!("refs/heads/{name}"),
        format!("refs/tags/{name}"),
    ] {
        if let Ok(commit) = git
            .find_reference(&full)
            .and_then(|reference| reference.peel_to_commit())
        {
            return Some(commit);
        }
    }
    let is_id = name.len() >= 7 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return None;
    }
    git.find_commit_by_prefix(name).ok()
}

/// Writes a commit on top of another and gives its id.
pub fn commit(
    git: &Repository,
    parents: &[&str],
    changes: &[Change<'_>],
    message: &str,
    login: &str,
) -> Result<String> {
    let mut index = git2::Index::new()?;
    let parents: Vec<Commit<'_>> = parents
        .iter()
        .map(|sha| git.find_commit(Oid::from_str(sha)?))
        .collect::<Result<_, _>>()?;
    if let Some(parent) = parents.first() {
        index.read_tree(&parent.tree()?)?;
    }
    for change in changes {
        match *change {
            Change::Write(path, content) => index.add(&entry(path, git.blob(content)?))?,
            Change::Remove(path) => index.remove(std::path::Path::new(path), 0)?,
        }
    }
    let tree = git.find_tree(index.write_tree_to(git)?)?;
    let author = signature(login)?;
    let parents: Vec<&Commit<'_>> = parents.iter().collect();
    Ok(git
        .commit(None, &author, &author, message, &tree, &parents)?
        .to_string())
}

/// A regular file in an index.
pub fn entry(path: &str, id: Oid) -> git2::IndexEntry {
    git2::IndexEntry {
        ctime: git2::IndexTime::new(0, 0),
        mtime: git2::IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.as_bytes().to_vec(),
    }
}

/// What a merge of two commits would hold; none where they conflict.
pub fn merge(
    git: &Repository,
    base: &str,
    head: &str,
    message: &str,
    login: &str,
) -> Result<Option<String>> {
    let ours = git.find_commit(Oid::from_str(base)?)?;
    let theirs = git.find_commit(Oid::from_str(head)?)?;
    let mut index = git.merge_commits(&ours, &theirs, None)?;
    if index.has_conflicts() {
        return Ok(None);
    }
    let tree = git.find_tree(index.write_tree_to(git)?)?;
    let author = signature(login)?;
    let made = git.commit(None, &author, &author, message, &tree, &[&ours, &theirs])?;
    Ok(Some(made.to_string()))
}

/// The commits that are in one history and not in another, oldest first.
pub fn between(git: &Repository, base: Option<&str>, head: &str) -> Result<Vec<String>> {
    let mut walk = git.revwalk()?;
    walk.set_sorting(git2::Sort::TOPOLOGICAL | git2::Sort::REVERSE)?;
    walk.push(Oid::from_str(head)?)?;
    if let Some(base) = base {
        walk.hide(Oid::from_str(base)?)?;
    }
    walk.map(|id| Ok(id?.to_string())).collect()
}

/// Files that differ between two commits, as a push names them: added, modified, removed.
pub fn touched(git: &Repository, sha: &str) -> Result<[Vec<String>; 3]> {
    let commit = git.find_commit(Oid::from_str(sha)?)?;
    let parent = commit
        .parent(0)
        .ok()
        .map(|parent| parent.tree())
        .transpose()?;
    let diff = git.diff_tree_to_tree(parent.as_ref(), Some(&commit.tree()?), None)?;
    let mut all: [Vec<String>; 3] = Default::default();
    for delta in diff.deltas() {
        let file = match delta.status() {
            Delta::Deleted => delta.old_file(),
            _ => delta.new_file(),
        };
        let path = String::from_utf8_lossy(file.path_bytes().unwrap_or_default()).into_owned();
        match delta.status() {
            Delta::Added => all[0].push(path),
            Delta::Deleted => all[2].push(path),
            _ => all[1].push(path),
        }
    }
    Ok(all)
}

/// Where something about a repository stands in the API and on the web.
pub struct Places {
    /// `…/repos/{owner}/{name}`.
    pub api: String,
    /// `…/{owner}/{name}`.
    pub page: String,
}

impl Shared {
    /// Of one repository.
    pub(super) fn places(&self, full_name: &str) -> Places {
        Places {
            api: self.repository_url(full_name),
            page: format!("{}/{full_name}", self.url),
        }
    }

    /// The account that a commit's address belongs to.
    fn by_email<'s>(state: &'s State, signature: &Signature<'_>) -> Option<&'s Account> {
        let address = signature.email().ok()?;
        let login = address.strip_suffix("@users.noreply.github.com")?;
        state.account(login)
    }

    /// One commit (`commit`), without its files.
    pub(super) fn commit(&self, state: &State, places: &Places, commit: &Commit<'_>) -> Value {
        let sha = commit.id().to_string();
        let url = format!("{}/commits/{sha}", places.api);
        let person = |who: &Signature<'_>| {
            json!({
                "name": String::from_utf8_lossy(who.name_bytes()),
                "email": String::from_utf8_lossy(who.email_bytes()),
                "date": views::time(when(who)),
            })
        };
        let account =
            |who: &Signature<'_>| Self::by_email(state, who).map(|account| self.user(account));
        let parents: Vec<Value> = commit
            .parent_ids()
            .map(|id| {
                json!({
                    "sha": id.to_string(),
                    "url": format!("{}/commits/{id}", places.api),
                    "html_url": format!("{}/commit/{id}", places.page),
                })
            })
            .collect();
        json!({
            "sha": sha,
            "node_id": views::node_id("Commit", u64::from(commit.id().as_bytes()[0])),
            "url": url,
            "html_url": format!("{}/commit/{sha}", places.page),
            "comments_url": format!("{url}/comments"),
            "commit": {
                "url": format!("{}/git/commits/{sha}", places.api),
                "author": person(&commit.author()),
                "committer": person(&commit.committer()),
                "message": String::from_utf8_lossy(commit.message_bytes()),
                "comment_count": 0,
                "tree": {
                    "sha": commit.tree_id().to_string(),
                    "url": format!("{}/git/trees/{}", places.api, commit.tree_id()),
                },
                "verification": {
                    "verified": false, "reason": "unsigned", "payload": null,
                    "signature": null, "verified_at": null,
                },
            },
            "author": account(&commit.author()),
            "committer": account(&commit.committer()),
            "parents": parents,
        })
    }
}

fn when(who: &Signature<'_>) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(who.when().seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Files that differ between two commits (`diff-entry`).
pub fn files(
    git: &Repository,
    base: Option<&str>,
    head: &str,
    places: &Places,
) -> Result<Vec<Value>> {
    let tree = |sha: &str| git.find_commit(Oid::from_str(sha)?)?.tree();
    let old = base.map(tree).transpose()?;
    let mut options = DiffOptions::new();
    let mut diff = git.diff_tree_to_tree(old.as_ref(), Some(&tree(head)?), Some(&mut options))?;
    diff.find_similar(None)?;
    let mut all = Vec::new();
    for number in 0..diff.deltas().len() {
        let delta = diff.get_delta(number).context("a delta of the diff")?;
        let (status, file) = match delta.status() {
            Delta::Added => ("added", delta.new_file()),
            Delta::Deleted => ("removed", delta.old_file()),
            Delta::Renamed => ("renamed", delta.new_file()),
            Delta::Modified | Delta::Typechange => ("modified", delta.new_file()),
            other => bail!("a difference of kind {other:?}"),
        };
        let path = String::from_utf8_lossy(file.path_bytes().unwrap_or_default()).into_owned();
        let encoded = encode_path(&path);
        let mut shown = json!({
            "sha": file.id().to_string(),
            "filename": path,
            "status": status,
            "additions": 0, "deletions": 0, "changes": 0,
            "blob_url": format!("{}/blob/{head}/{encoded}", places.page),
            "raw_url": format!("{}/raw/{head}/{encoded}", places.page),
            "contents_url": format!("{}/contents/{encoded}?ref={head}", places.api),
        });
        if status == "renamed" {
            let from = delta.old_file().path_bytes().unwrap_or_default();
            shown["previous_filename"] = String::from_utf8_lossy(from).into_owned().into();
        }
        if let Some(mut patch) = git2::Patch::from_diff(&diff, number)? {
            let (_, additions, deletions) = patch.line_stats()?;
            shown["additions"] = additions.into();
            shown["deletions"] = deletions.into();
            shown["changes"] = (additions + deletions).into();
            let text = String::from_utf8_lossy(&patch.to_buf()?).into_owned();
            // GitHub's begins with the first hunk.
            if let Some(at) = text.find("\n@@ ") {
                shown["patch"] = text[at + 1..].trim_end_matches('\n').into();
            }
        }
        all.push(shown);
    }
    Ok(all)
}

/// A path inside an address.
pub fn encode_path(path: &str) -> String {
    let mut url = url::Url::parse("http://localhost/").expect("an address");
    url.path_segments_mut()
        .expect("it has a path")
        .clear()
        .extend(path.split('/'));
    url.path().trim_start_matches('/').to_owned()
}

/// How the API names a kind of object.
pub fn kind(kind: Option<ObjectType>) -> &'static str {
    match kind {
        Some(ObjectType::Tree) => "tree",
        Some(ObjectType::Commit) => "commit",
        _ => "blob",
    }
}
