//! Repositories from templates: who may have one where, and what becomes of a half-made one.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::making::MADE;
use super::reach::connect;
use super::stand_in::{INSTALLATION, Shared, sha, with_app};
use crate::app::App;
use crate::audit;
use crate::organizations::Role;
use crate::starters::{self, STARTERS};
use crate::testing::{self, Answer, Browser};

const PAGE: &str = "/new/templates/fastmcp-hello";

/// An owner who has shown an installation, and a GitHub that lets the App make repositories.
async fn setting() -> (App, Shared, Browser) {
    let (app, world) = with_app(&[]).await;
    world.grant();
    let mut browser = Browser::signed_in(&app).await;
    connect(&mut browser, &[]).await;
    (app, world, browser)
}

/// Sends the form, goes to GitHub and comes back.
async fn order(browser: &mut Browser, fields: &[(&str, &str)]) -> Answer {
    let csrf = browser.get(PAGE).await.field("csrf");
    let number = INSTALLATION.to_string();
    let always = [
        ("csrf", &*csrf),
        ("installation", &*number),
        ("name", "hello"),
    ];
    let fields: Vec<_> = always.into_iter().chain(fields.iter().copied()).collect();
    let away = browser.submit(PAGE, &fields).await;
    assert!(
        away.location().contains("/login/oauth/authorize?"),
        "{}",
        away.body
    );
    let state = away.parameter("state").unwrap();
    browser
        .get(&format!("/github/callback?code=good&state={state}"))
        .await
}

/// What the page says of an attempt that did not lead on.
async fn report(browser: &mut Browser, answer: &Answer) -> String {
    assert_eq!(
        answer.location(),
        format!("{PAGE}?attempt=1"),
        "{}",
        answer.body
    );
    browser.get(answer.location()).await.body
}

/// Goes on with what an attempt left.
async fn go_on(browser: &mut Browser) -> Answer {
    let page = browser.get(&format!("{PAGE}?attempt=1")).await;
    let made = page.field("made");
    order(browser, &[("private", "1"), ("made", &made)]).await
}

fn orders(world: &Shared) -> Vec<Value> {
    world.making.lock().unwrap().orders.clone()
}

#[tokio::test]
async fn a_template_becomes_a_repository_and_leads_to_the_new_project() {
    let (app, world, mut browser) = setting().await;
    let page = browser.get(PAGE).await;
    assert!(page.body.contains("Create at GitHub"), "{}", page.body);
    let policy = page.header("content-security-policy");
    assert!(policy.contains(app.config.github()), "{policy}");
    let answer = order(&mut browser, &[("private", "1")]).await;
    assert_eq!(
        answer.location(),
        format!("/new?repository={MADE}"),
        "{}",
        answer.body
    );
    assert_eq!(
        orders(&world),
        [json!({ "name": "hello", "private": true, "auto_init": true })]
    );
    let files: BTreeMap<String, String> = starters::get("fastmcp-hello")
        .unwrap()
        .files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    assert_eq!(world.making.lock().unwrap().files, files);
    let form = browser.get(answer.location()).await;
    assert!(form.body.contains("octocat/hello"), "{}", form.body);
    let csrf = form.field("csrf");
    let number = MADE.to_string();
    let fields = [
        ("csrf", &*csrf),
        ("repository", &*number),
        ("name", "hello"),
    ];
    let deployed = browser.submit("/new", &fields).await;
    assert_eq!(deployed.location(), "/projects/hello/deployments/1");
    let mut db = app.db.acquire().await.unwrap();
    let owner = testing::owner(&app).await;
    let found = audit::list_for(&mut db, owner.id, None, 20).await.unwrap();
    let noted = found
        .iter()
        .find(|it| it.action == "github.create_repository");
    assert_eq!(noted.unwrap().subject["repository"], MADE);
    assert_eq!(
        world.minted.load(std::sync::atomic::Ordering::SeqCst),
        1,
        "for reading alone"
    );
}

#[tokio::test]
async fn an_organizations_repository_is_made_with_the_persons_own_rights() {
    let (_app, world, mut browser) = setting().await;
    *world.owns.lock().unwrap() = false;
    let answer = order(&mut browser, &[]).await;
    assert_eq!(
        answer.location(),
        format!("/new?repository={MADE}"),
        "{}",
        answer.body
    );
    assert_eq!(world.count("orgs/acme/repos"), 1);
    assert_eq!(orders(&world)[0]["private"], false);
}

#[tokio::test]
async fn where_the_app_may_not_the_page_says_what_to_do() {
    let (app, world, mut browser) = setting().await;
    world.making.lock().unwrap().permissions.remove("contents");
    let page = browser.get(PAGE).await.body;
    assert!(page.contains("it needs the permissions"), "{page}");
    assert!(!page.contains("Create at GitHub"), "{page}");
    assert!(page.contains("berth init fastmcp-hello"), "{page}");
    // A form from before, or made by hand, makes nothing either.
    let answer = order(&mut browser, &[]).await;
    let said = report(&mut browser, &answer).await;
    assert!(
        said.contains("Nothing was created. The App may not"),
        "{said}"
    );
    assert_eq!(orders(&world), [Value::Null; 0]);

    let viewer = testing::member(&app, Role::Viewer).await;
    let mut other = Browser::signed_in_as(&app, &viewer.email).await;
    let page = other.get(PAGE).await.body;
    assert!(page.contains("not create projects in it"), "{page}");
}

#[tokio::test]
async fn without_an_app_the_templates_are_there_all_the_same() {
    let app = testing::app().await;
    let mut browser = Browser::signed_in(&app).await;
    let list = browser.get("/new/templates").await.body;
    for starter in &STARTERS {
        assert!(
            list.contains(&format!("/new/templates/{}\"", starter.slug)),
            "{list}"
        );
        let page = browser
            .get(&format!("/new/templates/{}", starter.slug))
            .await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        assert!(page.body.contains("no GitHub App yet"), "{}", page.body);
    }
    let archive = browser.get(&format!("{PAGE}.tar.gz")).await;
    assert_eq!(archive.status, StatusCode::OK);
    assert_eq!(archive.header("content-type"), "application/gzip");
    for unknown in ["/new/templates/none", "/new/templates/none.tar.gz"] {
        assert_eq!(browser.get(unknown).await.status, StatusCode::NOT_FOUND);
    }
    let mut api = Browser::with_token(&app, &testing::owner(&app).await).await;
    let listed = api
        .api(Method::GET, "/templates", &Value::Null)
        .await
        .value();
    assert_eq!(listed[0]["name"], "fastmcp-hello");
    assert_eq!(listed.as_array().unwrap().len(), STARTERS.len());
}

#[tokio::test]
async fn a_name_is_checked_here_and_at_github() {
    let (_app, world, mut browser) = setting().await;
    let csrf = browser.get(PAGE).await.field("csrf");
    let number = INSTALLATION.to_string();
    for (installation, name) in [(&*number, "a b"), (&*number, ""), ("", "a")] {
        let fields = [
            ("csrf", &*csrf),
            ("installation", installation),
            ("name", name),
        ];
        let answer = browser.submit(PAGE, &fields).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
    }
    world.add(103, "octocat/hello", &sha('1'));
    let answer = order(&mut browser, &[]).await;
    let said = report(&mut browser, &answer).await;
    assert!(
        said.contains("octocat has a repository hello already"),
        "{said}"
    );
    assert_eq!(world.count("git/trees"), 0, "it is somebody's");
}

#[tokio::test]
async fn what_was_half_made_is_said_and_finished_later() {
    let (_app, world, mut browser) = setting().await;
    *world.away.lock().unwrap() = Some("git/trees".into());
    let answer = order(&mut browser, &[("private", "1")]).await;
    let said = report(&mut browser, &answer).await;
    assert!(
        said.contains("octocat/hello is created at GitHub, but"),
        "{said}"
    );
    assert!(said.contains("/octocat/hello\""), "{said}");
    assert!(said.contains("/settings/installations/71\""), "{said}");
    // It is said again to who looks again, and to nobody who begins anew.
    assert!(
        report(&mut browser, &answer)
            .await
            .contains("is not finished")
    );
    assert!(!browser.get(PAGE).await.body.contains("is not finished"));
    *world.away.lock().unwrap() = Some("git/refs".into());
    let answer = go_on(&mut browser).await;
    let said = report(&mut browser, &answer).await;
    assert!(said.contains("GitHub answered 502"), "{said}");
    *world.away.lock().unwrap() = None;
    let answer = go_on(&mut browser).await;
    assert_eq!(
        answer.location(),
        format!("/new?repository={MADE}"),
        "{}",
        answer.body
    );
    assert_eq!(orders(&world).len(), 1, "made once");
}

#[tokio::test]
async fn a_repository_that_the_app_does_not_reach_is_led_to() {
    let (_app, world, mut browser) = setting().await;
    world.making.lock().unwrap().hidden.insert(MADE);
    let answer = order(&mut browser, &[("private", "1")]).await;
    let said = report(&mut browser, &answer).await;
    assert!(
        said.contains("holds the template, but the App is installed on selected"),
        "{said}"
    );
    world.making.lock().unwrap().hidden.clear();
    let answer = go_on(&mut browser).await;
    assert_eq!(
        answer.location(),
        format!("/new?repository={MADE}"),
        "{}",
        answer.body
    );
    assert_eq!(world.count("git/refs"), 1, "written once");
}

#[tokio::test]
async fn what_others_wrote_is_left_as_it_is() {
    let (_app, world, mut browser) = setting().await;
    world.making.lock().unwrap().entries.push("mine.py".into());
    let answer = order(&mut browser, &[]).await;
    let said = report(&mut browser, &answer).await;
    assert!(said.contains("It holds files of its own already"), "{said}");
    assert_eq!(world.count("git/refs"), 0);
    // A number that is not this name's makes nothing and writes nothing.
    world.making.lock().unwrap().entries.pop();
    let answer = order(&mut browser, &[("made", "11")]).await;
    let said = report(&mut browser, &answer).await;
    assert!(said.contains("does not reach octocat/hello"), "{said}");
    assert_eq!(world.count("git/refs"), 0);
}
