//! Connected apps, as the page and the API show them and take them back.

use super::client_credentials::{by_service, service};
use super::*;
use crate::organizations;

impl Scene {
    async fn apps(&mut self) -> Value {
        self.browser.get("/api/v1/apps").await.value()["apps"].take()
    }
}

#[tokio::test]
async fn r34_the_page_lists_what_was_allowed_and_disconnects_at_once() {
    let mut scene = Scene::new().await;
    let empty = scene.browser.get("/apps").await;
    assert!(empty.body.contains("No app is connected yet"));
    scene.tokens().await;
    scene.app.clock.advance(time::Duration::hours(3));
    let tokens = scene.tokens().await;
    let page = scene.browser.get("/apps").await;
    for text in [
        "FastMCP Client",
        "/projects/hello",
        "<code>mcp</code>",
        "Used <time",
        "3 h ago",
        "Disconnect",
    ] {
        assert!(page.body.contains(text), "{text} is missing: {}", page.body);
    }
    let apps = scene.apps().await;
    assert_eq!(apps.as_array().unwrap().len(), 1);
    let id = apps[0]["id"].as_str().unwrap().to_owned();

    let stranger = testing::stranger(&scene.app).await;
    let mut other = Browser::signed_in_as(&scene.app, &stranger.email).await;
    let csrf = other.get("/apps").await.field("csrf");
    let path = format!("/apps/{id}/revoke");
    let refused = other.submit(&path, &[("csrf", &csrf)]).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    let forged = scene.browser.submit(&path, &[("csrf", "x")]).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    assert!(scene.revoked().await.is_empty());

    let fields = [("csrf", &*page.field("csrf"))];
    let done = scene.browser.submit(&path, &fields).await;
    assert_eq!(done.location(), "/apps?done=disconnected");
    assert_eq!(scene.revoked().await.len(), 2, "edges are told");
    let after = scene.browser.get(done.location()).await;
    assert!(after.body.contains("No app is connected yet"));
    assert!(after.body.contains("The app is disconnected"));
    let refresh = tokens["refresh_token"].as_str().unwrap();
    assert_error(&scene.refresh(refresh).await, 400, "invalid_grant");
    let path = scene.request(&[]);
    assert_eq!(scene.browser.get(&path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_api_lists_and_disconnects() {
    let mut scene = Scene::new().await;
    let answer = scene
        .decide(&[("scope", "mcp offline_access")], "allow")
        .await;
    scene.exchange(&answer.parameter("code").unwrap()).await;
    let apps = scene.apps().await;
    assert_eq!(
        (
            &apps[0]["client"],
            &apps[0]["host"],
            &apps[0]["project"],
            &apps[0]["service_account"]
        ),
        (
            &json!("FastMCP Client"),
            &Value::Null,
            &json!("hello"),
            &Value::Null
        )
    );
    assert_eq!(apps[0]["scopes"], json!(["mcp", "offline_access"]));
    assert_eq!(apps[0]["client_id"], json!(scene.client_id));
    assert_eq!(apps[0]["created_at"], "2026-11-22T12:00:00Z");
    assert_eq!(apps[0]["last_used_at"], "2026-11-22T12:00:00Z");
    let csrf = scene.browser.get("/apps").await.field("csrf");
    let path = format!("/api/v1/apps/{}", apps[0]["id"].as_str().unwrap());
    for (path, status) in [
        (&*path, StatusCode::NO_CONTENT),
        (&*path, StatusCode::NOT_FOUND),
        ("/api/v1/apps/nonsense", StatusCode::NOT_FOUND),
    ] {
        let headers = [("x-csrf-token", &*csrf), ("origin", testing::ORIGIN)];
        let body = axum::body::Body::empty();
        let answer = scene
            .browser
            .send(http::Method::DELETE, path, &headers, body)
            .await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    assert_eq!(scene.apps().await, json!([]));
}

#[tokio::test]
async fn what_is_remembered_stays_on_the_list_and_goes_with_it() {
    let mut scene = Scene::new().await;
    let changed = json!({"grant_types": ["authorization_code"]});
    scene.client_id = register(&mut scene.client, &changed).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned();
    scene.tokens().await;
    for (days, kept) in [(29, 1), (2, 0)] {
        scene.app.clock.advance(time::Duration::days(days));
        let mut db = scene.app.db.acquire().await.unwrap();
        crate::grants::purge_expired(&mut db, scene.app.clock.now())
            .await
            .unwrap();
        assert_eq!(scene.count("grants").await, kept);
        assert_eq!(scene.count("consents").await, kept);
    }
}

#[tokio::test]
async fn whoever_manages_service_accounts_sees_and_ends_what_they_use() {
    let mut scene = Scene::new().await;
    let (_, client) = service(&scene).await;
    let tokens = by_service(&mut scene, &client, &[]).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.body);

    let page = scene.browser.get("/apps").await;
    assert!(page.body.contains("Service accounts") && page.body.contains("nightly on"));
    let apps = scene.apps().await;
    assert_eq!(apps[0]["service_account"], "nightly");
    let stranger = testing::stranger(&scene.app).await;
    let mut db = scene.app.db.acquire().await.unwrap();
    let owner = testing::owner(&scene.app).await;
    let organization = organizations::list_for(&mut db, owner.id).await.unwrap()[0].id;
    let role = organizations::Role::Editor;
    organizations::add_member(&mut db, organization, stranger.id, role)
        .await
        .unwrap();
    drop(db);
    let mut editor = Browser::signed_in_as(&scene.app, &stranger.email).await;
    assert_eq!(
        editor.get("/api/v1/apps").await.value()["apps"],
        json!([]),
        "an editor manages none"
    );
    let path = format!("/apps/{}/revoke", apps[0]["id"].as_str().unwrap());
    let fields = [("csrf", &*page.field("csrf"))];
    let done = scene.browser.submit(&path, &fields).await;
    assert_eq!(done.location(), "/apps?done=disconnected");
    assert_eq!(scene.revoked().await.len(), 1);
}
