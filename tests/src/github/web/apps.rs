//! Apps from manifests (GitHub's documentation, "Registering a GitHub App from a manifest").

use anyhow::Result;
use axum::body::Body;
use axum::http::Response;
use serde_json::Value;

use super::{Visit, field, html, redirect, refuse, with};
use crate::github::pages;
use crate::github::state::{self, Manifest};

impl Visit<'_> {
    /// A manifest comes from another site, without this one's cookies; it is kept and shown next.
    pub(super) fn keep_manifest(&self, organization: Option<&str>) -> Result<Response<Body>> {
        let text = field(&self.form, "manifest").unwrap_or_default();
        let Ok(document) = serde_json::from_str::<Value>(text) else {
            return refuse(
                422,
                "Invalid GitHub App configuration: the manifest is no JSON.",
            );
        };
        let key = state::random("");
        let kept = Manifest {
            document,
            state: field(&self.query, "state").map(str::to_owned),
            organization: organization.map(str::to_owned),
        };
        self.shared.state().manifests.insert(key.clone(), kept);
        redirect(&format!("/settings/apps/manifest?manifest_token={key}"))
    }

    pub(super) fn show_manifest(&self) -> Result<Response<Body>> {
        let state = self.shared.state();
        if self.person(&state).is_none() {
            drop(state);
            return self.who_are_you();
        }
        let key = field(&self.query, "manifest_token").unwrap_or_default();
        let Some(manifest) = state.manifests.get(key) else {
            return html(404, pages::page("Page not found", ""));
        };
        let name = manifest.document["name"].as_str().unwrap_or_default();
        let shown = serde_json::to_string_pretty(&manifest.document)?;
        html(200, pages::manifest(key, name, &shown))
    }

    /// Makes the App and sends a code for its keys to the manifest's `redirect_url`.
    pub(super) fn create_app(&self) -> Result<Response<Body>> {
        let (mut manifest, owner) = {
            let mut state = self.shared.state();
            let Some(person) = self.person(&state) else {
                drop(state);
                return self.who_are_you();
            };
            let key = field(&self.form, "manifest_token").unwrap_or_default();
            let Some(manifest) = state.manifests.remove(key) else {
                return html(404, pages::page("Page not found", ""));
            };
            let owner = match &manifest.organization {
                None => person.id,
                Some(login) => match state.account(login) {
                    Some(one) if one.members.contains(&person.id) => one.id,
                    _ => return html(404, pages::page("Page not found", "")),
                },
            };
            (manifest, owner)
        };
        if let Some(name) = field(&self.form, "app_name") {
            manifest.document["name"] = name.into();
        }
        let Some(to) = manifest.document["redirect_url"]
            .as_str()
            .map(str::to_owned)
        else {
            return refuse(
                422,
                "Invalid GitHub App configuration: redirect_url is missing.",
            );
        };
        let id = match self.shared.new_app(owner, &manifest.document) {
            Ok(id) => id,
            Err(error) => {
                return refuse(422, &format!("Invalid GitHub App configuration: {error}"));
            }
        };
        let code = state::random("");
        self.shared.state().conversions.insert(code.clone(), id);
        let parameters = [("code", Some(&*code)), ("state", manifest.state.as_deref())];
        redirect(&with(&to, &parameters)?)
    }
}
