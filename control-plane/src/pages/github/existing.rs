//! An App that is there already, as an operator enters it.

use serde::Deserialize;

use crate::app::App;
use crate::config::Secret;
use crate::error::{Result, invalid};
use crate::github::Failure;
use crate::github::registration::{self, NewRegistration};
use crate::github::rest;

/// Longest value of a form: a private key of 4096 bits takes 3.3 KB.
const MAX_VALUE: usize = 16 * 1024;

/// An App that is there already. Secrets do not come back into the form.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Existing {
    pub id: String,
    pub client_id: String,
    client_secret: String,
    private_key: String,
    webhook_secret: String,
}

impl Existing {
    /// The App, if GitHub knows it by its key.
    pub async fn check(&self, app: &App) -> Result<NewRegistration> {
        let needed = |name: &'static str, value: &str, what: &str| {
            let value = value.trim();
            if value.is_empty() || value.len() > MAX_VALUE {
                Err(invalid(name, format!("Give the App's {what}.")))
            } else {
                Ok(value.to_owned())
            }
        };
        let id: i64 =
            self.id.trim().parse().map_err(|_| {
                invalid("id", "The App ID is a number; it stands on the App's page.")
            })?;
        let client_id = needed("client_id", &self.client_id, "client ID")?;
        let client_secret = needed("client_secret", &self.client_secret, "client secret")?;
        let webhook_secret = needed("webhook_secret", &self.webhook_secret, "webhook secret")?;
        let private_key = Secret::new(needed("private_key", &self.private_key, "private key")?);
        let assertion = registration::assertion(id, &private_key, app.clock.now())?;
        let known = rest::app_itself(app, &assertion).await.map_err(|failure| {
        match failure {
            Failure::Unauthorized(_) | Failure::NotFound => invalid(
                "private_key",
                "GitHub does not know this App ID with this private key; check both, and that the clock of this machine is right.",
            ),
            other => other.into(),
        }
    })?;
        if known.id != id || known.client_id.is_some_and(|known| known != client_id) {
            return Err(invalid(
                "client_id",
                "The client ID is another App's; it stands on the App's page.",
            ));
        }
        Ok(NewRegistration {
            id,
            slug: known.slug,
            name: known.name,
            page: known.html_url,
            client_id,
            client_secret: Secret::new(client_secret),
            private_key,
            webhook_secret: Secret::new(webhook_secret),
        })
    }
}
