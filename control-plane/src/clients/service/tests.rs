use serde_json::json;

use super::*;
use crate::clients;
use crate::organizations;
use crate::service_accounts;
use crate::testing;

async fn account(app: &crate::app::App) -> (Uuid, Actor) {
    let owner = testing::owner(app).await;
    let actor = Actor::User(owner.id);
    let mut db = app.db.acquire().await.unwrap();
    let organization = organizations::list_for(&mut db, owner.id)
        .await
        .unwrap()
        .remove(0);
    let account = service_accounts::create(&mut db, &organization, "ci", &actor, app.clock.now())
        .await
        .unwrap();
    (account.id, actor)
}

fn new(name: &str, auth: Auth) -> NewServiceClient<'_> {
    NewServiceClient {
        name,
        auth,
        expires_at: None,
    }
}

#[tokio::test]
async fn a_service_account_has_clients_with_secrets_or_keys() {
    let app = testing::app().await;
    let (account, actor) = account(&app).await;
    let now = app.clock.now();
    let mut db = app.db.acquire().await.unwrap();
    let (client, secret) = create(
        &mut db,
        account,
        new(" nightly ", Auth::Secret),
        &actor,
        now,
    )
    .await
    .unwrap();
    let secret = secret.unwrap();
    assert!(client.accepts(&secret) && !client.accepts("brs_other"));
    assert_eq!(
        (client.kind, client.service_account_id),
        (Kind::Service, Some(account))
    );
    assert_eq!(client.grant_types, ["client_credentials"]);
    assert!(!client.allows("authorization_code") && client.redirect_uris.is_empty());
    let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]});
    let (signing, secret) = create(
        &mut db,
        account,
        new("deploy", Auth::Jwks(jwks.clone())),
        &actor,
        now + time::Duration::SECOND,
    )
    .await
    .unwrap();
    assert_eq!((secret, &signing.jwks), (None, &Some(jwks)));
    assert_eq!(signing.auth_method, AuthMethod::PrivateKeyJwt);
    let listed = list(&mut db, account).await.unwrap();
    let names: Vec<_> = listed.iter().map(|client| client.name.as_str()).collect();
    assert_eq!(names, ["nightly", "deploy"]);
    let audited: i64 =
        sqlx::query_scalar("select count(*) from audit_log where action = 'client.create'")
            .fetch_one(&mut *db)
            .await
            .unwrap();
    assert_eq!(audited, 2);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused() {
    let app = testing::app().await;
    let (account, actor) = account(&app).await;
    let now = app.clock.now();
    let mut db = app.db.acquire().await.unwrap();
    for name in ["", " ", "a\nb", &"x".repeat(81)] {
        let refused = create(&mut db, account, new(name, Auth::Secret), &actor, now).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{name:?}");
    }
    for jwks in [
        json!(null),
        json!({}),
        json!({"keys": []}),
        json!({"keys": "x"}),
        json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}),
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "x", "y": "y", "kid": "\0"}]}),
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "x", "y": "y", "d": "private"}]}),
        json!({"keys": [{"kty": "EC", "crv": "P-384", "x": "x", "y": "y"}]}),
        json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "x", "y": "y", "use": "enc"}]}),
        json!({"keys": [{"kty": "RSA", "n": "x", "e": "AQAB", "alg": "RS512"}]}),
    ] {
        let refused = create(
            &mut db,
            account,
            new("a", Auth::Jwks(jwks.clone())),
            &actor,
            now,
        )
        .await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{jwks}");
    }
    let person = testing::owner(&app).await.id;
    let refused = create(&mut db, person, new("a", Auth::Secret), &actor, now).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    for _ in 0..MOST {
        create(&mut db, account, new("a", Auth::Secret), &actor, now)
            .await
            .unwrap();
    }
    let refused = create(&mut db, account, new("a", Auth::Secret), &actor, now).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
}

#[tokio::test]
async fn a_deleted_client_is_gone_and_its_tokens_are_refused() {
    let app = testing::app().await;
    let project = testing::project(&app, "hello").await;
    let (account, actor) = account(&app).await;
    let now = app.clock.now();
    let mut db = app.db.acquire().await.unwrap();
    let (client, _) = create(&mut db, account, new("ci", Auth::Secret), &actor, now)
        .await
        .unwrap();
    let new = grants::NewGrant {
        user: account,
        client_id: &client.id,
        project: &project,
        resource: "http://hello.localhost:8080/mcp",
        scope: "mcp",
    };
    let grant = grants::standing::ensure(&mut db, new, now).await.unwrap();
    let other = Uuid::new_v4();
    assert!(
        delete(&mut db, other, &client.id, &actor, now)
            .await
            .is_err()
    );
    delete(&mut db, account, &client.id, &actor, now)
        .await
        .unwrap();
    assert_eq!(clients::find(&mut db, &client.id).await.unwrap(), None);
    assert!(list(&mut db, account).await.unwrap().is_empty());
    let revoked = grants::revoked_recently(&mut db, now).await.unwrap();
    assert_eq!(revoked, [grant.id], "edges are told");
    let again = delete(&mut db, account, &client.id, &actor, now).await;
    assert!(matches!(again, Err(Error::NotFound(_))));
    app.clock.advance(time::Duration::days(2));
    grants::purge_expired(&mut db, app.clock.now())
        .await
        .unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from clients where kind = 'service'")
        .fetch_one(&mut *db)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn clients_that_people_made_stay_unused() {
    let app = testing::app().await;
    let (account, actor) = account(&app).await;
    let mut db = app.db.acquire().await.unwrap();
    create(
        &mut db,
        account,
        new("ci", Auth::Secret),
        &actor,
        app.clock.now(),
    )
    .await
    .unwrap();
    app.clock.advance(time::Duration::days(400));
    let now = app.clock.now();
    assert_eq!(clients::purge_unused(&mut db, now).await.unwrap(), 0);
    assert_eq!(list(&mut db, account).await.unwrap().len(), 1);
    let cli = clients::find(&mut db, clients::CLI_CLIENT).await.unwrap();
    assert_eq!(cli.map(|client| client.kind), Some(Kind::BuiltIn));
}
