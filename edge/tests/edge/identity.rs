//! What an instance is told about a caller, and what no client can make it believe.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge::protocol::{Callers, Policy};
use http::StatusCode;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::harness::{
    ADA, Answer, EVE, ISSUER, RESOURCE, ROBOT, Server, World, api_token, call_with, full,
    header_values, platform, request,
};

/// Every header that tells of identity.
const IDENTITY: [&str; 5] = [
    "berth-user",
    "berth-user-email",
    "berth-client",
    "berth-scopes",
    "berth-assertion",
];

/// Verifies an assertion with the edge's own key and gives its claims.
fn claims(world: &World, assertion: &str) -> Value {
    let key = std::fs::read(world.data.path().join("edge/identity.key")).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let header = jsonwebtoken::decode_header(assertion).unwrap();
    assert_eq!(header.typ.as_deref(), Some("berth-identity+jwt"));
    assert!(header.kid.is_some());
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&[RESOURCE]);
    rules.set_issuer(&[ISSUER]);
    let key = DecodingKey::from_ec_components(&x, &y).unwrap();
    jsonwebtoken::decode::<Value>(assertion, &key, &rules)
        .unwrap()
        .claims
}

#[tokio::test]
async fn r39_a_verified_caller_is_introduced_in_plain_headers_and_signed() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    let said = world
        .edge
        .send(call_with(&world.signer.good()))
        .await
        .json();
    for (name, value) in [
        ("berth-user", ADA.to_string().as_str()),
        ("berth-user-email", "ada@example.com"),
        ("berth-client", "claude"),
        ("berth-scopes", "mcp offline_access"),
    ] {
        assert_eq!(header_values(&said, name), [value], "{name}");
    }
    let claims = claims(&world, header_values(&said, "berth-assertion")[0]);
    let (issued, ends) = (claims["iat"].clone(), claims["exp"].clone());
    assert_eq!(ends.as_u64().unwrap() - issued.as_u64().unwrap(), 300);
    assert_eq!(
        claims,
        json!({
            "iss": ISSUER, "aud": RESOURCE, "sub": ADA, "email": "ada@example.com",
            "client_id": "claude", "scope": "mcp offline_access", "iat": issued, "exp": ends,
        })
    );
    assert!(header_values(&said, "authorization").is_empty());
}

#[tokio::test]
async fn an_assertion_serves_all_calls_of_a_token_and_no_other() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    let assertion = async |token: &str| {
        let said = world.edge.send(call_with(token)).await.json();
        header_values(&said, "berth-assertion")[0].to_owned()
    };
    let ada = world.signer.good();
    let eve = world.signer.token(|claims| claims["sub"] = json!(EVE));
    let first = assertion(&ada).await;
    let theirs = assertion(&eve).await;
    assert_eq!(assertion(&ada).await, first);
    assert_eq!(claims(&world, &theirs)["sub"], json!(EVE));
    assert_eq!(claims(&world, &first)["sub"], json!(ADA));
}

#[tokio::test]
async fn a_service_account_has_no_address_and_an_api_token_is_its_own_client() {
    let server = Server::echo().await;
    let world = World::protected(&server).await;
    let mut token = api_token("brt_robot");
    token.user = ROBOT;
    world
        .control
        .publish(|routes| routes.api_tokens = vec![token]);
    let answer = world
        .edge
        .until(
            || call_with("brt_robot"),
            |answer: &Answer| answer.status == StatusCode::OK,
        )
        .await;
    let said = answer.json();
    let client = "api-token:00000000-0000-0000-0000-000000000070";
    assert_eq!(header_values(&said, "berth-user"), [ROBOT.to_string()]);
    assert!(header_values(&said, "berth-user-email").is_empty());
    assert_eq!(header_values(&said, "berth-client"), [client]);
    assert_eq!(header_values(&said, "berth-scopes"), ["mcp"]);
    let claims = claims(&world, header_values(&said, "berth-assertion")[0]);
    assert_eq!(claims.get("email"), None);
    assert_eq!(claims["client_id"], client);
    assert_eq!(claims["scope"], "mcp");
}

#[tokio::test]
async fn r39_no_client_can_forge_identity_in_any_mode() {
    let server = Server::echo().await;
    let open_paths = Policy::Platform {
        scope: "mcp".to_owned(),
        callers: Callers::Anyone,
        public_paths: vec!["/hook".to_owned()],
    };
    for (policy, path, verified) in [
        (platform(), "/mcp", true),
        (open_paths, "/hook", false),
        (Policy::Public, "/mcp", false),
        (Policy::Public, "/page", false),
        (Policy::Tenant, "/mcp", false),
        (Policy::Tenant, "/page", false),
    ] {
        let world = World::new(policy.clone(), Some(&server)).await;
        let mut asked = request("POST", path)
            .header("authorization", format!("Bearer {}", world.signer.good()));
        for name in IDENTITY {
            asked = asked
                .header(name, "forged")
                .header(name.to_ascii_uppercase(), "forged")
                .header(name.replace('-', "_"), "forged")
                .header(name.replace("berth-", "berth_"), "forged");
        }
        let asked = asked
            .header("berth-anything", "forged")
            .header("berth_", "forged")
            .header("connection", "berth-user, keep-alive")
            .body(full("{}"))
            .unwrap();
        let answer = world.edge.send(asked).await;
        assert_eq!(answer.status, StatusCode::OK, "{policy:?} {path}");
        assert!(!answer.text().contains("forged"), "{}", answer.text());
        let said = answer.json();
        for name in IDENTITY {
            let times = usize::from(verified);
            assert_eq!(header_values(&said, name).len(), times, "{policy:?} {name}");
        }
    }
}
