//! What an App does as itself, and with the tokens of its installations.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Call, Handler, Reply, Stop, Who, rights};
use crate::github::call::{invalid, not_found, refused};
use crate::github::state::{self, InstallationToken, Repository, State};
use crate::github::views::{self, extend, selection};

pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    ("POST", "/app-manifests/{code}/conversions", convert),
    ("GET", "/app", app),
    ("GET", "/app/installations", installations),
    ("GET", "/app/installations/{installation_id}", installation),
    ("DELETE", "/app/installations/{installation_id}", uninstall),
    (
        "POST",
        "/app/installations/{installation_id}/access_tokens",
        token,
    ),
    ("GET", "/app/hook/config", hook_config),
    ("PATCH", "/app/hook/config", change_hook_config),
    ("GET", "/app/hook/deliveries", deliveries),
    (
        "POST",
        "/app/hook/deliveries/{delivery_id}/attempts",
        redeliver,
    ),
    ("GET", "/repos/{owner}/{repo}/installation", of_repository),
    ("GET", "/installation/repositories", repositories),
    ("DELETE", "/installation/token", revoke),
    (
        "DELETE",
        "/applications/{client_id}/token",
        revoke_user_token,
    ),
    ("DELETE", "/applications/{client_id}/grant", revoke_grant),
];

/// A code of the manifest flow is good once and for an hour.
fn convert(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let id = state.conversions.remove(call.param("code"));
    let app = &state.apps[&id.ok_or_else(not_found)?];
    let mut shown = call.shared.app(&state, app);
    extend(
        &mut shown,
        json!({
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "webhook_secret": app.webhook_secret,
            "pem": app.private_key,
        }),
    );
    Ok(Reply::json(201, shown))
}

fn app(call: &Call<'_>) -> Result<Reply, Stop> {
    let id = call.app()?;
    let state = call.shared.state();
    let mut shown = call.shared.app(&state, &state.apps[&id]);
    let count = state
        .installations
        .values()
        .filter(|one| one.app == id)
        .count();
    shown["installations_count"] = count.into();
    Ok(Reply::json(200, shown))
}

fn installations(call: &Call<'_>) -> Result<Reply, Stop> {
    let app = call.app()?;
    let state = call.shared.state();
    let own = state.installations.values().filter(|one| one.app == app);
    let shown = own
        .map(|one| call.shared.installation(&state, one))
        .collect();
    Ok(call.list(shown))
}

fn installation(call: &Call<'_>) -> Result<Reply, Stop> {
    let app = call.app()?;
    let state = call.shared.state();
    let found = state.installations.get(&call.number("installation_id")?);
    let found = found.filter(|one| one.app == app).ok_or_else(not_found)?;
    Ok(Reply::json(200, call.shared.installation(&state, found)))
}

fn uninstall(call: &Call<'_>) -> Result<Reply, Stop> {
    let app = call.app()?;
    let mut state = call.shared.state();
    let id = call.number("installation_id")?;
    let found = state.installations.get(&id);
    let sender = found
        .filter(|one| one.app == app)
        .ok_or_else(not_found)?
        .account;
    call.shared.remove_installation(&mut state, id, sender);
    Ok(Reply::nothing())
}

fn of_repository(call: &Call<'_>) -> Result<Reply, Stop> {
    let app = call.app()?;
    let state = call.shared.state();
    let repository = state.repository(call.param("owner"), call.param("repo"));
    let repository = repository.ok_or_else(not_found)?;
    let found = state
        .installations
        .values()
        .find(|one| one.app == app && State::reaches(one, repository))
        .ok_or_else(not_found)?;
    Ok(Reply::json(200, call.shared.installation(&state, found)))
}

/// Makes a token for all of an installation or less of it.
fn token(call: &Call<'_>) -> Result<Reply, Stop> {
    let app = call.app()?;
    let mut state = call.shared.state();
    let id = call.number("installation_id")?;
    let installation = state.installations.get(&id).cloned();
    let installation = installation
        .filter(|one| one.app == app)
        .ok_or_else(not_found)?;
    if installation.suspended.is_some() {
        return Err(refused(403, "This installation has been suspended"));
    }
    let permissions = permissions(call, &installation.permissions)?;
    let repositories = narrowed(call, &state, &installation)?;
    let value = state::random(&state::random("ghs_"));
    let expires_at = state::now() + state.token_lifetime;
    let mut shown = json!({
        "token": value,
        "expires_at": views::time(expires_at),
        "permissions": permissions,
        "repository_selection": match &repositories {
            Some(_) => "selected",
            None => selection(&installation.repositories),
        },
    });
    if let Some(some) = &repositories {
        shown["repositories"] = some
            .iter()
            .map(|one| call.shared.repository(&state, &state.repositories[one]))
            .collect();
    }
    state.tokens.insert(
        value,
        InstallationToken {
            installation: id,
            permissions,
            repositories,
            expires_at,
        },
    );
    *state.minted.entry(id).or_default() += 1;
    Ok(Reply::json(201, shown))
}

fn permissions(
    call: &Call<'_>,
    granted: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Stop> {
    let Some(asked) = call.member("permissions").as_object() else {
        return Ok(granted.clone());
    };
    let mut permissions = BTreeMap::new();
    for (name, level) in asked {
        let level = level.as_str().unwrap_or_default();
        let granted = granted.get(name).map(String::as_str);
        if !matches!(
            (granted, level),
            (Some("write" | "read"), "read") | (Some("write"), "write")
        ) {
            let message = "The permissions requested are not granted to this installation.";
            return Err(refused(422, message));
        }
        permissions.insert(name.clone(), level.to_owned());
    }
    // Everything includes it.
    permissions.insert("metadata".to_owned(), "read".to_owned());
    Ok(permissions)
}

fn narrowed(
    call: &Call<'_>,
    state: &State,
    installation: &state::Installation,
) -> Result<Option<BTreeSet<u64>>, Stop> {
    let (ids, names) = (call.member("repository_ids"), call.member("repositories"));
    if ids.is_null() && names.is_null() {
        return Ok(None);
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let account = &state.accounts[&installation.account].login;
    let by_id = list(ids)
        .into_iter()
        .map(|id| state.repositories.get(&id.as_u64().unwrap_or_default()));
    let by_name = list(names)
        .into_iter()
        .map(|name| state.repository(account, name.as_str().unwrap_or_default()));
    let mut all = BTreeSet::new();
    for found in by_id.chain(by_name) {
        let Some(found) = found.filter(|one| State::reaches(installation, one)) else {
            let message = "There is at least one repository that does not exist or is not accessible to the parent installation.";
            return Err(refused(422, message));
        };
        all.insert(found.id);
    }
    Ok(Some(all))
}

/// What the token reaches.
fn repositories(call: &Call<'_>) -> Result<Reply, Stop> {
    let Who::Installation {
        id, repositories, ..
    } = &call.who
    else {
        return Err(match call.who {
            Who::Nobody => refused(401, "Requires authentication"),
            _ => refused(
                403,
                "You must authenticate with an installation access token in order to list repositories for an installation.",
            ),
        });
    };
    let state = call.shared.state();
    let installation = state.installations.get(id).ok_or_else(not_found)?;
    let reached = |one: &&Repository| {
        State::reaches(installation, one)
            && repositories
                .as_ref()
                .is_none_or(|some| some.contains(&one.id))
    };
    let shown = state
        .repositories
        .values()
        .filter(reached)
        .map(|one| {
            let mut shown = call.shared.repository(&state, one);
            shown["permissions"] = rights(false, false);
            shown
        })
        .collect();
    let more = json!({ "repository_selection": selection(&installation.repositories) });
    Ok(call.counted("repositories", shown, more))
}

fn revoke(call: &Call<'_>) -> Result<Reply, Stop> {
    let header = call
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|value| value.split(' ').nth(1))
        .unwrap_or_default();
    match call.shared.state().tokens.remove(token) {
        Some(_) => Ok(Reply::nothing()),
        None => Err(refused(401, "Requires authentication")),
    }
}

fn client(call: &Call<'_>, state: &State) -> Result<u64, Stop> {
    match call.who {
        Who::Client(app) if state.apps[&app].client_id == call.param("client_id") => Ok(app),
        _ => Err(not_found()),
    }
}

fn revoke_user_token(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let app = client(call, &state)?;
    let token = call.text("access_token").unwrap_or_default();
    let known = state
        .user_tokens
        .get(&token)
        .is_some_and(|one| one.app == app);
    if !known {
        return Err(not_found());
    }
    state.user_tokens.remove(&token);
    Ok(Reply::nothing())
}

/// Also forgets that the person allowed the App.
fn revoke_grant(call: &Call<'_>) -> Result<Reply, Stop> {
    let mut state = call.shared.state();
    let app = client(call, &state)?;
    let token = call.text("access_token").unwrap_or_default();
    let found = state.user_tokens.get(&token).filter(|one| one.app == app);
    let user = found.ok_or_else(not_found)?.user;
    state
        .user_tokens
        .retain(|_, one| (one.user, one.app) != (user, app));
    state.grants.remove(&(user, app));
    Ok(Reply::nothing())
}

fn hook_config(call: &Call<'_>) -> Result<Reply, Stop> {
    let app = call.app()?;
    let state = call.shared.state();
    let url = state.apps[&app].hook_url.clone().ok_or_else(not_found)?;
    Ok(Reply::json(200, config(&url)))
}

fn config(url: &str) -> Value {
    json!({ "content_type": "json", "insecure_ssl": "0", "secret": "********", "url": url })
}

fn change_hook_config(call: &Call<'_>) -> Result<Reply, Stop> {
    let id = call.app()?;
    let mut state = call.shared.state();
    let app = state.apps.get_mut(&id).ok_or_else(not_found)?;
    if let Some(url) = call.text("url") {
        if url::Url::parse(&url).is_err() {
            return Err(invalid("Hook", "url", "invalid"));
        }
        app.hook_url = Some(url);
    }
    if let Some(secret) = call.text("secret") {
        app.webhook_secret = secret;
    }
    let url = app.hook_url.clone().unwrap_or_default();
    Ok(Reply::json(200, config(&url)))
}

/// Newest first.
fn deliveries(call: &Call<'_>) -> Result<Reply, Stop> {
    let app = call.app()?;
    let sent = call.shared.hooks.all().into_iter().rev();
    let shown = sent
        .filter(|one| one.app == app)
        .filter_map(|one| {
            Some(json!({
                "id": one.id,
                "guid": one.guid,
                "delivered_at": views::time(one.delivered_at?),
                "redelivery": one.redelivery,
                "duration": one.duration.as_secs_f64(),
                "status": one.status,
                "status_code": one.status_code,
                "event": one.event,
                "action": one.action,
                "installation_id": one.installation,
                "repository_id": one.repository,
                "throttled_at": null,
            }))
        })
        .collect();
    Ok(by_cursor(call, shown))
}

/// This list alone is paged by a cursor.
fn by_cursor(call: &Call<'_>, all: Vec<Value>) -> Reply {
    let size = call.query("per_page").and_then(|value| value.parse().ok());
    let size: usize = size.unwrap_or(30).min(100);
    let from = call.query("cursor").and_then(|value| value.parse().ok());
    let from: usize = from.unwrap_or(0);
    let mut reply = Reply::json(200, Value::Null);
    if from + size < all.len() {
        let (api, address) = (&call.shared.api_url, call.address);
        let next = format!(
            "<{api}{address}?per_page={size}&cursor={}>; rel=\"next\"",
            from + size
        );
        reply.headers.push(("link", next));
    }
    reply.body = Some(all.into_iter().skip(from).take(size).collect());
    reply
}

fn redeliver(call: &Call<'_>) -> Result<Reply, Stop> {
    let app = call.app()?;
    let first = call.shared.hooks.find(call.number("delivery_id")?);
    let mut again = first.filter(|one| one.app == app).ok_or_else(not_found)?;
    again.id = call.shared.state().id();
    again.redelivery = true;
    call.shared.hooks.add(again);
    Ok(Reply::json(202, json!({})))
}
