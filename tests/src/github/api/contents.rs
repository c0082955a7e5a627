//! Files of a repository.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use git2::ObjectType;
use serde_json::{Value, json};

use super::{Call, Handler, Reply, Stop};
use crate::github::call::{Level, not_found, refused};
use crate::github::git::{self, Places};

pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    ("GET", "/repos/{owner}/{repo}/contents/{path}", contents),
    ("GET", "/repos/{owner}/{repo}/git/trees/{tree_sha}", tree),
];

/// The largest file whose contents come in JSON; above it there are only its sizes (GitHub's
/// documentation, "Get repository content").
const IN_JSON: usize = 1024 * 1024;

fn contents(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Read)?;
    let places = call.shared.places(&state.full_name(&repository));
    let git = call.shared.git(repository.id)?;
    let reference = call.query("ref").unwrap_or(&repository.default_branch);
    if git::is_new(&git)? {
        return Err(refused(404, "This repository is empty."));
    }
    let commit = git::resolve(&git, reference)
        .ok_or_else(|| refused(404, &format!("No commit found for the ref {reference}")))?;
    let tree = commit.tree()?;
    let path = call.param("path").trim_matches('/');
    let object = match path {
        "" => tree.as_object().clone(),
        path => {
            let entry = tree.get_path(std::path::Path::new(path));
            entry.map_err(|_| not_found())?.to_object(&git)?
        }
    };
    if let Some(directory) = object.as_tree() {
        let listed = directory.iter().map(|entry| {
            let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            let below = match path {
                "" => name.clone(),
                path => format!("{path}/{name}"),
            };
            let kind = match entry.kind() {
                Some(ObjectType::Tree) => "dir",
                Some(ObjectType::Commit) => "submodule",
                _ => "file",
            };
            let size = git.find_blob(entry.id()).map_or(0, |blob| blob.size());
            item(
                &places,
                reference,
                (kind, &name, &below),
                size,
                &entry.id().to_string(),
            )
        });
        return Ok(Reply::json(200, listed.collect()));
    }
    let blob = object.as_blob().ok_or_else(not_found)?;
    let accepted = call
        .headers
        .get("accept")
        .and_then(|value| value.to_str().ok());
    if accepted.is_some_and(|accepted| accepted.contains("github.raw")) {
        return Ok(Reply {
            status: 200,
            raw: Some(blob.content().to_vec()),
            headers: vec![(
                "content-type",
                "application/vnd.github.raw+json; charset=utf-8".to_owned(),
            )],
            body: None,
        });
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut shown = item(
        &places,
        reference,
        ("file", name, path),
        blob.size(),
        &blob.id().to_string(),
    );
    let (encoding, content) = if blob.size() > IN_JSON {
        ("none", String::new())
    } else {
        ("base64", wrapped(blob.content()))
    };
    shown["encoding"] = encoding.into();
    shown["content"] = content.into();
    Ok(Reply::json(200, shown))
}

/// Base64 in lines of 60, as GitHub writes it.
fn wrapped(content: &[u8]) -> String {
    let encoded = BASE64_STANDARD.encode(content);
    let mut text = String::new();
    for line in encoded.as_bytes().chunks(60) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text
}

fn item(
    places: &Places,
    reference: &str,
    (kind, name, path): (&str, &str, &str),
    size: usize,
    sha: &str,
) -> Value {
    let encoded = git::encode_path(path);
    let query: String = url::form_urlencoded::byte_serialize(reference.as_bytes()).collect();
    let url = format!("{}/contents/{encoded}?ref={query}", places.api);
    let (in_git, on_page) = match kind {
        "dir" => ("trees", "tree"),
        _ => ("blobs", "blob"),
    };
    let git_url = format!("{}/git/{in_git}/{sha}", places.api);
    let page = format!(
        "{}/{on_page}/{}/{encoded}",
        places.page,
        git::encode_path(reference)
    );
    let download = format!(
        "{}/raw/{}/{encoded}",
        places.page,
        git::encode_path(reference)
    );
    json!({
        "type": kind,
        "size": size,
        "name": name,
        "path": path,
        "sha": sha,
        "url": url,
        "git_url": git_url,
        "html_url": page,
        "download_url": (kind == "file").then_some(download),
        "_links": { "self": url, "git": git_url, "html": page },
    })
}

/// A tree by its id, or that of a commit or branch; whole if asked.
fn tree(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let repository = call.repository(&state, "contents", Level::Read)?;
    let places = call.shared.places(&state.full_name(&repository));
    let git = call.shared.git(repository.id)?;
    if git::is_new(&git)? {
        return Err(refused(409, "Git Repository is empty."));
    }
    let name = call.param("tree_sha");
    let by_id = name.parse().ok().and_then(|id| git.find_tree(id).ok());
    let tree = match (by_id, git::resolve(&git, name)) {
        (Some(tree), _) => tree,
        (None, Some(commit)) => commit.tree()?,
        (None, None) => return Err(not_found()),
    };
    let recursive = call.query("recursive").is_some();
    let mut entries = Vec::new();
    list(&git, &places, &tree, "", recursive, &mut entries)?;
    Ok(Reply::json(
        200,
        json!({
            "sha": tree.id().to_string(),
            "url": format!("{}/git/trees/{}", places.api, tree.id()),
            "tree": entries,
            "truncated": false,
        }),
    ))
}

pub(super) fn list(
    git: &git2::Repository,
    places: &Places,
    tree: &git2::Tree<'_>,
    below: &str,
    recursive: bool,
    entries: &mut Vec<Value>,
) -> Result<(), Stop> {
    for entry in tree {
        let path = format!("{below}{}", String::from_utf8_lossy(entry.name_bytes()));
        let kind = git::kind(entry.kind());
        let mut shown = json!({
            "path": path,
            "mode": format!("{:06o}", entry.filemode()),
            "type": kind,
            "sha": entry.id().to_string(),
            "url": format!("{}/git/{kind}s/{}", places.api, entry.id()),
        });
        if kind == "blob" {
            shown["size"] = git.find_blob(entry.id())?.size().into();
        }
        entries.push(shown);
        if recursive && kind == "tree" {
            let tree = git.find_tree(entry.id())?;
            list(git, places, &tree, &format!("{path}/"), true, entries)?;
        }
    }
    Ok(())
}
