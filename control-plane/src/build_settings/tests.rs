//! Build settings, variables of builds, locks: through the API, the pages, and what runners say.

use http::{Method, StatusCode};
use runner::protocol::{Phase, Report, VariableValue};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::crypto::{hex, sha256};
use crate::deployments::{self, Request};
use crate::runners::{self, Presence};
use crate::testing::{Browser, app, member, owner, project, stranger};
use crate::{build_variables, ids, locks, projects};

const KEY: &str = "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

async fn runner(db: &mut PgConnection, now: OffsetDateTime) -> Uuid {
    let id = ids::new_id();
    let presence = Presence {
        id,
        sequence: 1,
        name: "one",
        public_key: KEY,
        images: &["python:3.11".to_owned()],
    };
    runners::saw(db, &presence, now).await.unwrap();
    id
}

#[tokio::test]
async fn settings_are_merged_checked_and_kept_with_each_deployment() {
    let app = app().await;
    let it = project(&app, "hello").await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let path = "/projects/hello/build";
    let set = json!({"root_directory": " services/a ", "build_command": ["make", "a b"], "system_packages": ["jq"]});
    let answer = browser.api(Method::PATCH, path, &set).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let expected = json!({
        "root_directory": "services/a", "dependency_file": null, "dockerfile": null, "system_packages": ["jq"],
        "build_command": ["make", "a b"], "start_command": [],
    });
    assert_eq!(answer.value(), expected);
    let mut db = app.db.acquire().await.unwrap();
    let actor = Actor::System;
    let now = app.clock.now();
    let source = projects::Settings {
        source_url: Some("https://example.com/a.git".into()),
        ..projects::Settings::default()
    };
    let it = projects::change(&mut db, &it, &source, &actor, now)
        .await
        .unwrap();
    let first = deployments::queue(&mut db, &it, Request::default(), "api", &actor, now)
        .await
        .unwrap();
    let answer = browser
        .api(
            Method::PATCH,
            path,
            &json!({"root_directory": null, "system_packages": null}),
        )
        .await;
    assert_eq!(answer.value()["root_directory"], Value::Null);
    assert_eq!(answer.value()["build_command"], json!(["make", "a b"]));
    let kept = of_deployment(&mut db, first.id).await.unwrap();
    assert_eq!(kept.root_directory.as_deref(), Some("services/a"));
    // Brought back, it builds as it did.
    sqlx::query("update deployments set commit_id = $2 where id = $1")
        .bind(first.id)
        .bind("a".repeat(40))
        .execute(&mut *db)
        .await
        .unwrap();
    let first = deployments::get(&mut db, it.id, "1").await.unwrap();
    let again = deployments::redeploy(&mut db, &it, &first, "promote", &actor, now)
        .await
        .unwrap();
    assert_eq!(of_deployment(&mut db, again.id).await.unwrap(), kept);
    let second = deployments::queue(&mut db, &it, Request::default(), "api", &actor, now)
        .await
        .unwrap();
    assert_eq!(
        of_deployment(&mut db, second.id)
            .await
            .unwrap()
            .root_directory,
        None
    );
    for bad in [
        json!({"root_directory": "../x"}),
        json!({"system_packages": ["jq; id"]}),
        json!({"start_command": "python run.py"}),
        json!({"build_command": [""]}),
        json!({"unknown": 1}),
    ] {
        let answer = browser.api(Method::PATCH, path, &bad).await;
        assert!(answer.status.is_client_error(), "{bad}: {}", answer.body);
    }
}

#[tokio::test]
async fn only_who_may_change_changes_and_strangers_see_nothing() {
    let app = app().await;
    project(&app, "hello").await;
    let viewer = member(&app, crate::organizations::Role::Viewer).await;
    let mut looks = Browser::with_token(&app, &viewer).await;
    let mut other = Browser::with_token(&app, &stranger(&app).await).await;
    for path in ["/projects/hello/build", "/projects/hello/build-variables"] {
        let seen = looks.api(Method::GET, path, &Value::Null).await;
        assert_eq!(seen.status, StatusCode::OK);
        let changed = looks.api(Method::PATCH, path, &json!({})).await;
        assert_eq!(changed.status, StatusCode::FORBIDDEN, "{path}");
        for (method, body) in [(Method::GET, Value::Null), (Method::PATCH, json!({}))] {
            let answer = other.api(method, path, &body).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        }
    }
}

#[tokio::test]
async fn variables_of_builds_are_sealed_and_apart() {
    let app = app().await;
    let it = project(&app, "hello").await;
    let now = app.clock.now();
    let mut db = app.db.acquire().await.unwrap();
    let runner = runner(&mut db, now).await;
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let set = json!({"set": [
        {"name": "UV_INDEX", "value": "https://u:canary-pw@x/simple"},
        {"name": "LEVEL", "value": "2", "secret": false},
    ]});
    let path = "/projects/hello/build-variables";
    let answer = browser.api(Method::PATCH, path, &set).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(!answer.body.contains("canary-pw"), "{}", answer.body);
    assert_eq!(answer.value()["variables"][0]["value"], "2");
    let sent = build_variables::for_runner(&mut db, it.id, runner)
        .await
        .unwrap();
    let names: Vec<&str> = sent.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["LEVEL", "UV_INDEX"]);
    assert!(matches!(sent[1].value, VariableValue::Sealed(_)));
    let plain = browser
        .api(Method::GET, "/projects/hello/variables", &Value::Null)
        .await;
    assert_eq!(
        plain.value()["variables"],
        json!([]),
        "the server's own are others"
    );
    let bad = json!({"set": [{"name": "LD_PRELOAD", "value": "x"}]});
    let answer = browser.api(Method::PATCH, path, &bad).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let gone = browser
        .api(Method::PATCH, path, &json!({"unset": ["UV_INDEX"]}))
        .await;
    assert_eq!(gone.value()["variables"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_page_saves_what_is_typed() {
    let app = app().await;
    let it = project(&app, "hello").await;
    let mut db = app.db.acquire().await.unwrap();
    runner(&mut db, app.clock.now()).await;
    let mut browser = Browser::signed_in(&app).await;
    let path = "/projects/hello/build";
    let csrf = browser.get(path).await.field("csrf");
    let saved = browser
        .submit(
            path,
            &[
                ("csrf", &csrf),
                ("start_command", "run 'a b' $PORT"),
                ("system_packages", "jq ffmpeg"),
            ],
        )
        .await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.body);
    let settings = get(&mut db, it.id).await.unwrap();
    assert_eq!(settings.start_command, ["run", "a b", "$PORT"]);
    assert_eq!(settings.system_packages, ["jq", "ffmpeg"]);
    let wrong = browser
        .submit(
            path,
            &[
                ("csrf", &csrf),
                ("build_command", "run '<b>"),
                ("root_directory", "a"),
            ],
        )
        .await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        wrong.body.contains("A quote is not closed"),
        "{}",
        wrong.body
    );
    assert!(
        wrong.body.contains("run &#39;&#60;b&#62;") || wrong.body.contains("&lt;b&gt;"),
        "{}",
        wrong.body
    );
    let lines = browser
        .submit(
            "/projects/hello/build/variables",
            &[
                ("csrf", &csrf),
                ("lines", "TOKEN=canary-build"),
                ("secret", "yes"),
            ],
        )
        .await;
    assert_eq!(lines.status, StatusCode::SEE_OTHER, "{}", lines.body);
    let page = browser.get(path).await;
    assert!(page.body.contains("TOKEN") && !page.body.contains("canary-build"));
    let removed = browser
        .submit(
            "/projects/hello/build/variables/remove",
            &[("csrf", &csrf), ("name", "TOKEN")],
        )
        .await;
    assert_eq!(removed.status, StatusCode::SEE_OTHER);
    assert!(
        build_variables::list(&mut db, it.id)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_lock_is_asked_for_kept_by_its_hash_and_given_to_the_project_alone() {
    let app = app().await;
    let it = project(&app, "hello").await;
    let now = app.clock.now();
    let mut db = app.db.acquire().await.unwrap();
    let runner = runner(&mut db, now).await;
    let source = projects::Settings {
        source_url: Some("https://example.com/a.git".into()),
        ..projects::Settings::default()
    };
    let it = projects::change(&mut db, &it, &source, &Actor::System, now)
        .await
        .unwrap();
    let deployment =
        deployments::queue(&mut db, &it, Request::default(), "api", &Actor::System, now)
            .await
            .unwrap();
    deployments::claim(&mut db, runner, true, now)
        .await
        .unwrap();
    let text = "idna==3.10 --hash=sha256:00\n";
    let name = hex(&sha256(text));
    let report = Report {
        deployment: deployment.id,
        phase: Phase::Starting,
        commit: None,
        upstream: None,
        host_header: runner::protocol::HostHeader::Public,
        plan: None,
        lock: Some(name.clone()),
        surface: None,
        diagnosis: None,
        timings: Vec::new(),
    };
    let drain = std::time::Duration::from_secs(1);
    deployments::take_report(&mut db, runner, &report, drain, now)
        .await
        .unwrap();
    assert_eq!(
        locks::list_wanted(&mut db, runner).await.unwrap(),
        std::slice::from_ref(&name)
    );
    assert!(
        locks::keep(&mut db, &name, "another text", now)
            .await
            .is_err()
    );
    locks::keep(&mut db, &name, text, now).await.unwrap();
    locks::keep(&mut db, &name, text, now).await.unwrap();
    assert!(
        locks::list_wanted(&mut db, runner)
            .await
            .unwrap()
            .is_empty()
    );
    locks::sweep(&mut db).await.unwrap();
    let path = "/projects/hello/deployments/1/lock";
    let mut browser = Browser::with_token(&app, &owner(&app).await).await;
    let answer = browser.api(Method::GET, path, &Value::Null).await;
    assert_eq!(answer.body, text);
    assert!(
        answer
            .header("content-disposition")
            .contains("requirements.lock.txt")
    );
    let mut other = Browser::with_token(&app, &stranger(&app).await).await;
    let answer = other.api(Method::GET, path, &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let runtimes = browser.api(Method::GET, "/runtimes", &Value::Null).await;
    assert_eq!(runtimes.value(), json!({"runtimes": ["python:3.11"]}));
    projects::delete(&mut db, &it, &Actor::System, now)
        .await
        .unwrap();
    locks::sweep(&mut db).await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from locks")
        .fetch_one(&mut *db)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn blanks_are_nothing_and_problems_name_their_fields() {
    let settings = BuildSettings {
        root_directory: Some("  ".into()),
        dependency_file: Some(" deps.txt ".into()),
        ..BuildSettings::default()
    };
    let checked = check(settings).unwrap();
    assert_eq!(checked.root_directory, None);
    assert_eq!(checked.dependency_file.as_deref(), Some("deps.txt"));
    let bad = BuildSettings {
        root_directory: Some("../..".into()),
        system_packages: vec!["-o".into()],
        ..BuildSettings::default()
    };
    let Err(Error::Invalid(problems)) = check(bad) else {
        panic!("taken");
    };
    assert_eq!(problems.len(), 2);
}
