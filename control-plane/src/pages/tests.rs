//! Pages against a real Postgres, as a browser sees them.

mod surface;

use http::{Method, StatusCode};
use runner::protocol::{Commit, Diagnosis, LogLine, LogStream, Phase, Plan, Report, Surface};
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::deployments;
use crate::organizations::{self, Role};
use crate::testing::{Answer, Browser, app, app_with, config, owner, project, start, stranger};
use crate::{ids, logs, projects, runners, variables};

const URL: &str = "https://git.example/you/hello.git";

async fn runner(app: &App) -> Uuid {
    let id = ids::new_id();
    // X25519's base point: any 32 bytes are a key to seal to.
    let key = "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let mut db = app.db.acquire().await.unwrap();
    let presence = runners::Presence {
        id,
        sequence: 1,
        name: "one",
        public_key: key,
        images: &["python:3.11".into()],
    };
    runners::saw(&mut db, &presence, app.clock.now())
        .await
        .unwrap();
    id
}

async fn csrf(browser: &mut Browser) -> String {
    browser.get("/new").await.field("csrf")
}

async fn submit(browser: &mut Browser, path: &str, fields: &[(&str, &str)]) -> Answer {
    let csrf = csrf(browser).await;
    let mut all = vec![("csrf", csrf.as_str())];
    all.extend_from_slice(fields);
    browser.submit(path, &all).await
}

async fn create(browser: &mut Browser, name: &str, url: &str, variables: &str) -> Answer {
    submit(
        browser,
        "/new",
        &[
            ("name", name),
            ("source_url", url),
            ("variables", variables),
        ],
    )
    .await
}

/// Tells of a deployment what a runner would.
async fn report(app: &App, runner: Uuid, deployment: Uuid, change: impl FnOnce(&mut Report)) {
    let mut report = Report {
        deployment,
        phase: Phase::Building,
        commit: Some(Commit {
            id: "a".repeat(40),
            subject: Some("Say hello".into()),
            author: Some("Ada".into()),
        }),
        upstream: None,
        host_header: runner::protocol::HostHeader::Public,
        lock: None,
        plan: None,
        surface: None,
        diagnosis: None,
        timings: Vec::new(),
    };
    change(&mut report);
    if report.phase == Phase::Healthy {
        // A runner never says so without saying where.
        report.upstream.get_or_insert("10.0.0.2:8000".into());
    }
    let mut db = app.db.acquire().await.unwrap();
    deployments::claim(&mut db, runner, true, app.clock.now())
        .await
        .unwrap();
    deployments::take_report(
        &mut db,
        runner,
        &report,
        std::time::Duration::from_mins(1),
        app.clock.now(),
    )
    .await
    .unwrap();
}

/// The sentence beside a field of a form that came back.
fn problem<'a>(answer: &'a Answer, field: &str) -> &'a str {
    let at = format!("id=\"{field}-problem\">");
    let (_, rest) = answer
        .body
        .split_once(&at)
        .unwrap_or_else(|| panic!("no problem at {field}: {}", answer.body));
    rest.split('<').next().unwrap()
}

#[tokio::test]
async fn the_start_page_names_both_ways_to_begin() {
    let app = app().await;
    let mut browser = Browser::new(&app);
    assert_eq!(browser.get("/").await.location(), "/signin");
    assert_eq!(browser.get("/new").await.location(), "/signin?next=%2Fnew");

    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/").await;
    assert!(page.body.contains("From a Git repository"), "{}", page.body);
    assert!(page.body.contains("berth deploy ."), "{}", page.body);
    let form = browser
        .get("/new?source_url=https://git.example/you/My_Server.git&variables=A%3D1")
        .await;
    assert!(form.body.contains(r#"value="my-server""#), "{}", form.body);
    assert!(
        !form.body.contains("A=1"),
        "a link cannot fill variables in"
    );
}

#[tokio::test]
async fn a_new_project_its_variables_and_its_deployment_are_made_at_once() {
    let app = app().await;
    runner(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    let answer = create(
        &mut browser,
        "hello",
        URL,
        "API_KEY=canary-7c1e\n# comment\nMODE=x",
    )
    .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    assert_eq!(answer.location(), "/projects/hello/deployments/1");

    let page = browser.get("/projects/hello/deployments/1").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.body.contains("Queued") && page.body.contains(URL),
        "{}",
        page.body
    );
    assert!(
        !page.body.contains("No runner is connected"),
        "{}",
        page.body
    );
    let page = browser.get("/projects/hello/variables").await;
    assert!(
        page.body.contains("API_KEY") && page.body.contains("MODE"),
        "{}",
        page.body
    );
    assert!(
        !page.body.contains("canary"),
        "a secret is never shown again"
    );
    let page = browser.get("/projects/hello").await;
    assert!(
        page.body.contains("http://hello.localhost:8080/mcp"),
        "{}",
        page.body
    );
    assert!(page.body.contains("&#34;mcpServers&#34;"), "{}", page.body);
}

#[tokio::test]
async fn a_bad_new_project_comes_back_as_typed_with_a_sentence_beside_each_field() {
    let app = app_with(config(&[])).await;
    runner(&app).await;
    project(&app, "taken").await;
    let mut browser = Browser::signed_in(&app).await;
    for (name, url, variables, field, sentence) in [
        (
            "taken",
            URL,
            "",
            "name",
            "The project name “taken” is taken; choose another.",
        ),
        (
            "www",
            URL,
            "",
            "name",
            "The name “www” is reserved for the platform; choose another.",
        ),
        (
            "My Server",
            URL,
            "",
            "name",
            "A project name has 1 to 40 lower-case letters, digits and single hyphens",
        ),
        ("", URL, "", "name", "A project name has 1 to 40"),
        (
            "a",
            "",
            "",
            "source_url",
            "Name a repository, like https://github.com/you/server.git",
        ),
        (
            "a",
            "ssh://git.example/a",
            "",
            "source_url",
            "Repositories are read over https, not ssh",
        ),
        (
            "a",
            "file:///srv/a",
            "",
            "source_url",
            "file:// sources are off on this platform",
        ),
        (
            "a",
            "not a url",
            "",
            "source_url",
            "The repository URL cannot be read",
        ),
        (
            "a",
            "https://u:p@git.example/a",
            "",
            "source_url",
            "The repository URL holds a user name or password",
        ),
        (
            "a",
            URL,
            "GOOD=1\nnonsense",
            "variables",
            "Line 2 is not KEY=value; write one variable a line.",
        ),
        (
            "a",
            URL,
            "PORT=1",
            "variables",
            "PORT is set by the platform; choose another name.",
        ),
        (
            "a",
            URL,
            "A-B=1",
            "variables",
            "“A-B” is not a variable name",
        ),
    ] {
        let answer = create(&mut browser, name, url, variables).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{name} {url}: {}",
            answer.body
        );
        assert!(
            problem(&answer, field).starts_with(sentence),
            "{name} {url}: {}",
            problem(&answer, field)
        );
        assert!(
            answer.body.contains(&format!("value=\"{url}\"")),
            "{}",
            answer.body
        );
        assert!(
            answer.body.contains(&format!("value=\"{name}\"")),
            "{}",
            answer.body
        );
        assert!(
            answer.body.contains(&format!(">{variables}</textarea>")),
            "{}",
            answer.body
        );
    }
    let answer = create(&mut browser, "WWW", "x", "y").await;
    for field in ["name", "source_url", "variables"] {
        assert!(
            !problem(&answer, field).is_empty(),
            "all problems are shown at once"
        );
    }
    let mut db = app.db.acquire().await.unwrap();
    let all = projects::list_for(&mut db, owner(&app).await.id)
        .await
        .unwrap();
    assert_eq!(all.len(), 1, "nothing was created");
}

#[tokio::test]
async fn secrets_wait_for_a_runner_and_what_was_typed_is_kept() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app).await;
    let answer = create(&mut browser, "hello", URL, "A=kept-value").await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer.body.contains("No runner has connected yet"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains("A=kept-value"), "{}", answer.body);
    assert_eq!(
        create(&mut browser, "hello", URL, "").await.status,
        StatusCode::SEE_OTHER
    );
    let page = browser.get("/projects/hello/deployments/1").await;
    assert!(
        page.body.contains("No runner is connected"),
        "{}",
        page.body
    );
}

#[tokio::test]
async fn a_stranger_sees_no_project_at_any_address() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    let stranger = stranger(&app).await;
    let mut other = Browser::signed_in_as(&app, &stranger.email).await;
    for path in [
        "",
        "/status",
        "/variables",
        "/settings",
        "/delete",
        "/deployments/1",
        "/deployments/1/facts",
        "/deployments/1/log.txt",
    ] {
        let answer = other.get(&format!("/projects/hello{path}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(
            answer
                .body
                .contains("There is no such project, or you have no access to it."),
            "{path}"
        );
    }
    for path in [
        "/deploy",
        "/rollback",
        "/variables",
        "/variables/import",
        "/variables/remove",
        "/variables/generate",
        "/settings",
        "/delete",
        "/deployments/1/cancel",
        "/deployments/1/promote",
    ] {
        let fields = [
            ("name", "A"),
            ("value", "1"),
            ("lines", "A=1"),
            ("confirm", "hello"),
        ];
        let answer = submit(&mut other, &format!("/projects/hello{path}"), &fields).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(!other.get("/").await.body.contains("hello.localhost"));
}

#[tokio::test]
async fn a_form_without_its_token_changes_nothing() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    for path in [
        "/new",
        "/tokens",
        "/projects/hello/deploy",
        "/projects/hello/rollback",
        "/projects/hello/variables",
        "/projects/hello/variables/import",
        "/projects/hello/variables/remove",
        "/projects/hello/variables/generate",
        "/projects/hello/settings",
        "/projects/hello/delete",
        "/projects/hello/deployments/1/cancel",
        "/projects/hello/deployments/1/promote",
    ] {
        let fields = [
            ("name", "other"),
            ("source_url", URL),
            ("confirm", "hello"),
            ("lines", "A=1"),
        ];
        let answer = browser.submit(path, &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(
        browser.get("/projects/hello/deployments/1").await.status,
        StatusCode::OK
    );
    assert_eq!(
        browser.get("/projects/other").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_viewer_looks_but_finds_no_button_that_changes() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    let guest = stranger(&app).await;
    let mut db = app.db.acquire().await.unwrap();
    let home = projects::home_of(&mut db, owner(&app).await.id)
        .await
        .unwrap();
    organizations::add_member(&mut db, home, guest.id, Role::Viewer)
        .await
        .unwrap();
    let mut guest = Browser::signed_in_as(&app, &guest.email).await;
    for path in ["", "/variables", "/settings", "/deployments/1"] {
        let page = guest.get(&format!("/projects/hello{path}")).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        for action in ["/deploy\"", "/cancel\"", "/delete\"", "/remove\"", ">Save<"] {
            assert!(!page.body.contains(action), "{path} {action}");
        }
    }
    let answer = submit(&mut guest, "/projects/hello/deploy", &[]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(
        answer.body.contains("may look but not change"),
        "{}",
        answer.body
    );
    assert_eq!(
        guest.get("/projects/hello/delete").await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn what_tenants_write_is_shown_as_text() {
    let app = app().await;
    let runner = runner(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    let bad = "<script>alert(1)</script>\"'><img src=x>";
    let answer = create(&mut browser, bad, bad, bad).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!answer.body.contains("<script>alert"), "{}", answer.body);

    create(&mut browser, "hello", URL, "").await;
    let mut db = app.db.acquire().await.unwrap();
    let member = projects::get_for(&mut db, owner(&app).await.id, "hello")
        .await
        .unwrap();
    let deployment = deployments::get(&mut db, member.project.id, "1")
        .await
        .unwrap();
    let tool = json!({ "name": bad, "description": bad, "inputSchema": { "properties": { bad: { "type": bad, "description": bad } } } });
    report(&app, runner, deployment.id, |report| {
        report.phase = Phase::Healthy;
        report.upstream = Some("10.0.0.2:8000".into());
        report.commit = Some(Commit {
            id: "b".repeat(40),
            subject: Some(bad.into()),
            author: Some(bad.into()),
        });
        report.plan = Some(Plan {
            runtime: bad.into(),
            entrypoint: bad.into(),
            dependencies: bad.into(),
            system_packages: vec![bad.into()],
            build_command: vec![bad.into()],
            start_command: Vec::new(),
            reasons: vec![bad.into()],
            reads: vec![runner::protocol::EnvironmentRead {
                name: bad.into(),
                need: runner::protocol::Need::Required,
                places: vec![bad.into()],
            }],
            example: vec![runner::protocol::ExampleVariable {
                name: "EXAMPLE".into(),
                example: bad.into(),
                about: Some(bad.into()),
                optional: false,
            }],
        });
        report.surface = Some(Surface {
            server_info: json!({ "name": bad, "version": bad }),
            tools: vec![tool],
            ..Surface::default()
        });
    })
    .await;
    let line = |stream| LogLine {
        deployment: deployment.id,
        stream,
        sequence: 1,
        at: start(),
        text: bad.into(),
    };
    logs::append(
        &mut db,
        &[line(LogStream::Build), line(LogStream::Instance)],
    )
    .await
    .unwrap();
    let change = variables::Change {
        set: vec![variables::NewVariable {
            name: "SHOWN".into(),
            value: bad.into(),
            secret: false,
        }],
        ..variables::Change::default()
    };
    let actor = crate::audit::Actor::System;
    variables::change(&mut db, &member.project, &change, &actor, start())
        .await
        .unwrap();

    for path in [
        "/",
        "/projects/hello",
        "/projects/hello/deployments/1",
        "/projects/hello/deployments/1?stream=build",
        "/projects/hello/variables",
        "/projects/hello/variables?name=SHOWN",
        "/projects/hello/deployments/1/facts",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(
            page.body.contains("&#60;script&#62;alert(1)"),
            "{path}: {}",
            page.body
        );
        assert!(
            !page.body.contains("<script>alert") && !page.body.contains("<img src=x"),
            "{path}: {}",
            page.body
        );
        assert!(
            !page.body.contains("style=\"") && !page.body.contains("<style"),
            "{path}"
        );
    }
    let raw = browser
        .get("/projects/hello/deployments/1/log.txt?stream=instance")
        .await;
    assert_eq!(raw.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(raw.header("x-content-type-options"), "nosniff");
    assert!(raw.body.contains(bad), "{}", raw.body);
}

#[tokio::test]
async fn a_failure_says_why_what_to_do_and_what_still_serves() {
    let app = app().await;
    let runner = runner(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    let mut db = app.db.acquire().await.unwrap();
    let id = projects::get_for(&mut db, owner(&app).await.id, "hello")
        .await
        .unwrap()
        .project
        .id;
    let first = deployments::get(&mut db, id, "1").await.unwrap().id;
    report(&app, runner, first, |report| {
        report.phase = Phase::Healthy;
    })
    .await;
    let answer = submit(&mut browser, "/projects/hello/deploy", &[]).await;
    assert_eq!(answer.location(), "/projects/hello/deployments/2");
    assert!(
        browser
            .get("/projects/hello")
            .await
            .body
            .contains("#1 keeps serving")
    );
    let second = deployments::get(&mut db, id, "2").await.unwrap().id;
    report(&app, runner, second, |report| {
        report.phase = Phase::Failed;
        report.diagnosis = Some(Diagnosis {
            edits: Vec::new(),
            code: "entrypoint_not_found".into(),
            cause: "There is no main.py.".into(),
            fix: "Set the entrypoint.".into(),
            location: Some("main.py:3".into()),
        });
    })
    .await;
    let page = browser.get("/projects/hello/deployments/2").await.body;
    for text in [
        "There is no main.py.",
        "Set the entrypoint.",
        "main.py:3",
        "Nothing changed for callers",
        "Failed",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let page = browser.get("/projects/hello").await.body;
    assert!(
        page.contains("Deployment #2 failed.") && page.contains("#1 keeps serving"),
        "{page}"
    );
}

#[tokio::test]
async fn r39_what_a_server_shows_only_to_its_own_people_is_not_said_to_be_missing() {
    let app = app().await;
    let runner = runner(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    let mut db = app.db.acquire().await.unwrap();
    let owner = owner(&app).await;
    let project = projects::get_for(&mut db, owner.id, "hello").await.unwrap();
    let deployment = deployments::get(&mut db, project.project.id, "1")
        .await
        .unwrap();
    report(&app, runner, deployment.id, |report| {
        report.phase = Phase::Healthy;
    })
    .await;
    let page = browser.get("/projects/hello").await;
    assert!(
        page.body.contains("asks for its own sign-in"),
        "{}",
        page.body
    );
    assert!(!page.body.contains("offers no tools"), "{}", page.body);
    let mut api = Browser::with_token(&app, &owner).await;
    let answer = api
        .api(
            Method::GET,
            "/projects/hello/tools",
            &serde_json::Value::Null,
        )
        .await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
    assert!(answer.body.contains("own sign-in"), "{}", answer.body);
}

#[tokio::test]
async fn a_page_that_asks_for_news_gets_them_only_when_there_are_some() {
    let app = app().await;
    let runner = runner(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    let seen = |page: &Answer| {
        let rest = page.body.split_once("?seen=").unwrap().1.to_owned();
        rest.split('"').next().unwrap().to_owned()
    };
    for (page, news) in [
        ("/projects/hello", "/projects/hello/status"),
        (
            "/projects/hello/deployments/1",
            "/projects/hello/deployments/1/facts",
        ),
    ] {
        let before = seen(&browser.get(page).await);
        let none = browser.get(&format!("{news}?seen={before}")).await;
        assert_eq!(none.status, StatusCode::NO_CONTENT, "{page}");
        let some = browser.get(&format!("{news}?seen=older")).await;
        assert_eq!(seen(&some), before, "{page}");
        assert!(!some.body.contains("<html"), "{}", some.body);
    }
    let mut db = app.db.acquire().await.unwrap();
    let id = projects::get_for(&mut db, owner(&app).await.id, "hello")
        .await
        .unwrap()
        .project
        .id;
    let deployment = deployments::get(&mut db, id, "1").await.unwrap().id;
    report(&app, runner, deployment, |report| {
        report.phase = Phase::Healthy;
    })
    .await;
    let ended = browser.get("/projects/hello/status?seen=x").await;
    assert_eq!(ended.header("hx-refresh"), "true");
    let ended = browser
        .get("/projects/hello/deployments/1/facts?seen=x")
        .await;
    assert!(!ended.body.contains("hx-get"), "{}", ended.body);
}

#[tokio::test]
async fn variables_are_set_replaced_pasted_and_removed() {
    let app = app().await;
    runner(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    let set = "/projects/hello/variables";
    let answer = submit(&mut browser, set, &[("name", "REGION"), ("value", "north")]).await;
    assert_eq!(answer.location(), "/projects/hello/variables?done=saved");
    let answer = submit(
        &mut browser,
        set,
        &[("name", "KEY"), ("value", "canary-1"), ("secret", "yes")],
    )
    .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let page = browser
        .get("/projects/hello/variables?done=saved")
        .await
        .body;
    assert!(
        page.contains("north") && page.contains("KEY") && !page.contains("canary-1"),
        "{page}"
    );
    assert!(
        page.contains("Saved.") && page.contains("The next deployment starts with these."),
        "{page}"
    );

    let answer = submit(
        &mut browser,
        set,
        &[("name", "BERTH_X"), ("value", "typed-1"), ("secret", "yes")],
    )
    .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        problem(&answer, "name"),
        "BERTH_X is set by the platform; choose another name."
    );
    assert!(answer.body.contains("typed-1"), "{}", answer.body);
    let paste = "/projects/hello/variables/import";
    let answer = submit(
        &mut browser,
        paste,
        &[("lines", "A=1\nbroken"), ("secret", "yes")],
    )
    .await;
    assert!(
        problem(&answer, "lines").starts_with("Line 2"),
        "{}",
        answer.body
    );
    assert_eq!(
        submit(&mut browser, paste, &[("lines", "A=1\nB=2")])
            .await
            .status,
        StatusCode::SEE_OTHER
    );
    let answer = submit(
        &mut browser,
        "/projects/hello/variables/remove",
        &[("name", "REGION")],
    )
    .await;
    assert_eq!(answer.location(), "/projects/hello/variables?done=removed");
    assert!(
        !browser
            .get("/projects/hello/variables")
            .await
            .body
            .contains("REGION")
    );
}

#[tokio::test]
async fn a_token_is_shown_once_and_revoked() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app).await;
    let answer = submit(&mut browser, "/tokens", &[("name", " "), ("days", "90")]).await;
    assert_eq!(
        problem(&answer, "name"),
        "Give the token a name of 1 to 100 characters."
    );
    let answer = submit(&mut browser, "/tokens", &[("name", "ci"), ("days", "30")]).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert!(answer.body.contains("brt_"), "{}", answer.body);
    let page = browser.get("/tokens").await.body;
    assert!(page.contains("ci") && !page.contains("brt_"), "{page}");
    let revoke = page
        .split("action=\"")
        .find(|part| part.starts_with("/tokens/"))
        .unwrap();
    let revoke = revoke.split('"').next().unwrap().to_owned();
    assert_eq!(
        submit(&mut browser, &revoke, &[]).await.location(),
        "/tokens?done=revoked"
    );
    assert!(browser.get("/tokens").await.body.contains("None yet."));
    assert_eq!(
        submit(&mut browser, &revoke, &[]).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn settings_are_checked_and_a_project_is_deleted_by_its_name() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    let settings = "/projects/hello/settings";
    let answer = submit(
        &mut browser,
        settings,
        &[("source_url", URL), ("entrypoint", "../x.py")],
    )
    .await;
    assert!(
        problem(&answer, "entrypoint").starts_with("The entrypoint must lie inside"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains("../x.py"), "{}", answer.body);
    let answer = submit(
        &mut browser,
        settings,
        &[("source_url", URL), ("entrypoint", "app.py:mcp")],
    )
    .await;
    assert_eq!(answer.location(), "/projects/hello/settings?done=saved");
    assert!(browser.get(settings).await.body.contains("app.py:mcp"));

    let answer = submit(
        &mut browser,
        "/projects/hello/delete",
        &[("confirm", "helo")],
    )
    .await;
    assert_eq!(
        problem(&answer, "confirm"),
        "Type hello exactly; nothing was deleted."
    );
    let answer = submit(
        &mut browser,
        "/projects/hello/delete",
        &[("confirm", "hello")],
    )
    .await;
    assert_eq!(answer.location(), "/?done=deleted");
    assert_eq!(
        browser.get("/projects/hello").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn buttons_lead_to_the_deployment_they_made() {
    let app = app().await;
    let runner = runner(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    let answer = submit(&mut browser, "/projects/hello/deployments/1/cancel", &[]).await;
    assert_eq!(answer.location(), "/projects/hello/deployments/1");
    let answer = submit(&mut browser, "/projects/hello/deployments/1/cancel", &[]).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(
        answer
            .body
            .contains("only one that has not gone live can be canceled"),
        "{}",
        answer.body
    );
    let answer = submit(&mut browser, "/projects/hello/rollback", &[]).await;
    assert!(
        answer.body.contains("there is nothing to roll back to"),
        "{}",
        answer.body
    );

    let mut db = app.db.acquire().await.unwrap();
    let id = projects::get_for(&mut db, owner(&app).await.id, "hello")
        .await
        .unwrap()
        .project
        .id;
    for number in ["2", "3"] {
        submit(&mut browser, "/projects/hello/deploy", &[]).await;
        let deployment = deployments::get(&mut db, id, number).await.unwrap().id;
        report(&app, runner, deployment, |report| {
            report.phase = Phase::Healthy;
        })
        .await;
    }
    assert!(
        browser
            .get("/projects/hello")
            .await
            .body
            .contains("Roll back to #2")
    );
    let answer = submit(&mut browser, "/projects/hello/rollback", &[]).await;
    assert_eq!(answer.location(), "/projects/hello/deployments/4");
    let answer = submit(&mut browser, "/projects/hello/deployments/2/promote", &[]).await;
    assert_eq!(answer.location(), "/projects/hello/deployments/5");
}

#[tokio::test]
async fn an_error_page_names_the_next_step_and_the_request() {
    let app = app().await;
    let mut browser = Browser::new(&app);
    let page = browser.get("/nowhere").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.body.contains("Check the address"), "{}", page.body);
    let id = page.header("x-request-id").to_owned();
    assert!(!id.is_empty() && page.body.contains(&id), "{}", page.body);
    assert!(
        page.header("content-security-policy")
            .contains("script-src 'self'")
    );
    let style = page
        .body
        .split("href=\"")
        .find(|part| part.starts_with("/static/berth.") && part.contains(".css"))
        .unwrap();
    let style = browser.get(style.split('"').next().unwrap()).await;
    assert_eq!(style.header("content-type"), "text/css; charset=utf-8");
    assert!(style.header("cache-control").contains("immutable"));
}
