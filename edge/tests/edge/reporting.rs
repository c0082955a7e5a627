//! What the edge tells the control plane of calls and of clients that connect.

use std::collections::HashSet;
use std::time::Duration;

use edge::Times;
use edge::protocol::{CallEvent, ConnectionStep, EdgeReport, EdgeStep, Policy};
use http::StatusCode;
use uuid::Uuid;

use crate::harness::{
    ADA, Server, World, api_token, call, call_with, full, now, platform, request,
};

fn often() -> Times {
    Times {
        report: Duration::from_millis(50),
        ..Times::default()
    }
}

/// No report but the first, and those that have an occasion.
fn seldom() -> Times {
    Times {
        report: Duration::from_hours(1),
        ..Times::default()
    }
}

/// What the control plane counts: every report once.
fn counted(reports: &[EdgeReport]) -> Vec<EdgeReport> {
    let mut known = HashSet::new();
    let new = |report: &&EdgeReport| report.id.is_none_or(|id| known.insert((id.run, id.number)));
    reports.iter().filter(new).cloned().collect()
}

fn calls(reports: &[EdgeReport]) -> Vec<CallEvent> {
    let counted = counted(reports);
    counted
        .into_iter()
        .flat_map(|report| report.calls)
        .collect()
}

/// How often a step was told, and the last time it was.
fn step(reports: &[EdgeReport], wanted: EdgeStep) -> Option<(u32, ConnectionStep)> {
    let steps = reports.iter().flat_map(|report| &report.steps);
    let steps: Vec<_> = steps.filter(|step| step.step == wanted).collect();
    let count = steps.iter().map(|step| step.count).sum();
    Some((count, (*steps.last()?).clone()))
}

#[tokio::test]
async fn each_call_that_an_instance_was_given_is_told_once() {
    let server = Server::start(|request| async move {
        let status = if request.uri().path() == "/mcp" {
            200
        } else {
            404
        };
        http::Response::builder()
            .status(status)
            .body(full("x"))
            .unwrap()
    })
    .await;
    let world = World::timed(platform(), Some(&server), often()).await;
    let token = world.signer.good();
    for _ in 0..20 {
        world.edge.send(call_with(&token)).await;
    }
    // What never reached an instance is no call.
    let refused = world.edge.send(call()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let told = world
        .control
        .reports
        .until(|reports| Some(calls(reports)).filter(|calls| calls.len() >= 20))
        .await;
    assert_eq!(told.len(), 20);
    let latest = i64::try_from(now() + 1).unwrap() * 1000;
    for call in told {
        assert_eq!(call.project, Uuid::from_u128(100));
        assert_eq!(call.deployment, Uuid::from_u128(1));
        assert_eq!(call.grant, Some(Uuid::from_u128(9)));
        assert_eq!(call.api_token, None);
        assert_eq!(call.status, 200);
        assert!(call.at_ms > latest - 600_000 && call.at_ms <= latest);
    }
}

#[tokio::test]
async fn a_call_is_told_with_its_api_token_and_the_status_its_client_saw() {
    let dying = Server::raw(|mut stream| async move {
        use tokio::io::AsyncReadExt;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let world = World::timed(platform(), Some(&dying), often()).await;
    world
        .control
        .publish(|routes| routes.api_tokens = vec![api_token("brt_x")]);
    let broken = |answer: &crate::harness::Answer| answer.status == StatusCode::BAD_GATEWAY;
    world.edge.until(|| call_with("brt_x"), broken).await;
    let told = world
        .control
        .reports
        .until(|reports| calls(reports).pop())
        .await;
    assert_eq!(told.api_token, Some(Uuid::from_u128(0x70)));
    assert_eq!(told.grant, None);
    assert_eq!(told.status, 502);
}

#[tokio::test]
async fn calls_are_kept_while_the_control_plane_takes_no_reports() {
    let server = Server::saying("x").await;
    let world = World::timed(Policy::Public, Some(&server), often()).await;
    world.edge.send(call()).await;
    let reports = &world.control.reports;
    reports.until(|reports| calls(reports).pop()).await;
    reports.refuse_with(503);
    reports.until_refused().await;
    reports.clear();
    for _ in 0..10 {
        world.edge.send(call()).await;
    }
    reports.until_refused().await;
    reports.until_refused().await;
    reports.refuse_with(0);
    let told = reports
        .until(|reports| Some(calls(reports)).filter(|calls| calls.len() >= 10))
        .await;
    assert_eq!(told.len(), 10);
    let dropped: u64 = reports
        .until(|reports| Some(reports.iter().map(|report| report.dropped).sum()))
        .await;
    assert_eq!(dropped, 0);
}

#[tokio::test]
async fn a_report_that_is_not_understood_does_not_hold_up_the_next() {
    let server = Server::saying("x").await;
    let world = World::timed(Policy::Public, Some(&server), often()).await;
    let reports = &world.control.reports;
    reports.until(|reports| reports.last().map(drop)).await;
    reports.refuse_with(422);
    reports.until_refused().await;
    world.edge.send(call()).await;
    reports.until_refused().await;
    reports.until_refused().await;
    reports.clear();
    reports.refuse_with(0);
    world.edge.send(call()).await;
    let (told, dropped) = reports
        .until(|reports| {
            let dropped = reports.iter().map(|report| report.dropped).sum::<u64>();
            let told = calls(reports).len() as u64;
            (told + dropped >= 2).then_some((told, dropped))
        })
        .await;
    assert_eq!((told, dropped), (1, 1));
}

#[tokio::test]
async fn a_report_whose_answer_was_lost_is_sent_again_as_it_was() {
    let server = Server::saying("x").await;
    let world = World::timed(platform(), Some(&server), often()).await;
    let reports = &world.control.reports;
    reports.until(|reports| reports.last().map(drop)).await;
    reports.lose_answers(true);
    let token = world.signer.good();
    world.edge.send(call_with(&token)).await;
    let first = |reports: &[EdgeReport]| {
        let mut with_calls = reports.iter().filter(|report| !report.calls.is_empty());
        with_calls.next().cloned()
    };
    let lost = reports.until(first).await;
    // More happens meanwhile.
    for _ in 0..5 {
        world.edge.send(call_with(&token)).await;
    }
    let again = |reports: &[EdgeReport]| {
        let like = reports.iter().filter(|report| report.id == lost.id);
        like.clone()
            .nth(2)
            .is_some()
            .then(|| like.cloned().collect())
    };
    let all: Vec<EdgeReport> = reports.until(again).await;
    for report in &all {
        assert_eq!((&report.calls, &report.steps), (&lost.calls, &lost.steps));
    }
    reports.lose_answers(false);
    let told = reports
        .until(|reports| Some(calls(reports)).filter(|calls| calls.len() >= 6))
        .await;
    assert_eq!(told.len(), 6);
    let (count, _) = reports
        .until(|reports| step(&counted(reports), EdgeStep::Called))
        .await;
    assert_eq!(count, 1);
    let numbers: Vec<i64> = reports
        .until(|reports| Some(reports.iter().map(|it| it.id.unwrap().number).collect()))
        .await;
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[tokio::test]
async fn a_report_under_way_when_the_edge_stops_is_sent_again() {
    let server = Server::saying("x").await;
    let mut world = World::timed(Policy::Public, Some(&server), often()).await;
    let reports = world.control.reports.clone();
    reports.until(|reports| reports.last().map(drop)).await;
    reports.leave_unanswered();
    world.edge.send(call()).await;
    let under_way = reports
        .until(|reports| reports.iter().find(|it| !it.calls.is_empty())?.id)
        .await;
    world.edge.send(call()).await;
    world.edge.shutdown.cancel();
    (&mut world.edge.running).await.unwrap().unwrap();
    let told = reports.until(|reports| Some(calls(reports).len())).await;
    assert_eq!(told, 2);
    let sent = |reports: &[EdgeReport]| {
        let like = reports.iter().filter(|it| it.id == Some(under_way));
        Some(like.count())
    };
    assert_eq!(
        reports.until(sent).await,
        2,
        "nobody knew whether it was taken"
    );
}

#[tokio::test]
async fn an_edge_names_itself_with_its_key() {
    let server = Server::saying("x").await;
    let world = World::timed(Policy::Public, Some(&server), often()).await;
    let report = world
        .control
        .reports
        .until(|reports| reports.last().cloned())
        .await;
    assert_eq!(report.key["kid"], report.edge.as_str());
    assert_eq!(report.key["crv"], "P-256");
    assert_eq!(report.key.get("d"), None);
}

#[tokio::test]
async fn steps_of_a_client_that_connects_are_told_at_once() {
    let server = Server::saying("x").await;
    let world = World::timed(platform(), Some(&server), seldom()).await;
    let agent = "é".repeat(150);
    let ask = |path: &str| {
        request("GET", path)
            .header("user-agent", agent.as_bytes())
            .body(full(""))
            .unwrap()
    };
    let reports = &world.control.reports;
    for _ in 0..3 {
        let answer = world.edge.send(ask("/mcp")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let metadata = "/.well-known/oauth-protected-resource/mcp";
    assert_eq!(world.edge.send(ask(metadata)).await.status, StatusCode::OK);
    let token = world.signer.good();
    for _ in 0..3 {
        world.edge.send(call_with(&token)).await;
    }
    let (count, challenged) = reports
        .until(|reports| step(reports, EdgeStep::Challenged).filter(|(count, _)| *count == 3))
        .await;
    assert_eq!(count, 3);
    assert_eq!(challenged.project, Uuid::from_u128(100));
    assert_eq!(challenged.address, "127.0.0.1");
    assert_eq!(challenged.user_agent, Some("é".repeat(100)));
    assert_eq!((challenged.client_id, challenged.user), (None, None));
    reports
        .until(|reports| step(reports, EdgeStep::ResourceMetadata))
        .await;
    let (count, called) = reports
        .until(|reports| step(reports, EdgeStep::Called))
        .await;
    assert_eq!(count, 1);
    assert_eq!(called.client_id.as_deref(), Some("claude"));
    assert_eq!(called.user, Some(ADA));
}

#[tokio::test]
async fn each_way_to_fail_is_told_apart() {
    let server = Server::saying("x").await;
    let world = World::timed(platform(), Some(&server), seldom()).await;
    let other = Uuid::from_u128(7);
    let signer = &world.signer;
    let mut foreign_page = call_with(&signer.good());
    foreign_page
        .headers_mut()
        .insert("origin", "http://evil.test".parse().unwrap());
    for (request, step) in [
        (call_with("nonsense"), EdgeStep::TokenInvalid),
        (
            call_with(&signer.token(|claims| claims["exp"] = serde_json::json!(now() - 600))),
            EdgeStep::TokenExpired,
        ),
        (
            call_with(&signer.token(|claims| claims["pid"] = serde_json::json!(other))),
            EdgeStep::TokenForeign,
        ),
        (
            call_with(&signer.token(|claims| claims["scope"] = serde_json::json!("x"))),
            EdgeStep::ScopeMissing,
        ),
        (foreign_page, EdgeStep::OriginRefused),
        (
            request("GET", "/nowhere").body(full("")).unwrap(),
            EdgeStep::PathDenied,
        ),
    ] {
        let status = world.edge.send(request).await.status;
        assert!(status.is_client_error(), "{step:?}: {status}");
        let told = |reports: &[EdgeReport]| self::step(reports, step);
        let (count, _) = world.control.reports.until(told).await;
        assert_eq!(count, 1, "{step:?}");
    }
    let all: HashSet<EdgeStep> = world
        .control
        .reports
        .until(|reports| {
            let steps = reports.iter().flat_map(|report| &report.steps);
            Some(steps.map(|step| step.step).collect())
        })
        .await;
    assert_eq!(all.len(), 6, "{all:?}");
}

#[tokio::test]
async fn that_nothing_is_live_is_told() {
    let world = World::timed(Policy::Public, None, seldom()).await;
    let answer = world.edge.send(call()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let told = |reports: &[EdgeReport]| step(reports, EdgeStep::NothingLive);
    world.control.reports.until(told).await;
}

#[tokio::test]
async fn what_is_left_is_told_when_the_edge_stops() {
    let server = Server::saying("x").await;
    let mut world = World::timed(Policy::Public, Some(&server), seldom()).await;
    world.edge.send(call()).await;
    world.edge.shutdown.cancel();
    (&mut world.edge.running).await.unwrap().unwrap();
    let told = world
        .control
        .reports
        .until(|reports| Some(calls(reports).len()))
        .await;
    assert_eq!(told, 1);
}

#[tokio::test]
async fn the_snapshot_in_use_is_told_at_once() {
    let server = Server::saying("x").await;
    let world = World::timed(Policy::Public, Some(&server), seldom()).await;
    let reports = &world.control.reports;
    let told =
        |version| move |reports: &[EdgeReport]| (reports.last()?.version == version).then_some(());
    reports.until(told(1)).await;
    world.control.publish(|_| {});
    reports.until(told(2)).await;
}
