//! Service accounts, which ask for tokens by themselves.

use super::*;
use crate::clients::service::{self, Auth, NewServiceClient};
use crate::{audit::Actor, organizations, service_accounts};

/// A service account with a client that has a secret.
pub(super) struct Service {
    id: String,
    secret: String,
}

/// The account's id and a client of it.
pub(super) async fn service(scene: &Scene) -> (uuid::Uuid, Service) {
    let owner = testing::owner(&scene.app).await;
    let (actor, now) = (Actor::User(owner.id), scene.app.clock.now());
    let mut tx = scene.app.db.begin().await.unwrap();
    let organization = organizations::list_for(&mut tx, owner.id)
        .await
        .unwrap()
        .remove(0);
    let account = service_accounts::create(&mut tx, &organization, "nightly", &actor, now)
        .await
        .unwrap();
    let new = NewServiceClient {
        name: "reports",
        auth: Auth::Secret,
        expires_at: None,
    };
    let (client, secret) = service::create(&mut tx, account.id, new, &actor, now)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let service = Service {
        id: client.id,
        secret: secret.unwrap(),
    };
    (account.id, service)
}

/// A token request of the service, with some fields replaced; an empty value leaves one out.
pub(super) async fn by_service(
    scene: &mut Scene,
    service: &Service,
    changed: &[(&str, &str)],
) -> Answer {
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_id", &*service.id),
        ("client_secret", &*service.secret),
        ("resource", RESOURCE),
    ];
    fields.retain(|(name, _)| !changed.iter().any(|(other, _)| other == name));
    fields.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
    scene.client.form("/oauth/token", &fields, &[]).await
}

#[tokio::test]
async fn a_service_account_gets_tokens_in_its_own_name_under_one_grant() {
    let mut scene = Scene::new().await;
    let (account, service) = service(&scene).await;
    let mut families = Vec::new();
    for scope in ["", "mcp", "mcp offline_access unknown"] {
        let answer = by_service(&mut scene, &service, &[("scope", scope)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-store");
        let tokens = answer.value();
        assert_eq!(
            (&tokens["token_type"], &tokens["scope"]),
            (&json!("Bearer"), &json!("mcp"))
        );
        assert!(tokens.get("refresh_token").is_none());
        let access = claims(&scene.app, tokens["access_token"].as_str().unwrap());
        assert_eq!(access["sub"], json!(account));
        assert_eq!(access["client_id"], json!(service.id));
        assert_eq!(access["scope"], "mcp");
        families.push(access["gid"].clone());
    }
    families.dedup();
    assert_eq!(families.len(), 1);
    assert_eq!(scene.count("grants").await, 1);
}

#[tokio::test]
async fn a_service_account_gets_no_token_for_what_it_may_not_call() {
    let mut scene = Scene::new().await;
    let (_, service) = service(&scene).await;
    for (changed, status, error) in [
        (("resource", ""), 400, "invalid_target"),
        (
            ("resource", "http://nowhere.localhost:8080/mcp"),
            400,
            "invalid_target",
        ),
        (
            ("resource", "http://localhost:8080/api/v1"),
            400,
            "invalid_target",
        ),
        (("client_secret", "wrong"), 401, "invalid_client"),
        (("client_secret", ""), 401, "invalid_client"),
        (("grant_type", "password"), 400, "unsupported_grant_type"),
    ] {
        let answer = by_service(&mut scene, &service, &[changed]).await;
        assert_error(&answer, status, error);
    }
    for statement in [
        "update projects set callers = 'chosen'",
        "update projects set callers = 'owner'",
        "update projects set access_mode = 'public', callers = 'organization'",
        "update projects set access_mode = 'tenant'",
    ] {
        scene.sql(statement).await;
        let answer = by_service(&mut scene, &service, &[]).await;
        assert_error(&answer, 400, "invalid_target");
    }
    assert_eq!(scene.count("grants").await, 0);

    // Nobody else has this grant type, and a service client no other.
    let own = scene.client_id.clone();
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", &*own),
        ("resource", RESOURCE),
    ];
    let answer = scene.client.form("/oauth/token", &fields, &[]).await;
    assert_error(&answer, 400, "unauthorized_client");
    let path = scene.request(&[("client_id", &service.id)]);
    let answer = scene.browser.get(&path).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_service_clients_tokens_end_with_it() {
    let mut scene = Scene::new().await;
    let (account, service) = service(&scene).await;
    by_service(&mut scene, &service, &[]).await;
    let (now, mut tx) = (scene.app.clock.now(), scene.app.db.begin().await.unwrap());
    service::delete(&mut tx, account, &service.id, &Actor::System, now)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(scene.revoked().await.len(), 1);
    let answer = by_service(&mut scene, &service, &[]).await;
    assert_error(&answer, 401, "invalid_client");
}

#[tokio::test]
async fn a_client_ends_with_the_token_that_made_it_and_so_do_its_tokens() {
    let mut scene = Scene::new().await;
    let (account, _) = service(&scene).await;
    let owner = testing::owner(&scene.app).await;
    let end = scene.app.clock.now() + time::Duration::days(10);
    scene.app.clock.advance(time::Duration::SECOND);
    let mut db = scene.app.db.acquire().await.unwrap();
    let new = crate::api_tokens::NewToken::for_everything(owner.id, "short", Some(end));
    let actor = Actor::User(owner.id);
    let (_, token) = crate::api_tokens::create(&mut db, new, &actor, scene.app.clock.now())
        .await
        .unwrap();
    let mut short = Browser::showing(&scene.app, &token);
    let path = format!("/service-accounts/{account}/clients");
    let longer = json!({ "name": "x", "expires_in_days": 11 });
    let refused = short.api(http::Method::POST, &path, &longer).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    let made = short
        .api(http::Method::POST, &path, &json!({ "name": "x" }))
        .await
        .value();
    assert_eq!(made["expires_at"], "2026-12-02T12:00:00Z");
    let listed = short
        .api(http::Method::GET, &path, &Value::Null)
        .await
        .value();
    let ends: Vec<&Value> = listed["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|client| &client["expires_at"])
        .collect();
    assert_eq!(ends, [&Value::Null, &made["expires_at"]]);

    let of = |name: &str| made[name].as_str().unwrap().to_owned();
    let ending = Service {
        id: of("client_id"),
        secret: of("client_secret"),
    };
    let tokens = by_service(&mut scene, &ending, &[]).await.value();
    assert_eq!(tokens["expires_in"], 3_600);
    scene
        .app
        .clock
        .advance(time::Duration::days(10) - time::Duration::seconds(301));
    let tokens = by_service(&mut scene, &ending, &[]).await.value();
    assert_eq!(tokens["expires_in"], 300, "no longer than the client");
    let access = claims(&scene.app, tokens["access_token"].as_str().unwrap());
    assert_eq!(access["exp"], end.unix_timestamp());
    scene.app.clock.advance(time::Duration::minutes(5));
    let over = by_service(&mut scene, &ending, &[]).await;
    assert_error(&over, 401, "invalid_client");
    assert!(over.body.contains("come to its end"), "{}", over.body);
}
