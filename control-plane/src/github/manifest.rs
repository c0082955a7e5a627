//! The App's manifest: what an operator sends to GitHub by one button, and what comes of it.
//! <https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest>

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Call, Credential};
use super::failure::Failure;
use super::registration::NewRegistration;
use crate::app::App;
use crate::config::{Secret, ServeConfig};
use crate::ids;

/// Where webhooks arrive.
pub const WEBHOOK_PATH: &str = "/webhooks/github";

/// Where people come back to after GitHub asked them who they are.
pub const CALLBACK_PATH: &str = "/github/callback";

/// Where people come back to after installing the App.
pub const SETUP_PATH: &str = "/github/installed";

/// Where the operator comes back to with a new App.
pub const CREATED_PATH: &str = "/settings/github/created";

/// Longest name of an App.
const MAX_NAME: usize = 34;

/// What the App asks to be told. `installation` and `installation_repositories` come unasked.
const EVENTS: [&str; 6] = [
    "push",
    "pull_request",
    "repository",
    "create",
    "delete",
    "check_run",
];

/// What an operator chooses of a new App.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Organizations are to decide who signs up, which takes a look at who belongs to them.
    pub members: bool,
    /// Accounts other than the App's own may install it.
    pub public: bool,
    /// People are to create repositories from the bundled templates by it.
    pub creation: bool,
}

/// The manifest.
pub fn manifest(config: &ServeConfig, wanted: Wanted) -> Value {
    let at = |path: &str| format!("{}{path}", config.issuer());
    let mut permissions = json!({
        "contents": "read",
        "metadata": "read",
        "pull_requests": "write",
        "checks": "write",
        "statuses": "write",
        "deployments": "write",
    });
    if wanted.members {
        permissions["members"] = json!("read");
    }
    if wanted.creation {
        permissions["administration"] = json!("write");
        permissions["contents"] = json!("write");
    }
    json!({
        "name": name(config),
        "url": config.issuer(),
        "hook_attributes": { "url": at(WEBHOOK_PATH), "active": true },
        "redirect_url": at(CREATED_PATH),
        "callback_urls": [at(CALLBACK_PATH)],
        "setup_url": at(SETUP_PATH),
        "setup_on_update": true,
        "request_oauth_on_install": false,
        "public": wanted.public,
        "default_permissions": permissions,
        "default_events": EVENTS,
    })
}

/// Names of Apps are unique at GitHub, so it holds the platform's host. It can be changed there.
fn name(config: &ServeConfig) -> String {
    let host = config.url.host_str().unwrap_or("berth");
    format!("Berth {host}").chars().take(MAX_NAME).collect()
}

/// Where the manifest is sent, for a person's account or an organization's.
pub fn action(config: &ServeConfig, organization: Option<&str>, state: &str) -> String {
    let mut url = config.github_url.clone();
    {
        let mut path = url.path_segments_mut().expect("http addresses have paths");
        path.pop_if_empty();
        if let Some(organization) = organization {
            path.extend(["organizations", organization]);
        }
        path.extend(["settings", "apps", "new"]);
    }
    url.query_pairs_mut().append_pair("state", state);
    url.into()
}

#[derive(Deserialize)]
struct Created {
    id: i64,
    slug: Option<String>,
    name: String,
    html_url: String,
    client_id: String,
    client_secret: String,
    webhook_secret: Option<String>,
    pem: String,
}

/// Takes the App that GitHub made, by the code that it gave; a code works once, for an hour.
pub async fn convert(app: &App, code: &str) -> Result<NewRegistration, Failure> {
    let path = ["app-manifests", code, "conversions"];
    let created: Created = app
        .github
        .client
        .ask(&Credential::None, Call::post(&path, None))
        .await?;
    Ok(NewRegistration {
        id: created.id,
        slug: created.slug.unwrap_or_default(),
        name: created.name,
        page: created.html_url,
        client_id: created.client_id,
        client_secret: Secret::new(created.client_secret),
        private_key: Secret::new(created.pem),
        // GitHub makes one whenever a hook is active; an App without gets none that anyone knows.
        webhook_secret: Secret::new(
            created
                .webhook_secret
                .filter(|secret| !secret.is_empty())
                .unwrap_or_else(|| ids::random_token("")),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_manifest_asks_for_what_is_used() {
        let config = testing::config(&[]);
        let asked = json!({
            "contents": "read", "metadata": "read", "pull_requests": "write", "checks": "write",
            "statuses": "write", "deployments": "write",
        });
        assert_eq!(
            manifest(&config, Wanted::default())["default_permissions"],
            asked
        );
        assert_eq!(
            manifest(
                &config,
                Wanted {
                    members: true,
                    public: true,
                    creation: false,
                }
            )["default_permissions"]["members"],
            "read"
        );
        let creation = Wanted {
            creation: true,
            ..Wanted::default()
        };
        let asked = &manifest(&config, creation)["default_permissions"];
        assert_eq!(
            (&asked["administration"], &asked["contents"]),
            (&json!("write"), &json!("write"))
        );
        assert_eq!(manifest(&config, Wanted::default())["public"], false);
        assert_eq!(
            action(&config, Some("a b/c"), "s&t"),
            "https://github.com/organizations/a%20b%2Fc/settings/apps/new?state=s%26t"
        );
        assert_eq!(
            action(&config, None, "x"),
            "https://github.com/settings/apps/new?state=x"
        );
    }
}
