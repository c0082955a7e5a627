use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::testing::{Browser, app, owner, project};

const URL: &str = "https://hello.apps-example.net/mcp";
const SSE_URL: &str = "https://hello.apps-example.net/sse";
const KEY_URL: &str = "https://hello--key.apps-example.net/mcp";

fn target(mode: Mode) -> Target {
    Target {
        name: "hello".into(),
        url: URL.into(),
        key_url: KEY_URL.into(),
        mode,
        transport: Transport::StreamableHttp,
    }
}

fn old_transport(mode: Mode) -> Target {
    Target {
        url: SSE_URL.into(),
        key_url: "https://hello--key.apps-example.net/sse".into(),
        transport: Transport::Sse,
        ..target(mode)
    }
}

fn local() -> Target {
    Target {
        url: "http://hello.localhost:8080/mcp".into(),
        key_url: "http://hello--key.localhost:8080/mcp".into(),
        ..target(Mode::Platform)
    }
}

fn guide(target: &Target, credential: Credential, id: &str) -> Guide {
    guides(target, credential)
        .into_iter()
        .find(|guide| guide.id == id)
        .unwrap()
}

fn snippet(guide: &Guide, kind: Kind) -> &str {
    &guide
        .snippets
        .iter()
        .find(|it| it.kind == kind)
        .unwrap()
        .text
}

/// What JavaScript's `decodeURIComponent` makes of it.
fn decode(text: &str) -> String {
    assert!(!text.contains('+'), "{text}");
    let (name, _) = url::form_urlencoded::parse(text.as_bytes()).next().unwrap();
    name.into_owned()
}

/// The text of a guide with its links decoded.
fn read(guide: &Guide) -> String {
    let texts: Vec<String> = guide
        .snippets
        .iter()
        .map(|it| match it.text.split_once("config=") {
            Some((_, config)) if it.kind == Kind::Link => {
                String::from_utf8(STANDARD.decode(decode(config)).unwrap()).unwrap()
            }
            _ if it.kind == Kind::Link => decode(&it.text),
            _ => it.text.clone(),
        })
        .collect();
    texts.join("\n")
}

#[test]
fn r57_every_snippet_shows_exactly_the_canonical_url() {
    for (mode, credential) in [
        (Mode::Platform, Credential::SignIn),
        (Mode::Public, Credential::None),
        (Mode::Tenant, Credential::SignIn),
    ] {
        let all = guides(&target(mode), credential);
        assert_eq!(all.len(), CLIENTS.len());
        for guide in all {
            let text = read(&guide);
            assert!(text.contains(URL), "{}: {text}", guide.id);
            for (at, _) in text.match_indices("https://hello") {
                let rest = &text[at..];
                assert!(rest.starts_with(URL), "{}: {rest}", guide.id);
                let next = rest[URL.len()..].chars().next();
                assert!(
                    next.is_none_or(|c| matches!(c, '"' | '\'' | ' ' | '\n')),
                    "{}: {rest}",
                    guide.id
                );
            }
        }
    }
}

#[test]
fn r57_with_an_api_token_the_url_is_canonical_or_the_one_without_sign_in() {
    for guide in guides(&target(Mode::Platform), Credential::ApiToken) {
        let text = read(&guide);
        for (at, _) in text.match_indices("https://hello") {
            let rest = &text[at..];
            assert!(
                rest.starts_with(URL) || rest.starts_with(KEY_URL),
                "{}: {rest}",
                guide.id
            );
        }
        assert!(!text.contains("/mcp/"), "{}: {text}", guide.id);
        let token = text.contains(TOKEN_PLACEHOLDER)
            || text.contains(TOKEN_VARIABLE)
            || text.contains("${input:hello-token}");
        assert_eq!(token, guide.credential == Credential::ApiToken, "{text}");
    }
}

#[test]
fn r57_of_a_server_of_http_and_sse_every_snippet_shows_its_stream() {
    for (mode, credential) in [
        (Mode::Platform, Credential::SignIn),
        (Mode::Platform, Credential::ApiToken),
        (Mode::Public, Credential::None),
    ] {
        for guide in guides(&old_transport(mode), credential) {
            let text = read(&guide);
            assert!(text.contains("/sse"), "{}: {text}", guide.id);
            for usual in [
                "/mcp\"",
                "/mcp'",
                "/mcp ",
                "/mcp\n",
                "StreamableHTTP",
                "streamable",
                "\"http\"",
                "transport http",
            ] {
                assert!(!text.contains(usual), "{}: {usual}: {text}", guide.id);
            }
            assert!(!text.ends_with("/mcp"), "{}: {text}", guide.id);
            assert!(guide.notes.iter().any(|note| note == OLD_TRANSPORT));
        }
    }
    let codex = guide(
        &old_transport(Mode::Platform),
        Credential::ApiToken,
        "codex",
    );
    assert_eq!(
        snippet(&codex, Kind::Toml),
        "[mcp_servers.hello]\ncommand = \"npx\"\nargs = [\"-y\",\"mcp-remote\",\"https://hello--key.apps-example.net/sse\",\"--transport\",\"sse-only\",\"--header\",\"Authorization:${AUTHORIZATION}\"]\nenv = { AUTHORIZATION = \"Bearer brt_…\" }"
    );
}

#[test]
fn links_say_the_same_as_the_files() {
    let target = target(Mode::Platform);
    let cursor = guide(&target, Credential::SignIn, "cursor");
    let link = Url::parse(snippet(&cursor, Kind::Link)).unwrap();
    let query: std::collections::HashMap<_, _> = link.query_pairs().collect();
    assert_eq!(query["name"], "hello");
    let config: Value =
        serde_json::from_slice(&STANDARD.decode(query["config"].as_ref()).unwrap()).unwrap();
    assert_eq!(config, json!({ "url": URL }));
    let file: Value = serde_json::from_str(snippet(&cursor, Kind::Json)).unwrap();
    assert_eq!(file["mcpServers"]["hello"], config);

    let vscode = guide(&target, Credential::SignIn, "vscode");
    let link = snippet(&vscode, Kind::Link);
    let config = decode(link.strip_prefix("vscode:mcp/install?").unwrap());
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        config,
        json!({ "name": "hello", "type": "http", "url": URL })
    );
    let command = snippet(&vscode, Kind::Command);
    let command = command.strip_prefix("code --add-mcp '").unwrap();
    let command: Value = serde_json::from_str(command.strip_suffix('\'').unwrap()).unwrap();
    assert_eq!(command, config);
    let file: Value = serde_json::from_str(snippet(&vscode, Kind::Json)).unwrap();
    assert_eq!(
        file,
        json!({ "servers": { "hello": { "type": "http", "url": URL } } })
    );
}

#[test]
fn files_can_be_read_and_hold_no_token() {
    for (mode, credential) in [
        (Mode::Platform, Credential::SignIn),
        (Mode::Platform, Credential::ApiToken),
        (Mode::Public, Credential::None),
    ] {
        for guide in guides(&target(mode), credential) {
            let mut kinds: Vec<&str> = guide.snippets.iter().map(|it| it.kind.name()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            assert_eq!(kinds.len(), guide.snippets.len(), "{}", guide.id);
            for it in &guide.snippets {
                assert_eq!(
                    it.path.is_some(),
                    matches!(it.kind, Kind::Json | Kind::Toml)
                );
                if it.kind == Kind::Json {
                    serde_json::from_str::<Value>(&it.text).unwrap();
                }
            }
        }
    }
}

#[test]
fn hosted_clients_are_told_that_they_cannot_reach_this_machine() {
    let told = |target: &Target, id: &str| {
        guide(target, Credential::SignIn, id)
            .notes
            .iter()
            .any(|note| note.contains("reachable from your own machine"))
    };
    for id in ["claude", "chatgpt"] {
        assert!(told(&local(), id), "{id}");
        assert!(!told(&target(Mode::Platform), id), "{id}");
    }
    assert!(!told(&local(), "cursor"));
    // The bridge runs on this machine, and says that plain http is meant.
    let desktop = guide(&local(), Credential::SignIn, "claude-desktop");
    assert!(snippet(&desktop, Kind::Json).contains("--allow-http"));
    let desktop = guide(
        &target(Mode::Platform),
        Credential::SignIn,
        "claude-desktop",
    );
    assert!(!snippet(&desktop, Kind::Json).contains("--allow-http"));
}

#[test]
fn a_client_that_cannot_do_what_was_asked_says_what_it_does() {
    let target = target(Mode::Platform);
    let curl = guide(&target, Credential::SignIn, "curl");
    assert_eq!(curl.credential, Credential::ApiToken);
    let claude = guide(&target, Credential::ApiToken, "claude");
    assert_eq!(claude.credential, Credential::SignIn);
    assert!(
        claude
            .notes
            .iter()
            .any(|note| note.contains("no API token"))
    );
    let codex = guide(&target, Credential::ApiToken, "codex");
    assert_eq!(
        snippet(&codex, Kind::Toml),
        format!("[mcp_servers.hello]\nurl = \"{KEY_URL}\"\nbearer_token_env_var = \"MCP_TOKEN\"")
    );
}

#[tokio::test]
async fn r57_page_and_api_show_the_same_with_and_without_script() {
    let app = app().await;
    project(&app, "hello").await;
    let mut browser = Browser::signed_in(&app).await;
    let url = app.config.project_url("hello");

    let page = browser.get("/projects/hello?client=cursor").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains(&url));
    let chosen = |id: &str| {
        let (_, tab) = page
            .body
            .split_once(&format!("id=\"client-{id}\""))
            .unwrap();
        tab.split("</a>").next().unwrap().contains("aria-current")
    };
    assert!(chosen("cursor") && !chosen("claude"), "{}", page.body);
    assert!(page.body.contains("href=\"cursor:"), "{}", page.body);
    let part = browser
        .get("/projects/hello/connect?client=codex&credential=api-token")
        .await;
    assert!(part.body.contains("bearer_token_env_var"), "{}", part.body);
    assert!(part.body.contains(&app.config.project_key_url("hello")));
    assert!(!part.body.contains("<html"), "{}", part.body);
    // What is not known counts as not said.
    let part = browser
        .get("/projects/hello/connect?client=nobody&credential=none")
        .await;
    assert!(part.body.contains("claude mcp add"), "{}", part.body);

    let owner = owner(&app).await;
    let mut caller = Browser::with_token(&app, &owner).await;
    let path = "/api/v1/projects/hello/connect";
    let all = caller.get(path).await.value();
    assert_eq!(all["url"], url);
    assert_eq!(all["credentials"], json!(["sign-in", "api-token"]));
    assert_eq!(all["clients"].as_array().unwrap().len(), CLIENTS.len());
    let one = caller.get(&format!("{path}?client=cursor")).await.value();
    assert_eq!(one["clients"].as_array().unwrap().len(), 1);
    assert_eq!(one["clients"][0]["snippets"][0]["kind"], "link");
    assert_eq!(
        caller.get(&format!("{path}?client=nobody")).await.status,
        404
    );
    let refused = caller.get(&format!("{path}?credential=none")).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.body.contains("sign-in, api-token"),
        "{}",
        refused.body
    );

    let public = json!({ "mode": "public" });
    let changed = caller
        .api(axum::http::Method::PATCH, "/projects/hello/access", &public)
        .await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let all = caller.get(path).await.value();
    assert_eq!(all["credentials"], json!(["none"]));
    let page = browser.get("/projects/hello").await;
    assert!(page.body.contains("Nobody has to sign in."));
}
