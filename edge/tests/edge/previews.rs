//! Previews: whose tokens they take, and calls that are held while one starts.

use edge::protocol::{Policy, Route};
use http::{Request, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::harness::{
    Answer, Body, HOST, KEY_HOST, RESOURCE, Server, World, api_token, call, call_with, platform,
    route, upstream,
};

const PREVIEW: Uuid = Uuid::from_u128(200);
const PREVIEW_HOST: &str = "hello--pr-12.apps.test";
const PREVIEW_RESOURCE: &str = "http://hello--pr-12.apps.test/mcp";

fn preview(policy: Policy, live: Option<&Server>) -> Route {
    Route {
        host: PREVIEW_HOST.to_owned(),
        key_host: "hello--pr-12--key.apps.test".to_owned(),
        project: PREVIEW,
        preview_of: Some(Uuid::from_u128(100)),
        resource: PREVIEW_RESOURCE.to_owned(),
        ..route(policy, live.map(|server| upstream(2, server.address)))
    }
}

fn at(host: &str, mut call: Request<Body>) -> Request<Body> {
    call.headers_mut().insert("host", host.parse().unwrap());
    call
}

#[tokio::test]
async fn tokens_are_good_at_the_preview_or_at_its_project_and_never_at_both() {
    let (server, other) = (
        Server::saying("production").await,
        Server::saying("preview").await,
    );
    let world = World::protected(&server).await;
    let mut limited = api_token("brt_limited");
    limited.projects = Some(vec![Uuid::from_u128(100)]);
    let mut elsewhere = api_token("brt_elsewhere");
    elsewhere.projects = Some(vec![Uuid::from_u128(101)]);
    world.control.publish(|routes| {
        routes.routes.push(preview(platform(), Some(&other)));
        routes.api_tokens = vec![limited, elsewhere];
    });
    let of_production = world.signer.good();
    let of_preview = world
        .signer
        .token(|claims| claims["aud"] = json!(PREVIEW_RESOURCE));
    let send = async |host: &str, token: &str| world.edge.send(at(host, call_with(token))).await;
    world
        .edge
        .until(
            || at(PREVIEW_HOST, call_with(&of_preview)),
            |answer: &Answer| answer.text() == "preview",
        )
        .await;
    assert_eq!(send(HOST, &of_production).await.text(), "production");
    assert_eq!(
        send(HOST, &of_preview).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        send(PREVIEW_HOST, &of_production).await.status,
        StatusCode::UNAUTHORIZED
    );
    // Of a stranger's project that has the preview's audience, and its id.
    let foreign = world.signer.token(|claims| {
        claims["aud"] = json!(PREVIEW_RESOURCE);
        claims["pid"] = json!(PREVIEW);
    });
    assert_eq!(
        send(PREVIEW_HOST, &foreign).await.status,
        StatusCode::UNAUTHORIZED
    );
    // API tokens follow the project, at either door.
    assert_eq!(send(PREVIEW_HOST, "brt_limited").await.text(), "preview");
    let key_host = "hello--pr-12--key.apps.test";
    assert_eq!(send(key_host, "brt_limited").await.text(), "preview");
    assert_eq!(send(KEY_HOST, "brt_limited").await.text(), "production");
    assert_eq!(
        send(PREVIEW_HOST, "brt_elsewhere").await.status,
        StatusCode::UNAUTHORIZED
    );
    let metadata = Request::get("/.well-known/oauth-protected-resource/mcp")
        .header("host", PREVIEW_HOST)
        .body(crate::harness::full(""))
        .unwrap();
    let metadata = world.edge.send(metadata).await.json();
    assert_eq!(metadata["resource"], PREVIEW_RESOURCE);
    assert_ne!(metadata["resource"], RESOURCE);
}

#[tokio::test]
async fn a_call_of_one_that_sleeps_is_told_of_and_held_until_it_is_there() {
    let (server, other) = (
        Server::saying("production").await,
        Server::saying("woken").await,
    );
    let world = World::public(&server).await;
    world.control.publish(|routes| {
        routes.routes.push(Route {
            starts: true,
            ..preview(Policy::Public, None)
        });
    });
    world
        .edge
        .until(
            || {
                let origin = "https://evil.example".parse().unwrap();
                let mut foreign = at(PREVIEW_HOST, call());
                foreign.headers_mut().insert("origin", origin);
                foreign
            },
            // Known, and refused without waiting.
            |answer| answer.status == StatusCode::FORBIDDEN,
        )
        .await;
    let (answer, ()) = tokio::join!(world.edge.send(at(PREVIEW_HOST, call())), async {
        world
            .control
            .reports
            .until(|reports| {
                reports
                    .iter()
                    .any(|report| report.wanted.contains(&PREVIEW))
                    .then_some(())
            })
            .await;
        world.control.publish(|routes| {
            let woken = routes.routes.last_mut().unwrap();
            woken.starts = false;
            woken.live = Some(upstream(2, other.address));
        });
    });
    assert_eq!(answer.text(), "woken");
    let reports = world
        .control
        .reports
        .until(|reports| Some(reports.to_vec()))
        .await;
    let wanted = reports.iter().flat_map(|report| &report.wanted);
    assert!(
        wanted.clone().all(|route| *route == PREVIEW),
        "and nothing else"
    );
}

#[tokio::test]
async fn a_preview_that_is_gone_says_why() {
    let server = Server::saying("production").await;
    let world = World::public(&server).await;
    let answer = world.edge.send(at(PREVIEW_HOST, call())).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(
        answer.text().contains("its pull request is closed"),
        "{}",
        answer.text()
    );
}
