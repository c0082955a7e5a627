//! Pages of what a server needs, offers, changes and says.

use runner::protocol::{
    EnvironmentRead, ExampleVariable, LogLine, LogStream, Need, Phase, Plan, Surface,
};
use serde_json::json;
use uuid::Uuid;

use super::{URL, create, problem, report, runner, submit};
use crate::app::App;
use crate::testing::{Browser, app, owner, start};
use crate::{deployments, logs, projects};
use http::StatusCode;

async fn id(app: &App, number: &str) -> Uuid {
    let mut db = app.db.acquire().await.unwrap();
    let member = projects::get_for(&mut db, owner(app).await.id, "hello")
        .await
        .unwrap();
    deployments::get(&mut db, member.project.id, number)
        .await
        .unwrap()
        .id
}

fn plan() -> Plan {
    let read = |name: &str, need| EnvironmentRead {
        name: name.into(),
        need,
        places: vec!["main.py:3".into()],
    };
    Plan {
        runtime: "python:3.11".into(),
        entrypoint: "main.py".into(),
        dependencies: "requirements.txt".into(),
        reads: vec![
            read("API_KEY", Need::Required),
            read("REGION", Need::Default),
        ],
        example: vec![ExampleVariable {
            name: "API_KEY".into(),
            example: "your-key-here".into(),
            about: Some("From the settings page.".into()),
            optional: false,
        }],
        ..Plan::default()
    }
}

#[tokio::test]
async fn what_the_code_reads_is_offered_as_a_form_and_named_where_it_is_missing() {
    let app = app().await;
    let runner = runner(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    report(&app, runner, id(&app, "1").await, |report| {
        report.plan = Some(plan());
        report.phase = Phase::Failed;
    })
    .await;
    for path in ["/projects/hello", "/projects/hello/deployments/1"] {
        let page = browser.get(path).await.body;
        assert!(
            page.contains("Not set:") && page.contains("<code>API_KEY</code>"),
            "{path}: {page}"
        );
        assert!(!page.contains("<code>REGION</code>,"), "{path}");
    }
    let variables = "/projects/hello/variables";
    let page = browser.get(variables).await.body;
    assert!(
        page.contains(r#"placeholder="your-key-here""#)
            && page.contains("From the settings page.")
            && page.contains("main.py:3"),
        "{page}"
    );
    let fill = "/projects/hello/variables/needed";
    let answer = submit(
        &mut browser,
        fill,
        &[("value.API_KEY", ""), ("value.REGION", "")],
    )
    .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem(&answer, "needed"), "Fill in at least one value.");
    let answer = submit(
        &mut browser,
        fill,
        &[
            ("value.API_KEY", "canary-7"),
            ("value.REGION", "north"),
            ("plain.REGION", "yes"),
        ],
    )
    .await;
    assert_eq!(answer.location(), "/projects/hello/variables?done=saved");
    let page = browser.get(variables).await.body;
    assert!(
        page.contains("north") && !page.contains("canary-7") && !page.contains("also reads"),
        "{page}"
    );
    let page = browser.get("/projects/hello").await.body;
    assert!(!page.contains("Not set:"), "{page}");
}

#[tokio::test]
async fn what_a_deployment_changes_and_offers_is_on_its_page() {
    let app = app().await;
    let runner = runner(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    let offers = |tools: serde_json::Value| Surface {
        protocol_version: "2026-07-28".into(),
        protocol_versions: vec!["2026-07-28".into(), "2025-11-25".into()],
        server_info: json!({ "name": "hello", "version": "2" }),
        capabilities: json!({ "tools": {} }),
        instructions: Some("Be kind.".into()),
        tools: tools.as_array().unwrap().clone(),
        ..Surface::default()
    };
    report(&app, runner, id(&app, "1").await, |report| {
        report.phase = Phase::Healthy;
        report.surface = Some(offers(json!([{ "name": "old" }])));
    })
    .await;
    let page = browser.get("/projects/hello/deployments/1").await.body;
    assert!(
        !page.contains("Changes since"),
        "nothing was before: {page}"
    );
    submit(&mut browser, "/projects/hello/deploy", &[]).await;
    report(&app, runner, id(&app, "2").await, |report| {
        report.phase = Phase::Healthy;
        report.surface = Some(offers(
            json!([{ "name": "new", "annotations": { "readOnlyHint": true } }]),
        ));
    })
    .await;
    let page = browser.get("/projects/hello/deployments/2").await.body;
    for text in [
        "Breaks callers",
        "tool old",
        "It is gone.",
        "1 breaking, 1 safe",
        "2026-07-28, 2025-11-25",
        "Be kind.",
        "read-only",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[tokio::test]
async fn a_log_is_searched_on_the_page_and_in_the_raw_text() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app).await;
    create(&mut browser, "hello", URL, "").await;
    let deployment = id(&app, "1").await;
    let mut db = app.db.acquire().await.unwrap();
    let lines: Vec<LogLine> = ["one error", "nothing"]
        .iter()
        .zip(1..)
        .map(|(text, sequence)| LogLine {
            deployment,
            stream: LogStream::Build,
            sequence,
            at: start(),
            text: (*text).to_owned(),
        })
        .collect();
    logs::append(&mut db, &lines).await.unwrap();
    let path = "/projects/hello/deployments/1?stream=build&q=ERROR%20";
    let page = browser.get(path).await.body;
    assert!(
        page.contains("one error") && !page.contains("<span>nothing</span>"),
        "{page}"
    );
    assert!(
        page.contains("&amp;q=ERROR\""),
        "it follows the same: {page}"
    );
    let none = "/projects/hello/deployments/1?stream=build&q=absent";
    assert!(browser.get(none).await.body.contains("No line holds this."));
    let raw = "/projects/hello/deployments/1/log.txt?stream=build&q=error";
    let raw = browser.get(raw).await.body;
    assert!(
        raw.ends_with("one error\n") && raw.lines().count() == 1,
        "{raw}"
    );
}
