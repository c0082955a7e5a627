//! Webhooks: what is told, how it is signed, and how it arrives.

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac;
use serde_json::Value;
use tests::github::{Change, Delivery, Github};

use super::setting::Setting;
use crate::github::receiver::Hook;

pub fn webhooks() -> Result<()> {
    let hook = Hook::listen()?;
    let setting = Setting::with_hook(&hook.url)?;
    let sha = setting
        .repo
        .push("main", &[("server.py", "two\n")], "Second")?;
    let push = loop {
        let received = hook.next()?;
        if received.header("x-github-event") == "push" {
            break received;
        }
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, setting.app.webhook_secret.as_bytes());
    let signature = push.header("x-hub-signature-256");
    let hex = signature.strip_prefix("sha256=").context("no signature")?;
    let tag: Vec<u8> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16))
        .collect::<Result<_, _>>()?;
    hmac::verify(&key, &push.body, &tag)
        .ok()
        .context("a wrong signature")?;
    ensure!(tests::github::sign(&setting.app.webhook_secret, &push.body) == signature);
    ensure!(push.header("user-agent").starts_with("GitHub-Hookshot/"));
    let target = push.header("x-github-hook-installation-target-id");
    ensure!(target == setting.app.id.to_string(), "{target}");
    let payload: Value = serde_json::from_slice(&push.body)?;
    ensure!(payload["after"] == sha.as_str(), "{payload}");
    ensure!(
        payload["installation"]["id"] == setting.installation,
        "{payload}"
    );
    ensure!(
        payload["commits"][0]["modified"][0] == "server.py",
        "{payload}"
    );
    setting.github.settle()?;
    let kept = setting.github.deliveries();
    let kept = kept
        .iter()
        .find(|one| one.guid == push.header("x-github-delivery"));
    ensure!(kept.context("not kept")?.status_code == 202, "{kept:?}");
    let listed = setting.read("/app/hook/deliveries?per_page=2", &setting.jwt()?)?;
    ensure!(
        listed.as_array().is_some_and(|all| all.len() == 2),
        "{listed}"
    );
    setting.github.finish()
}

/// The event and action of everything that was sent since last asked.
pub fn told(github: &Github) -> Vec<String> {
    let all = github.held();
    github.lose_held();
    let name = |one: &Delivery| match &one.action {
        Some(action) => format!("{}.{action}", one.event),
        None => one.event.clone(),
    };
    all.iter().map(name).collect()
}

pub fn events() -> Result<()> {
    let setting = Setting::new()?;
    let (github, repo) = (&setting.github, &setting.repo);
    github.settle()?;
    github.hold();
    let check = |what: &str, expected: &[&str]| {
        let told = told(github);
        ensure!(told == expected, "{what}: {told:?}");
        Ok(())
    };
    repo.push("change", &[("server.py", "two\n")], "Second")?;
    check("a new branch", &["create", "push", "check_suite.requested"])?;
    let number = repo.open_pull("change", "main", "Change")?;
    check("a pull request", &["pull_request.opened"])?;
    repo.force_push("change", &[("server.py", "three\n")], "Third")?;
    check(
        "a forced push",
        &["push", "check_suite.requested", "pull_request.synchronize"],
    )?;
    repo.close_pull(number)?;
    repo.reopen_pull(number)?;
    check(
        "closed and reopened",
        &["pull_request.closed", "pull_request.reopened"],
    )?;
    repo.approve(number, "ada")?;
    repo.comment(number, "ada", "Fine.")?;
    check(
        "what people say",
        &["pull_request_review.submitted", "issue_comment.created"],
    )?;
    let merged = repo.merge_pull(number)?;
    ensure!(repo.head("main")? == merged, "main did not move");
    check(
        "merged",
        &["pull_request.closed", "push", "check_suite.requested"],
    )?;
    repo.delete_branch("change")?;
    check("a branch deleted", &["delete", "push"])?;

    github.user("eve");
    let fork = repo.fork("eve")?;
    fork.push("patch", &[("server.py", "four\n")], "Fourth")?;
    check("a fork is not installed", &[])?;
    let number = repo.open_pull_from(&fork, "patch", "main", "Patch")?;
    fork.push("patch", &[("server.py", "five\n")], "Fifth")?;
    check(
        "from a fork",
        &["pull_request.opened", "pull_request.synchronize"],
    )?;
    fork.delete_branch("patch")?;
    check("its branch is gone", &["pull_request.closed"])?;
    ensure!(!repo.pulls()[usize::try_from(number)? - 1].open, "open");

    repo.rename("renamed")?;
    check("renamed", &["repository.renamed"])?;
    let second = github.repository("ada", "second", true)?;
    check("installed on some", &[])?;
    github.add_repositories(setting.installation, &[&second]);
    github.remove_repositories(setting.installation, &[&second]);
    check(
        "some more",
        &[
            "installation_repositories.added",
            "installation_repositories.removed",
        ],
    )?;
    github.suspend(setting.installation);
    repo.push("main", &[("server.py", "six\n")], "Sixth")?;
    github.unsuspend(setting.installation);
    check(
        "suspended",
        &["installation.suspend", "installation.unsuspend"],
    )?;
    github.organization("team", &["ada"]);
    let there = github.install(setting.app.id, "team", None)?;
    repo.transfer("team")?;
    check(
        "transferred",
        &[
            "installation.created",
            "installation_repositories.removed",
            "repository.transferred",
        ],
    )?;
    repo.push_changes("main", &[Change::Remove("server.py")], "Empty")?;
    check("pushed there", &["push", "check_suite.requested"])?;
    repo.delete()?;
    check(
        "deleted",
        &["repository.deleted", "installation_repositories.removed"],
    )?;
    github.uninstall(there);
    check("uninstalled", &["installation.deleted"])?;
    setting.github.finish()
}

pub fn deliveries() -> Result<()> {
    let hook = Hook::listen()?;
    let setting = Setting::with_hook(&hook.url)?;
    let (github, repo) = (&setting.github, &setting.repo);
    github.settle()?;
    while hook.next()?.header("x-github-event") != "installation" {}
    github.hold();
    repo.push("main", &[("a", "1")], "One")?;
    repo.push("main", &[("a", "2")], "Two")?;
    let pushes: Vec<_> = github
        .held()
        .into_iter()
        .filter(|one| one.event == "push")
        .collect();
    let [one, two] = &*pushes else {
        anyhow::bail!("{pushes:?}");
    };
    github.deliver(&[two.id, one.id])?;
    ensure!(
        hook.next()?.header("x-github-delivery") == two.guid,
        "not in this order"
    );
    ensure!(
        hook.next()?.header("x-github-delivery") == one.guid,
        "not in this order"
    );
    github.lose_held();
    github.release();
    let again = github.redeliver(one.id)?;
    ensure!(again.guid == one.guid && again.redelivery, "{again:?}");
    ensure!(
        hook.next()?.header("x-github-delivery") == one.guid,
        "another id"
    );
    let copy = github.send_again(one.id)?;
    ensure!(
        copy.guid != one.guid && copy.payload == one.payload,
        "{copy:?}"
    );
    let received = hook.next()?;
    ensure!(
        received.header("x-hub-signature-256") == one.signature(),
        "another signature"
    );
    // A push is three events: itself and two of others' suites; all of it gets lost.
    github.lose_next(2);
    let lost = repo.push("main", &[("a", "3")], "Three")?;
    github.settle()?;
    let kept = github.deliveries();
    let kept = kept
        .iter()
        .rfind(|one| one.event == "push")
        .context("no push")?;
    ensure!(kept.status_code == 0 && kept.payload_has(&lost), "{kept:?}");
    setting.github.finish()
}
