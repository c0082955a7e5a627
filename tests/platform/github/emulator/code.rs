//! Repositories, by Git and by the API.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::setting::{Setting, body};

/// Clones with the real program; the token goes where no argument shows it.
fn clone(url: &str, token: Option<&str>, into: &Path) -> Result<bool> {
    let mut command = Command::new("git");
    command
        .args(["clone", "--quiet", "--"])
        .arg(url)
        .arg(into)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", into.parent().context("a parent")?);
    if let Some(token) = token {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        let basic = BASE64_STANDARD.encode(format!("x-access-token:{token}"));
        command
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env(
                "GIT_CONFIG_VALUE_0",
                format!("Authorization: Basic {basic}"),
            );
    }
    Ok(command.output()?.status.success())
}

pub fn git() -> Result<()> {
    let setting = Setting::new()?;
    let token = setting.token()?;
    let directory = TempDir::new()?;
    let url = setting.repo.clone_url();
    let into = |name: &str| directory.path().join(name);
    ensure!(clone(&url, Some(&token), &into("with"))?, "git got nothing");
    let text = std::fs::read_to_string(into("with").join("server.py"))?;
    ensure!(text == "one\n", "{text}");
    ensure!(
        !clone(&url, None, &into("without"))?,
        "git got it without a token"
    );
    ensure!(
        !clone(&url, Some("ghs_wrong"), &into("wrong"))?,
        "any token will do"
    );

    let fetch = |token: &str, into: &Path| -> Result<git2::Repository, git2::Error> {
        let mut callbacks = git2::RemoteCallbacks::new();
        callbacks.credentials(|_, _, _| git2::Cred::userpass_plaintext("x-access-token", token));
        let mut options = git2::FetchOptions::new();
        options.remote_callbacks(callbacks).depth(1);
        git2::build::RepoBuilder::new()
            .fetch_options(options)
            .clone(&url, into)
    };
    let cloned = fetch(&token, &into("git2"))?;
    let head = cloned.head()?.peel_to_commit()?.id().to_string();
    ensure!(head == setting.repo.head("main")?, "{head}");

    // Another private repository, which the installation does not reach.
    let other = setting.github.repository("ada", "secret", true)?;
    other.push("main", &[("a", "a")], "First")?;
    ensure!(
        !clone(&other.clone_url(), Some(&token), &into("other"))?,
        "too much"
    );
    let public = setting.github.repository("ada", "open", false)?;
    public.push("main", &[("a", "a")], "First")?;
    ensure!(
        clone(&public.clone_url(), None, &into("public"))?,
        "public needs no token"
    );

    // The former name leads to it; pull requests have names of their own.
    setting.repo.rename("renamed")?;
    ensure!(
        clone(&url, Some(&token), &into("moved"))?,
        "a former name leads nowhere"
    );
    setting
        .repo
        .push("change", &[("server.py", "two\n")], "Second")?;
    let number = setting.repo.open_pull("change", "main", "Change")?;
    let refspec = format!("refs/pull/{number}/head:refs/heads/pull");
    let mut callbacks = git2::RemoteCallbacks::new();
    callbacks.credentials(|_, _, _| git2::Cred::userpass_plaintext("x-access-token", &token));
    let mut options = git2::FetchOptions::new();
    options.remote_callbacks(callbacks);
    let now = setting.repo.clone_url();
    cloned
        .remote_anonymous(&now)?
        .fetch(&[refspec], Some(&mut options), None)?;
    let pull = cloned.find_reference("refs/heads/pull")?.peel_to_commit()?;
    ensure!(
        pull.id().to_string() == setting.repo.head("change")?,
        "{pull:?}"
    );

    // A token is good for its time, and for an installation that is there.
    setting.github.expire_tokens();
    ensure!(
        !clone(&now, Some(&token), &into("expired"))?,
        "an expired token will do"
    );
    let token = setting.token()?;
    setting.github.suspend(setting.installation);
    ensure!(
        !clone(&now, Some(&token), &into("suspended"))?,
        "suspended, and yet"
    );
    setting.github.finish()
}

pub fn repositories() -> Result<()> {
    let setting = Setting::new()?;
    let (repo, token) = (&setting.repo, setting.token()?);
    for number in 0..5 {
        let name = format!("feature/{number}");
        repo.push(&name, &[("lib/a.py", &*format!("{number}\n"))], "Change")?;
    }
    let one = setting.read("/repos/ada/tools", &token)?;
    ensure!(one["id"] == repo.id() && one["private"] == true, "{one}");
    setting.read(&format!("/repositories/{}", repo.id()), &token)?;
    setting.read("/repos/ada/tools/installation", &setting.jwt()?)?;

    // Pages lead to each other.
    let mut names = BTreeSet::new();
    let mut next = Some("/repos/ada/tools/branches?per_page=2".to_owned());
    while let Some(path) = next.take() {
        let answer = setting.get(&path, &token)?;
        let link = answer.headers().get("link").cloned();
        for branch in body(answer, 200)?.as_array().context("a list")? {
            names.insert(branch["name"].as_str().unwrap_or_default().to_owned());
        }
        let link = link.context("no links")?;
        next = link.to_str()?.split(", ").find_map(|link| {
            let url = link.strip_suffix(">; rel=\"next\"")?;
            Some(
                url.trim_start_matches('<')
                    .strip_prefix(setting.github.api_url())?
                    .to_owned(),
            )
        });
    }
    ensure!(names.len() == 6, "{names:?}");

    let branch = setting.read("/repos/ada/tools/branches/feature/3", &token)?;
    let sha = branch["commit"]["sha"]
        .as_str()
        .context("no commit")?
        .to_owned();
    ensure!(sha == repo.head("feature/3")?, "{branch}");
    let reference = setting.read("/repos/ada/tools/git/ref/heads/feature/3", &token)?;
    ensure!(reference["object"]["sha"] == sha.as_str(), "{reference}");
    setting.read("/repos/ada/tools/git/matching-refs/heads/feature", &token)?;
    let commits = setting.read("/repos/ada/tools/commits?sha=feature/3&path=lib", &token)?;
    ensure!(commits[0]["sha"] == sha.as_str(), "{commits}");
    let commit = setting.read(&format!("/repos/ada/tools/commits/{sha}"), &token)?;
    ensure!(commit["files"][0]["filename"] == "lib/a.py", "{commit}");
    ensure!(commit["author"]["login"] == "ada", "{commit}");
    let compared = setting.read("/repos/ada/tools/compare/main...feature/3", &token)?;
    ensure!(
        compared["ahead_by"] == 1 && compared["status"] == "ahead",
        "{compared}"
    );
    let patch = compared["files"][0]["patch"].as_str().context("no patch")?;
    ensure!(patch == "@@ -1 +1 @@\n-a\n+3", "{patch}");
    setting.github.user("eve");
    let fork = repo.fork("eve")?;
    fork.push("patch", &[("a", "a")], "Patch")?;
    let compared = setting.read("/repos/ada/tools/compare/main...eve:patch", &token)?;
    ensure!(compared["files"][0]["filename"] == "a", "{compared}");
    let file = setting.read("/repos/ada/tools/contents/lib/a.py?ref=feature/3", &token)?;
    ensure!(file["content"] == "Mwo=\n", "{file}");
    let listed = setting.read("/repos/ada/tools/contents/", &token)?;
    ensure!(
        listed.as_array().is_some_and(|all| all.len() == 2),
        "{listed}"
    );
    let tree = setting.read("/repos/ada/tools/git/trees/main?recursive=1", &token)?;
    ensure!(
        tree["tree"].as_array().is_some_and(|all| all.len() == 3),
        "{tree}"
    );

    // Unchanged answers are not sent again.
    let path = "/repos/ada/tools/branches/main";
    let first = setting.get(path, &token)?;
    let tag = first.headers().get("etag").context("no tag")?.clone();
    let again = setting
        .http
        .get(format!("{}{path}", setting.github.api_url()))
        .bearer_auth(&token)
        .header("if-none-match", &tag)
        .send()?;
    ensure!(again.status() == 304, "{}", again.status());

    let number = repo.open_pull("feature/3", "main", "Three")?;
    let pulls = setting.read("/repos/ada/tools/pulls?head=ada:feature/3", &token)?;
    ensure!(pulls[0]["number"] == number, "{pulls}");
    let pull = setting.read(&format!("/repos/ada/tools/pulls/{number}"), &token)?;
    ensure!(
        pull["mergeable"] == true && pull["changed_files"] == 1,
        "{pull}"
    );
    setting.read(&format!("/repos/ada/tools/pulls/{number}/files"), &token)?;
    repo.approve(number, "ada")?;
    let reviews = setting.read(&format!("/repos/ada/tools/pulls/{number}/reviews"), &token)?;
    ensure!(reviews[0]["state"] == "APPROVED", "{reviews}");
    let may = setting.read("/repos/ada/tools/collaborators/ada/permission", &token)?;
    ensure!(may["permission"] == "admin", "{may}");

    // A former name leads to the number.
    repo.rename("renamed")?;
    let moved = setting.get("/repos/ada/tools/branches/main", &token)?;
    ensure!(moved.status() == 301, "{}", moved.status());
    let to = moved
        .headers()
        .get("location")
        .context("no address")?
        .to_str()?
        .to_owned();
    let followed = setting.http.get(to).bearer_auth(&token).send()?;
    body(followed, 200)?;
    for missing in ["/repos/ada/nothing", "/repos/ada/renamed/branches/nothing"] {
        body(setting.get(missing, &token)?, 404)?;
    }

    // A repository from a template, by a person for an App that may.
    repo.make_template()?;
    let person = setting.github.user_token("ada", setting.app.id)?;
    let asked = json!({ "name": "copy", "private": true });
    let made = setting.post("/repos/ada/renamed/generate", &person, &asked)?;
    ensure!(body(made, 201)?["full_name"] == "ada/copy", "another name");
    let copied = setting.github.find("ada/copy")?;
    copied.head("main")?;
    setting.github.finish()
}
