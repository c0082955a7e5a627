//! What GitHub is told of deployments, through every trouble on the way.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use time::Duration;
use uuid::Uuid;

use super::inbox::{commits, inbox, project, tell, work};
use super::kept::Kept;
use super::stand_in::{INSTALLATION, World, sha, with_app};
use crate::app::App;
use crate::github::{feedback, links};
use crate::projects::Project;
use crate::testing::Browser;

/// Tells everything that is due, after what has to lie between two requests.
async fn tell_all(app: &App) {
    app.clock.advance(Duration::seconds(2));
    while feedback::tell_next(app).await.unwrap() {}
}

/// Changes a deployment as a runner's report does, and tells.
async fn change(app: &App, number: i32, set: &str) {
    app.clock.advance(Duration::seconds(2));
    change_quietly(app, number, set).await;
    tell_all(app).await;
}

async fn change_quietly(app: &App, number: i32, set: &str) {
    let sql = format!("update deployments set updated_at = $1, {set} where number = $2");
    let changed = sqlx::query(AssertSqlSafe(sql))
        .bind(app.clock.now())
        .bind(number)
        .execute(&app.db)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 1);
}

const LIVE: &str = "state = 'live', live_at = $1, commit_id = source->>'commit'";

fn surface(tools: &[&str]) -> String {
    let tools: Vec<Value> = tools
        .iter()
        .map(|name| json!({ "name": name, "inputSchema": { "type": "object" } }))
        .collect();
    let all = runner::protocol::Surface {
        tools,
        ..Default::default()
    };
    let all = serde_json::to_string(&all).unwrap();
    format!("surface = '{}'", all.replace('\'', "''"))
}

async fn push(app: &App, world: &World, digit: char) {
    world.push(11, "main", &sha(digit));
    tell(app, "push", &super::inbox::push("main", &sha(digit))).await;
    work(app).await;
}

fn kept(world: &World) -> std::sync::MutexGuard<'_, Kept> {
    world.kept.lock().unwrap()
}

fn states(world: &World, number: usize) -> Vec<String> {
    let kept = kept(world);
    let all = kept.deployments[number]["statuses"].as_array().unwrap();
    let state = |it: &Value| it["state"].as_str().unwrap().to_owned();
    all.iter().map(state).collect()
}

async fn problems(app: &App) -> Vec<(String, Option<String>, bool)> {
    sqlx::query_as(
        "select kind, problem, due_at is not null from github_feedback order by kind, due_at",
    )
    .fetch_all(&app.db)
    .await
    .unwrap()
}

#[tokio::test]
async fn checks_and_deployments_follow_and_nothing_is_said_twice() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    tell_all(&app).await;
    {
        let kept = kept(&world);
        let check = &kept.checks[0];
        assert_eq!(check["name"], "Berth: demo");
        assert_eq!(check["head_sha"], sha('a'));
        assert_eq!(check["status"], "queued");
        assert_eq!(
            check["details_url"],
            "http://localhost:8080/projects/demo/deployments/1"
        );
        let deployment = &kept.deployments[0];
        assert_eq!(deployment["environment"], "production");
        assert_eq!(deployment["production_environment"], true);
        assert_eq!(deployment["required_contexts"], json!([]));
        assert_eq!(deployment["payload"]["berth"], check["external_id"]);
    }
    let timings = r#"timings = '[{"stage":"install","duration_ms":1500}]'"#;
    change(&app, 1, "state = 'building'").await;
    change(&app, 1, &format!("{LIVE}, {timings}")).await;
    {
        let kept = kept(&world);
        let check = &kept.checks[0];
        assert_eq!(
            (&check["status"], &check["conclusion"]),
            (&json!("completed"), &json!("success"))
        );
        let summary = check["output"]["summary"].as_str().unwrap();
        assert!(
            summary.contains("`http://demo.localhost:8080/mcp`"),
            "{summary}"
        );
        assert!(summary.contains("install 1.5 s"), "{summary}");
        let status = &kept.deployments[0]["statuses"][2];
        assert_eq!(
            status["environment_url"],
            "http://localhost:8080/projects/demo"
        );
    }
    assert_eq!(states(&world, 0), ["queued", "in_progress", "success"]);
    let before = kept(&world).sent.len();
    change(&app, 1, "surface = null").await;
    assert_eq!(kept(&world).sent.len(), before, "nothing differs");
    assert_eq!(kept(&world).checks.len(), 1);

    // The next takes its place.
    push(&app, &world, 'b').await;
    change(&app, 2, "state = 'building'").await;
    change(&app, 1, "state = 'draining'").await;
    change(&app, 2, LIVE).await;
    assert_eq!(states(&world, 0).last().unwrap(), "inactive");
    assert_eq!(states(&world, 1).last().unwrap(), "success");
    let conclusion = kept(&world).checks[0]["conclusion"].clone();
    assert_eq!(conclusion, "success", "that it was deployed stays true");
    assert!(
        problems(&app)
            .await
            .iter()
            .all(|it| it.1.is_none() && !it.2)
    );
}

#[tokio::test]
async fn stages_within_a_second_are_one_request() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    tell_all(&app).await;
    let before = world.count("/check-runs");
    for state in ["building", "starting", "checking"] {
        change_quietly(&app, 1, &format!("state = '{state}'")).await;
        while feedback::tell_next(&app).await.unwrap() {}
    }
    app.clock.advance(Duration::milliseconds(900));
    while feedback::tell_next(&app).await.unwrap() {}
    let first = world.count("/check-runs") - before;
    tell_all(&app).await;
    assert!(first <= 1, "{first}");
    assert!(world.count("/check-runs") - before <= 2);
    assert_eq!(kept(&world).checks[0]["output"]["title"], "Checking");
}

#[tokio::test]
async fn a_change_while_github_is_told_is_not_lost() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    let mut db = app.db.acquire().await.unwrap();
    sqlx::query("delete from github_feedback where kind <> 'check'")
        .execute(&mut *db)
        .await
        .unwrap();
    let item = feedback::items::claim(&mut db, app.clock.now())
        .await
        .unwrap()
        .unwrap();
    change_quietly(&app, 1, "state = 'building'").await;
    feedback::items::finish(&mut db, &item, None, app.clock.now())
        .await
        .unwrap();
    drop(db);
    tell_all(&app).await;
    assert_eq!(kept(&world).checks[0]["status"], "in_progress");
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_one_of_each() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    preview(&app, &project, "open", false).await;
    kept(&world).lose = vec!["check-runs", "deployments", "comments"];
    tell_all(&app).await;
    assert!(kept(&world).lose.is_empty(), "not asked for");
    app.clock.advance(Duration::minutes(1));
    tell_all(&app).await;
    {
        let kept = kept(&world);
        let counts = [
            kept.checks.len(),
            kept.deployments.len(),
            kept.comments.len(),
        ];
        assert_eq!(counts, [1, 1, 1]);
    }
    // The same of a process that died: its claim ends, and another looks before it makes anything.
    sqlx::query(
        "update github_feedback set remote_id = null, sent = null, attempts = 1, due_at = $1",
    )
    .bind(app.clock.now())
    .execute(&app.db)
    .await
    .unwrap();
    tell_all(&app).await;
    let kept = kept(&world);
    let counts = [
        kept.checks.len(),
        kept.deployments.len(),
        kept.comments.len(),
    ];
    assert_eq!(counts, [1, 1, 1]);
}

const DIAGNOSIS: &str = r#"{"code":"package_missing",
    "cause":"`server.py` imports `yaml`; @octocat <img src=x> ![x](https://evil.example/x.png) is missing; the last lines were: canary-log-line.",
    "fix":"Add `pyyaml` to requirements.txt; deploy again.","location":"services/a/server.py:3",
    "edits":[{"file":"services/a/requirements.txt","line":null,"old":null,"new":"pyyaml"}]}"#;

#[tokio::test]
async fn a_failure_says_why_at_its_line_once() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    tell_all(&app).await;
    change_quietly(&app, 1, r#"build = '{"root_directory":"services/a"}'"#).await;
    let plan = r#"plan = '{"runtime":"python:3.11","entrypoint":"x","dependencies":"x","reasons":[],
        "reads":[{"name":"API_KEY","need":"required","places":["services/a/main.py:7"]}]}'"#;
    let failed = format!("state = 'failed', finished_at = $1, {plan}, diagnosis = '{DIAGNOSIS}'");
    change_quietly(&app, 1, &failed).await;
    kept(&world).lose = vec!["check-runs"];
    tell_all(&app).await;
    app.clock.advance(Duration::minutes(1));
    tell_all(&app).await;
    change(
        &app,
        1,
        "commit_subject = 'x', timings = '[{\"stage\":\"plan\",\"duration_ms\":9}]'",
    )
    .await;
    let kept = kept(&world);
    let check = &kept.checks[0];
    assert_eq!(check["conclusion"], "failure");
    assert_eq!(check["output"]["title"], "Failed: package missing");
    let annotations = check["annotations"].as_array().unwrap();
    let places: Vec<(&Value, &Value)> = annotations
        .iter()
        .map(|it| (&it["path"], &it["start_line"]))
        .collect();
    assert_eq!(
        places,
        [
            (&json!("services/a/server.py"), &json!(3)),
            (&json!("services/a/requirements.txt"), &json!(1)),
            (&json!("services/a/main.py"), &json!(7)),
        ]
    );
    assert_eq!(annotations[1]["raw_details"], "+ pyyaml");
    let summary = check["output"]["summary"].as_str().unwrap();
    for says in [
        "**Next step:** Add `pyyaml` to requirements\\.txt; deploy again\\.",
        "/docs/errors#package_missing",
        "`API_KEY`",
        "+pyyaml",
        "plan 9 ms",
    ] {
        assert!(summary.contains(says), "{says} in {summary}");
    }
    assert!(!summary.contains("<img"), "{summary}");
    for (what, body) in &kept.sent {
        for never in ["canary", "@octocat", "](https://evil"] {
            let body = body.to_string();
            assert!(!body.contains(never), "{never} in {what}: {body}");
        }
    }
    assert_eq!(kept.deployments[0]["statuses"][1]["state"], "failure");
}

#[tokio::test]
async fn what_would_break_callers_wants_an_action() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    change(&app, 1, &format!("{LIVE}, {}", surface(&["add", "sub"]))).await;
    push(&app, &world, 'b').await;
    let held = format!(
        "state = 'held', commit_id = source->>'commit', {}",
        surface(&["add", "@octocat` <b>"])
    );
    change(&app, 2, &held).await;
    {
        let kept = kept(&world);
        let check = kept.checks.last().unwrap();
        assert_eq!(check["conclusion"], "action_required");
        let summary = check["output"]["summary"].as_str().unwrap();
        assert!(summary.contains("**Breaks callers** (1)"), "{summary}");
        assert!(summary.contains("`tool sub`: It is gone"), "{summary}");
        assert!(summary.contains("``tool @octocat` <b>``"), "{summary}");
    }
    assert_eq!(states(&world, 1).last().unwrap(), "pending");
    change(&app, 1, "state = 'draining'").await;
    change(&app, 2, LIVE).await;
    let kept = kept(&world);
    let check = kept.checks.last().unwrap();
    assert_eq!(check["conclusion"], "success");
    let title = check["output"]["title"].as_str().unwrap();
    assert_eq!(title, "Deployed; changes for callers: 1 breaking, 1 safe");
}

#[tokio::test]
async fn what_waits_to_be_promoted_is_not_said_to_break_anything() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    let held = "state = 'held', held_for = 'promotion', commit_id = source->>'commit'";
    change(&app, 1, held).await;
    let kept = kept(&world);
    let check = kept.checks.last().unwrap();
    assert_eq!(check["conclusion"], "action_required");
    assert_eq!(check["output"]["title"], "Waits to be promoted");
    assert!(!check["output"].to_string().contains("break"), "{check}");
}

#[tokio::test]
async fn what_was_never_told_is_not_told_a_day_later() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    kept(&world).granted = Some(Vec::new());
    tell_all(&app).await;
    app.clock.advance(Duration::hours(25));
    push(&app, &world, 'b').await;
    kept(&world).granted = None;
    app.clock.advance(Duration::hours(25));
    let told = json!({ "action": "new_permissions_accepted", "installation": {
        "id": INSTALLATION, "account": { "id": 1, "login": "octocat" } } });
    tell(&app, "installation", &told).await;
    work(&app).await;
    tell_all(&app).await;
    let kept = kept(&world);
    assert_eq!(kept.checks.len(), 1, "{:?}", kept.checks);
    assert_eq!(kept.checks[0]["head_sha"], sha('b'));
}

#[tokio::test]
async fn a_limit_on_writing_keeps_nobody_from_reading_and_gives_nothing_up() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    for _ in 0..25 {
        *world.trouble.lock().unwrap() = Some((403, vec![("retry-after", "60".into())]));
        tell_all(&app).await;
        *world.trouble.lock().unwrap() = None;
        app.clock.advance(Duration::seconds(30));
        let asked = crate::github::rest::find_branch(&app, INSTALLATION, "octo/demo", "main");
        assert!(asked.await.unwrap().is_some());
        app.clock.advance(Duration::minutes(1));
    }
    tell_all(&app).await;
    assert_eq!(kept(&world).checks.len(), 1);
}

#[tokio::test]
async fn a_restart_is_shown_as_what_it_restarts() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    change(&app, 1, LIVE).await;
    change_quietly(&app, 1, "state = 'draining'").await;
    let restart = "insert into deployments (id, project_id, number, state, source, origin, created_by, created_at,
             updated_at, commit_id, build_of, live_at)
         select $1, project_id, 2, 'live', source, 'variables', 'system', $2, $2, commit_id, id, $2
         from deployments where project_id = $3";
    sqlx::query(restart)
        .bind(Uuid::new_v4())
        .bind(app.clock.now())
        .bind(project.id)
        .execute(&app.db)
        .await
        .unwrap();
    tell_all(&app).await;
    change(&app, 1, "state = 'stopped', finished_at = $1").await;
    assert_eq!(states(&world, 0).last().unwrap(), "success");
    assert_eq!(kept(&world).checks.len(), 1);
    change(&app, 2, "state = 'stopped', finished_at = $1").await;
    assert_eq!(states(&world, 0).last().unwrap(), "inactive");
}

#[tokio::test]
async fn what_was_not_granted_is_said_and_told_once_it_is() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    kept(&world).granted = Some(vec!["deployments"]);
    tell_all(&app).await;
    tell_all(&app).await;
    assert_eq!(kept(&world).deployments.len(), 1, "what is granted is used");
    assert_eq!(kept(&world).checks.len(), 0);
    let asked = world.asked.lock().unwrap().len();
    change(&app, 1, "state = 'building'").await;
    let more = world.asked.lock().unwrap().len() - asked;
    assert_eq!(more, 1, "the deployment's status alone");
    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/settings/github").await;
    let says = "did not grant the App to write checks, comments on pull requests";
    assert!(page.body.contains(says), "{}", page.body);
    let page = browser.get("/projects/demo").await;
    assert!(page.body.contains("GitHub does not show everything"));

    kept(&world).granted = None;
    let told = json!({ "action": "new_permissions_accepted", "installation": {
        "id": INSTALLATION, "account": { "id": 1, "login": "octocat" } } });
    tell(&app, "installation", &told).await;
    work(&app).await;
    tell_all(&app).await;
    assert_eq!(kept(&world).checks[0]["status"], "in_progress");
    let page = browser.get("/projects/demo").await;
    assert!(!page.body.contains("GitHub does not show everything"));
}

#[tokio::test]
async fn without_any_permission_it_is_asked_for_daily() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    kept(&world).granted = Some(vec![]);
    tell_all(&app).await;
    let minted = world.count("access_tokens");
    change(&app, 1, "state = 'building'").await;
    app.clock.advance(Duration::hours(20));
    tell_all(&app).await;
    assert_eq!(world.count("access_tokens"), minted);
    kept(&world).granted = None;
    *world.now.lock().unwrap() = Some(app.clock.now() + Duration::hours(5));
    app.clock.advance(Duration::hours(5));
    tell_all(&app).await;
    assert_eq!(kept(&world).checks.len(), 1);
}

#[tokio::test]
async fn what_runners_get_still_only_reads() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    tell_all(&app).await;
    let token = crate::github::tokens::of_installation(&app, INSTALLATION)
        .await
        .unwrap();
    let kept = kept(&world);
    let all: Vec<&Value> = kept.tokens.values().collect();
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(
        kept.tokens[token.secret.expose()],
        json!({ "contents": "read", "metadata": "read", "pull_requests": "read" })
    );
    let writes = json!({ "metadata": "read", "checks": "write", "deployments": "write",
        "pull_requests": "write" });
    assert!(all.contains(&&writes), "{all:?}");
}

#[tokio::test]
async fn githubs_trouble_puts_off_what_is_told_and_one_repository_holds_back_no_other() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    *world.away.lock().unwrap() = Some("octo/demo/".into());
    tell_all(&app).await;
    let all = problems(&app).await;
    assert!(
        all.iter()
            .all(|it| it.1.as_deref() == Some("GitHub answered 502.") && it.2),
        "{all:?}"
    );
    assert_eq!(commits(&app, &find(&app).await).await, [sha('a')]);
    let asked = world.asked.lock().unwrap().len();
    while feedback::tell_next(&app).await.unwrap() {}
    assert_eq!(
        world.asked.lock().unwrap().len(),
        asked,
        "not at once again"
    );
    *world.away.lock().unwrap() = None;
    *world.trouble.lock().unwrap() = Some((403, vec![("retry-after", "600".into())]));
    app.clock.advance(Duration::minutes(1));
    tell_all(&app).await;
    let asked = world.asked.lock().unwrap().len();
    app.clock.advance(Duration::minutes(5));
    tell_all(&app).await;
    assert_eq!(world.asked.lock().unwrap().len(), asked, "a limit is kept");
    *world.trouble.lock().unwrap() = None;
    app.clock.advance(Duration::minutes(6));
    tell_all(&app).await;
    assert_eq!(kept(&world).checks.len(), 1);
    assert_eq!(kept(&world).deployments.len(), 1);
}

async fn find(app: &App) -> Project {
    let mut db = app.db.acquire().await.unwrap();
    crate::projects::find_by_name(&mut db, "demo")
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_commit_that_github_does_not_know_is_given_up() {
    let (app, world) = with_app(&[]).await;
    project(&app).await;
    kept(&world).no_commit = true;
    tell_all(&app).await;
    let all = problems(&app).await;
    assert_eq!(
        all[0],
        (
            "check".into(),
            Some("GitHub says: No commit found for SHA: x".into()),
            false
        )
    );
    kept(&world).no_commit = false;
    change(&app, 1, "state = 'building'").await;
    assert_eq!(kept(&world).checks.len(), 1, "the next change tries again");
}

#[tokio::test]
async fn with_the_link_everything_about_it_goes() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    tell_all(&app).await;
    let mut db = app.db.acquire().await.unwrap();
    links::forget(&mut db, project.id).await.unwrap();
    drop(db);
    assert!(problems(&app).await.is_empty());
    let before = kept(&world).sent.len();
    change(&app, 1, "state = 'building'").await;
    assert_eq!(kept(&world).sent.len(), before);
}

async fn rerequest(app: &App, check: &Value) -> String {
    let payload = json!({ "action": "rerequested",
        "check_run": { "id": check["id"], "external_id": check["external_id"] },
        "repository": { "id": 11, "full_name": "octo/demo" }, "installation": { "id": INSTALLATION } });
    tell(app, "check_run", &payload).await;
    work(app).await;
    inbox(app).await.last().unwrap().1.clone()
}

#[tokio::test]
async fn a_check_is_run_again_while_its_commit_is_the_head() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    change(&app, 1, "state = 'failed', finished_at = $1").await;
    let first = kept(&world).checks[0].clone();
    assert_eq!(
        rerequest(&app, &first).await,
        "Queued deployment 2 of demo."
    );
    assert!(rerequest(&app, &first).await.contains("already"));
    assert_eq!(commits(&app, &project).await, [sha('a'), sha('a')]);
    tell_all(&app).await;
    assert_eq!(kept(&world).checks[1]["head_sha"], sha('a'));

    push(&app, &world, 'b').await;
    change(&app, 2, "state = 'failed', finished_at = $1").await;
    let second = kept(&world).checks[1].clone();
    assert_eq!(rerequest(&app, &second).await, "Deployment 2 is overtaken.");
    tell_all(&app).await;
    assert_eq!(kept(&world).checks[1]["conclusion"], "neutral");
    assert_eq!(commits(&app, &project).await.len(), 3);

    // A whole suite, and a check that is not of this repository.
    change(&app, 3, "state = 'failed', finished_at = $1").await;
    let suite = json!({ "action": "rerequested", "check_suite": { "head_sha": sha('b') },
        "repository": { "id": 11, "full_name": "octo/demo" }, "installation": { "id": INSTALLATION } });
    tell(&app, "check_suite", &suite).await;
    work(&app).await;
    assert_eq!(commits(&app, &project).await.len(), 4);
    let foreign = json!({ "id": 1, "external_id": Uuid::new_v4() });
    assert_eq!(
        rerequest(&app, &foreign).await,
        "No deployment here has this check."
    );
}

/// A preview of pull request 12, and with `open` a deployment of its head.
async fn preview(app: &App, project: &Project, state: &str, fork: bool) -> Uuid {
    let id = Uuid::new_v4();
    sqlx::query(
        "insert into previews (id, project_id, slug, pull_request, title, author, branch, head, fork, state,
             last_used_at, opened_at)
         values ($1, $2, 'pr-12', 12, 'x', 'eve', 'change', $3, $4, $5, $6, $6)",
    )
    .bind(id)
    .bind(project.id)
    .bind(sha('c'))
    .bind(fork)
    .bind(state)
    .bind(app.clock.now())
    .execute(&app.db)
    .await
    .unwrap();
    id
}

async fn deploy_preview(app: &App, project: &Project, preview: Uuid, number: i32, commit: &str) {
    sqlx::query(
        "insert into deployments (id, project_id, number, state, source, origin, created_by, created_at, updated_at,
             preview_id)
         select $1, project_id, $2, 'queued', jsonb_set(source, '{commit}', to_jsonb($3::text)), 'preview', 'github',
             $4, $4, $5
         from deployments where project_id = $6 and number = 1",
    )
    .bind(Uuid::new_v4())
    .bind(number)
    .bind(commit)
    .bind(app.clock.now())
    .bind(preview)
    .bind(project.id)
    .execute(&app.db)
    .await
    .unwrap();
}

async fn set_preview(app: &App, set: &str) {
    let sql = format!("update previews set {set}");
    sqlx::query(AssertSqlSafe(sql))
        .execute(&app.db)
        .await
        .unwrap();
    tell_all(app).await;
}

fn comment(world: &World) -> String {
    let kept = kept(world);
    assert_eq!(kept.comments.len(), 1);
    kept.comments[0]["body"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_pull_request_has_one_comment_that_goes_with_its_preview() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    change(&app, 1, &format!("{LIVE}, {}", surface(&["add"]))).await;
    let id = preview(&app, &project, "waiting", true).await;
    tell_all(&app).await;
    let body = comment(&world);
    assert!(body.starts_with(&format!("<!-- berth: {} -->\n", project.id)));
    assert!(
        body.contains("a member of the project has to approve it"),
        "{body}"
    );
    set_preview(&app, "state = 'open'").await;
    deploy_preview(&app, &project, id, 2, &sha('c')).await;
    tell_all(&app).await;
    assert!(comment(&world).contains("**Waiting to be built**"));
    change(&app, 2, &format!("{LIVE}, {}", surface(&["add", "sub"]))).await;
    let body = comment(&world);
    for says in [
        "**Live** · commit `cccccccc`",
        "`http://demo--pr-12.localhost:8080/mcp`",
        "claude mcp add --transport http demo--pr-12",
        "\"mcpServers\"",
        "`tool sub`: It is new",
        "compared with deployment 1",
    ] {
        assert!(body.contains(says), "{says} in {body}");
    }
    {
        let kept = kept(&world);
        assert_eq!(kept.checks.last().unwrap()["name"], "Berth: demo preview");
        let deployment = kept.deployments.last().unwrap();
        assert_eq!(deployment["environment"], "preview/pr-12");
        assert_eq!(deployment["transient_environment"], true);
    }

    // It sleeps, and its instance is stopped; then a push fails; then it is closed.
    set_preview(&app, "asleep = true").await;
    change(&app, 2, "state = 'stopped', finished_at = $1").await;
    assert!(comment(&world).contains("**Asleep: the next call starts it**"));
    assert_eq!(states(&world, 1).last().unwrap(), "success");
    let wake = "insert into deployments (id, project_id, number, state, source, origin, created_by, created_at,
             updated_at, preview_id)
         select $1, project_id, 20, 'queued', source, 'wake', 'system', $2, $2, preview_id
         from deployments where number = 2";
    sqlx::query(wake)
        .bind(Uuid::new_v4())
        .bind(app.clock.now())
        .execute(&app.db)
        .await
        .unwrap();
    set_preview(&app, "asleep = false").await;
    change(&app, 20, "state = 'live', live_at = $1").await;
    assert!(comment(&world).contains("**Live** · commit `cccccccc`"));
    assert_eq!(states(&world, 1).last().unwrap(), "success");
    change(&app, 20, "state = 'stopped', finished_at = $1").await;
    assert_eq!(states(&world, 1).last().unwrap(), "inactive");
    set_preview(&app, &format!("head = '{}'", sha('d'))).await;
    deploy_preview(&app, &project, id, 3, &sha('d')).await;
    change(
        &app,
        3,
        &format!("state = 'failed', diagnosis = '{DIAGNOSIS}'"),
    )
    .await;
    let body = comment(&world);
    assert!(body.contains("**Failed** · commit `dddddddd`"), "{body}");
    assert!(body.contains("**Next step:**") && !body.contains("canary"));
    set_preview(&app, "state = 'closed', stays_closed = true").await;
    assert!(comment(&world).contains("The next commit opens it again"));
    set_preview(&app, "stays_closed = false").await;
    assert!(comment(&world).contains("The preview is gone"));
    assert_eq!(states(&world, 1).last().unwrap(), "inactive");
}

#[tokio::test]
async fn a_comment_that_was_deleted_comes_back_with_the_next_commit() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    preview(&app, &project, "waiting", true).await;
    tell_all(&app).await;
    kept(&world).comments.clear();
    set_preview(&app, "state = 'crowded'").await;
    set_preview(&app, "state = 'waiting'").await;
    assert!(kept(&world).comments.is_empty());
    set_preview(&app, &format!("head = '{}'", sha('e'))).await;
    assert!(comment(&world).contains("`eeeeeeee`"));

    // Nobody may write there; then they may again.
    kept(&world).locked = true;
    set_preview(&app, "state = 'crowded'").await;
    let all = problems(&app).await;
    let why = all.iter().find(|it| it.0 == "comment").unwrap();
    assert!(
        why.1.as_ref().unwrap().contains("locked") && !why.2,
        "{why:?}"
    );
    kept(&world).locked = false;
    set_preview(&app, "state = 'closed'").await;
    assert!(comment(&world).contains("The preview is gone"));
}

#[tokio::test]
async fn a_mark_in_anyone_elses_comment_is_not_ours() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    let forged = json!({ "id": 1, "number": "12", "body": format!("<!-- berth: {} -->", project.id),
        "performed_via_github_app": { "id": 8 } });
    kept(&world).comments.push(forged);
    preview(&app, &project, "waiting", true).await;
    kept(&world).lose = vec!["comments"];
    tell_all(&app).await;
    app.clock.advance(Duration::minutes(1));
    tell_all(&app).await;
    let kept = kept(&world);
    assert_eq!(kept.comments.len(), 2);
    assert!(
        kept.comments[1]["body"]
            .as_str()
            .unwrap()
            .contains("approve")
    );
    assert!(
        !kept.comments[0]["body"]
            .as_str()
            .unwrap()
            .contains("approve")
    );
}

#[tokio::test]
async fn comments_can_be_switched_off() {
    let (app, world) = with_app(&[]).await;
    let project = project(&app).await;
    let mut browser = Browser::signed_in(&app).await;
    let page = browser.get("/projects/demo/settings").await;
    let csrf = page.field("csrf");
    assert!(page.body.contains("Comment on pull requests"));
    let path = "/projects/demo/settings/comments";
    let answer = browser.submit(path, &[("csrf", &csrf)]).await;
    assert_eq!(answer.location(), "/projects/demo/settings?done=saved");
    preview(&app, &project, "waiting", true).await;
    tell_all(&app).await;
    assert!(kept(&world).comments.is_empty());
    let fields = [("csrf", &*csrf), ("comments", "yes")];
    browser.submit(path, &fields).await;
    set_preview(&app, "state = 'crowded'").await;
    assert!(comment(&world).contains("as many previews as it may"));
}
