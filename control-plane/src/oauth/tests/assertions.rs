//! `private_key_jwt` (RFC 7523): clients that sign instead of showing a secret.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use time::Duration;

use super::documents::{CLIENT, Web, document, scene};
use super::*;
use crate::clients::assertions::TYPE;

const KEYS: &str = "https://client.example/oauth/jwks.json";

/// A key pair of a client.
struct Signer {
    algorithm: Algorithm,
    kid: Option<&'static str>,
    key: EncodingKey,
}

impl Signer {
    fn new(algorithm: Algorithm, kid: Option<&'static str>) -> Self {
        let random = SystemRandom::new();
        let key = match algorithm {
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                    .unwrap();
                EncodingKey::from_ec_der(pair.as_ref())
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate_pkcs8v1(&random).unwrap();
                EncodingKey::from_ed_der(pair.as_ref())
            }
            Algorithm::RS256 | Algorithm::PS256 => {
                let size = aws_lc_rs::rsa::KeySize::Rsa2048;
                let pair = aws_lc_rs::rsa::KeyPair::generate(size).unwrap();
                let der = pair.as_der().unwrap();
                let pem = format!(
                    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                    STANDARD.encode(der.as_ref())
                );
                EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
            }
            _ => unreachable!("not in these tests"),
        };
        Self {
            algorithm,
            kid,
            key,
        }
    }

    /// The public half.
    fn jwk(&self) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap())
                .unwrap();
        if let Some(kid) = self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = self.kid.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

/// Good claims, each time with a `jti` of their own.
fn claims_of(scene: &Scene) -> Value {
    let now = scene.app.clock.now().unix_timestamp();
    json!({
        "iss": scene.client_id, "sub": scene.client_id, "aud": testing::ORIGIN,
        "iat": now, "exp": now + 300, "jti": crate::ids::new_id(),
    })
}

impl Scene {
    /// A refresh with what shows who the client is.
    async fn ask_with(&mut self, path: &str, fields: &[(&str, &str)], assertion: &str) -> Answer {
        let fields: Vec<_> = [
            ("client_assertion_type", TYPE),
            ("client_assertion", assertion),
        ]
        .into_iter()
        .chain(fields.iter().copied())
        .collect();
        self.client.form(path, &fields, &[]).await
    }

    /// Whether an assertion lets the client in: then it is told that the code is unknown.
    async fn try_assertion(&mut self, assertion: &str) -> Answer {
        let fields = code_fields("brg_unknown");
        self.ask_with("/oauth/token", &fields, assertion).await
    }
}

fn publish(web: &Web, keys: &Value) {
    let mut document = document();
    document["token_endpoint_auth_method"] = json!("private_key_jwt");
    document["jwks"] = json!({ "keys": keys });
    web.put(CLIENT, document);
}

#[tokio::test]
async fn r31_a_document_client_signs_with_each_algorithm() {
    for algorithm in [
        Algorithm::ES256,
        Algorithm::RS256,
        Algorithm::PS256,
        Algorithm::EdDSA,
    ] {
        let (mut scene, web) = scene().await;
        let signer = Signer::new(algorithm, Some("one"));
        publish(&web, &json!([signer.jwk()]));
        let code = scene.code().await;
        let assertion = signer.sign(&claims_of(&scene));
        let answer = scene
            .ask_with("/oauth/token", &code_fields(&code), &assertion)
            .await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "{algorithm:?} {}",
            answer.body
        );
        let tokens = answer.value();
        let refresh = tokens["refresh_token"].as_str().unwrap();
        // At the other endpoints too, with the client named beside it or not.
        let mut claims = claims_of(&scene);
        claims["aud"] = json!([
            "https://other.example",
            format!("{}/oauth/token", testing::ORIGIN)
        ]);
        let fields = [("client_id", CLIENT), ("token", refresh)];
        let told = scene
            .ask_with("/oauth/introspect", &fields, &signer.sign(&claims))
            .await;
        assert_eq!(told.value()["active"], true, "{}", told.body);
        let assertion = signer.sign(&claims_of(&scene));
        let revoked = scene
            .ask_with("/oauth/revoke", &[("token", refresh)], &assertion)
            .await;
        assert_eq!(revoked.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn r31_an_assertion_is_checked_in_every_part() {
    let (mut scene, web) = scene().await;
    let signer = Signer::new(Algorithm::ES256, None);
    let other = Signer::new(Algorithm::ES256, None);
    publish(&web, &json!([signer.jwk()]));
    let now = scene.app.clock.now().unix_timestamp();
    for (name, value, reason) in [
        (
            "iss",
            json!("https://other.example/x"),
            "client_id as iss and sub",
        ),
        ("iss", json!(null), "needs the claims"),
        ("sub", json!("other"), "client_id as iss and sub"),
        ("aud", json!("https://other.example"), "as aud"),
        ("aud", json!([]), "as aud"),
        ("aud", json!(null), "needs the claims"),
        ("aud", json!("http://localhost:8080/"), "as aud"),
        ("aud", json!(RESOURCE), "as aud"),
        ("exp", json!(now - 31), "has expired"),
        ("exp", json!(now + 631), "within 10 minutes"),
        ("exp", json!(1e300), "no usable exp"),
        ("exp", json!(253_402_300_799_u64), "within 10 minutes"),
        ("exp", json!(-1e11), "has expired"),
        ("exp", json!(null), "needs the claims"),
        ("exp", json!("soon"), "needs the claims"),
        ("nbf", json!(now + 31), "not valid yet"),
        ("jti", json!(null), "needs a jti"),
        ("jti", json!(""), "needs a jti"),
    ] {
        let mut claims = claims_of(&scene);
        claims[name] = value;
        let client_id = [("client_id", CLIENT)];
        let fields: Vec<_> = client_id.into_iter().chain(code_fields("x")).collect();
        let assertion = signer.sign(&claims);
        let answer = scene.ask_with("/oauth/token", &fields, &assertion).await;
        assert_error(&answer, 401, "invalid_client");
        assert!(answer.body.contains(reason), "{claims} {}", answer.body);
    }
    // Another's signature, a changed text, none at all.
    let good = signer.sign(&claims_of(&scene));
    let (text, _) = good.rsplit_once('.').unwrap();
    let none = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        text.split('.').nth(1).unwrap()
    );
    let hmac = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims_of(&scene),
        &EncodingKey::from_secret(signer.jwk().to_string().as_bytes()),
    )
    .unwrap();
    for (assertion, reason) in [
        (
            other.sign(&claims_of(&scene)),
            "not signed by a key of the client",
        ),
        (
            format!("{text}.{}", URL_SAFE_NO_PAD.encode([1; 64])),
            "not signed by a key of the client",
        ),
        (none, "not a signed JWT"),
        (hmac, "algorithm other than"),
    ] {
        let answer = scene.try_assertion(&assertion).await;
        assert_error(&answer, 401, "invalid_client");
        assert!(answer.body.contains(reason), "{}", answer.body);
    }
    // And the good one gets through, once.
    assert_error(&scene.try_assertion(&good).await, 400, "invalid_grant");
    let replayed = scene.try_assertion(&good).await;
    assert_error(&replayed, 401, "invalid_client");
    assert!(replayed.body.contains("shown before"));
    // Clocks differ a little, and seconds have fractions.
    let mut claims = claims_of(&scene);
    claims["exp"] = json!(f64::from(u32::try_from(now).unwrap()) - 29.5);
    let answer = scene.try_assertion(&signer.sign(&claims)).await;
    assert_error(&answer, 400, "invalid_grant");
}

#[tokio::test]
async fn r31_a_client_with_keys_is_let_in_by_nothing_else() {
    let (mut scene, web) = scene().await;
    let signer = Signer::new(Algorithm::ES256, None);
    publish(&web, &json!([signer.jwk()]));
    let answer = scene.exchange("x").await;
    assert_error(&answer, 401, "invalid_client");
    assert!(answer.body.contains("must show a client_assertion"));
    let answer = scene.ask(&[("client_secret", "x")]).await;
    assert_error(&answer, 401, "invalid_client");
    let good = signer.sign(&claims_of(&scene));
    for (fields, reason) in [
        (
            [("client_assertion_type", TYPE), ("client_secret", "x")],
            "in two ways",
        ),
        (
            [("client_assertion_type", "jwt"), ("x", "y")],
            "client_assertion_type must be",
        ),
    ] {
        let fields: Vec<_> = fields
            .into_iter()
            .chain([("client_assertion", good.as_str())])
            .collect();
        let answer = scene.ask(&fields).await;
        assert_error(&answer, 400, "invalid_request");
        assert!(answer.body.contains(reason), "{}", answer.body);
    }
    // Somebody else's assertion does not help.
    let other = "https://client.example/oauth/other.json";
    let mut document = document();
    document["client_id"] = json!(other);
    web.put(other, document);
    let mut claims = claims_of(&scene);
    (claims["iss"], claims["sub"]) = (json!(other), json!(other));
    let fields: Vec<_> = [("client_id", CLIENT)]
        .into_iter()
        .chain(code_fields("x"))
        .collect();
    let answer = scene
        .ask_with("/oauth/token", &fields, &signer.sign(&claims))
        .await;
    assert_error(&answer, 401, "invalid_client");
}

#[tokio::test]
async fn r31_keys_behind_a_url_are_kept_and_asked_for_again_when_they_change() {
    let (mut scene, web) = scene().await;
    let first = Signer::new(Algorithm::ES256, Some("first"));
    let second = Signer::new(Algorithm::ES256, Some("second"));
    let mut document = document();
    document["token_endpoint_auth_method"] = json!("private_key_jwt");
    document["jwks_uri"] = json!(KEYS);
    web.put(CLIENT, document);
    web.put(KEYS, json!({ "keys": [{ "kty": "unknown" }, first.jwk()] }));
    for _ in 0..2 {
        let assertion = first.sign(&claims_of(&scene));
        assert_error(&scene.try_assertion(&assertion).await, 400, "invalid_grant");
    }
    assert_eq!(web.asked(), 2, "the document and the keys");
    // A key that is not known is looked for, at most once in a minute.
    web.put(KEYS, json!({ "keys": [second.jwk()] }));
    let assertion = second.sign(&claims_of(&scene));
    assert_error(
        &scene.try_assertion(&assertion).await,
        401,
        "invalid_client",
    );
    assert_eq!(web.asked(), 2);
    scene.app.clock.advance(Duration::MINUTE);
    assert_error(&scene.try_assertion(&assertion).await, 400, "invalid_grant");
    assert_eq!(web.asked(), 3);
    // While the host is away, the keys that are known still count; when it has none, nothing does.
    web.answer(KEYS, Err(outbound::Fault::TimedOut));
    scene.app.clock.advance(Duration::hours(2));
    let assertion = second.sign(&claims_of(&scene));
    assert_error(&scene.try_assertion(&assertion).await, 400, "invalid_grant");
    web.answer(KEYS, Err(outbound::Fault::Status(404)));
    scene.app.clock.advance(Duration::MINUTE);
    let assertion = second.sign(&claims_of(&scene));
    let answer = scene.try_assertion(&assertion).await;
    assert_error(&answer, 401, "invalid_client");
    assert!(answer.body.contains("jwks_uri"), "{}", answer.body);
}

#[tokio::test]
async fn a_registered_client_may_sign_too() {
    let mut scene = Scene::new().await;
    let signer = Signer::new(Algorithm::ES256, None);
    let body = json!({
        "token_endpoint_auth_method": "private_key_jwt", "jwks": { "keys": [signer.jwk()] },
    });
    let registered = register(&mut scene.client, &body).await;
    assert!(registered.get("client_secret").is_none());
    scene.client_id = registered["client_id"].as_str().unwrap().to_owned();
    let code = scene.code().await;
    assert_error(&scene.exchange(&code).await, 401, "invalid_client");
    let assertion = signer.sign(&claims_of(&scene));
    let answer = scene
        .ask_with("/oauth/token", &code_fields(&code), &assertion)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn assertions_are_forgotten_when_they_could_not_be_shown_again() {
    let (mut scene, web) = scene().await;
    let signer = Signer::new(Algorithm::ES256, None);
    publish(&web, &json!([signer.jwk()]));
    let assertion = signer.sign(&claims_of(&scene));
    assert_error(&scene.try_assertion(&assertion).await, 400, "invalid_grant");
    for (seconds, left) in [(329, 1), (2, 0)] {
        scene.app.clock.advance(Duration::seconds(seconds));
        let mut db = scene.app.db.acquire().await.unwrap();
        let now = scene.app.clock.now();
        crate::clients::purge_unused(&mut db, now).await.unwrap();
        assert_eq!(scene.count("client_assertions").await, left);
        assert_error(
            &scene.try_assertion(&assertion).await,
            401,
            "invalid_client",
        );
    }
}
