//! People, organizations, and what a person's token reaches.

use serde_json::{Value, json};

use super::{Call, Handler, Reply, Stop, Who, rights};
use crate::github::call::{not_accessible, not_found, refused};
use crate::github::state::{AccountKind, State};
use crate::github::views::{extend, selection, time};

pub(super) const ROUTES: &[(&str, &str, Handler)] = &[
    ("GET", "/user", myself),
    ("GET", "/user/installations", installations),
    (
        "GET",
        "/user/installations/{installation_id}/repositories",
        repositories,
    ),
    ("GET", "/user/orgs", organizations),
    ("GET", "/user/memberships/orgs/{org}", membership),
    ("GET", "/user/{account_id}", by_number),
    ("POST", "/user/repos", create),
    ("POST", "/orgs/{org}/repos", create_in_organization),
    ("GET", "/users/{username}", by_name),
    ("GET", "/orgs/{org}", organization),
    ("GET", "/orgs/{org}/members/{username}", member),
    ("GET", "/rate_limit", rate_limit),
];

fn myself(call: &Call<'_>) -> Result<Reply, Stop> {
    let (user, _) = call.user()?;
    let state = call.shared.state();
    Ok(Reply::json(200, call.shared.myself(&state.accounts[&user])))
}

/// Those of the App whose token it is, on accounts that the person belongs to.
fn installations(call: &Call<'_>) -> Result<Reply, Stop> {
    let (user, app) = call.user()?;
    let state = call.shared.state();
    let shown = state
        .installations
        .values()
        .filter(|one| one.app == app && sees(&state, user, one))
        .map(|one| call.shared.installation(&state, one))
        .collect();
    Ok(call.counted("installations", shown, json!({})))
}

/// Whether a person sees an installation: it is on their account, on an organization of theirs, or
/// reaches a repository that they may write to.
fn sees(state: &State, user: u64, one: &crate::github::state::Installation) -> bool {
    state.administers(user, one.account)
        || state
            .repositories
            .values()
            .any(|repository| State::reaches(one, repository) && state.pushes(user, repository))
}

fn repositories(call: &Call<'_>) -> Result<Reply, Stop> {
    let (user, app) = call.user()?;
    let state = call.shared.state();
    let installation = state.installations.get(&call.number("installation_id")?);
    let installation = installation
        .filter(|one| one.app == app && sees(&state, user, one))
        .ok_or_else(not_found)?;
    if installation.suspended.is_some() {
        return Err(refused(403, "This installation has been suspended"));
    }
    let shown = state
        .repositories
        .values()
        .filter(|one| State::reaches(installation, one) && state.reads(user, one))
        .map(|one| {
            let mut shown = call.shared.repository(&state, one);
            let administers = state.administers(user, one.owner);
            shown["permissions"] = rights(state.pushes(user, one), administers);
            shown
        })
        .collect();
    let more = json!({ "repository_selection": selection(&installation.repositories) });
    Ok(call.counted("repositories", shown, more))
}

fn organizations(call: &Call<'_>) -> Result<Reply, Stop> {
    let (user, app) = call.user()?;
    let state = call.shared.state();
    let shown = state
        .accounts
        .values()
        .filter(|one| one.members.contains(&user) && knows(&state, app, one.id))
        .map(|one| call.shared.organization(one))
        .collect();
    Ok(call.list(shown))
}

/// Whether an App is installed on an organization, without which a person's token for it sees no
/// membership there.
fn knows(state: &State, app: u64, organization: u64) -> bool {
    let mut all = state.installations.values();
    all.any(|one| one.app == app && one.account == organization && one.suspended.is_none())
}

fn membership(call: &Call<'_>) -> Result<Reply, Stop> {
    let (user, app) = call.user()?;
    let state = call.shared.state();
    let found = state.account(call.param("org"));
    let found = found.filter(|one| one.kind == AccountKind::Organization);
    let organization = found.ok_or_else(not_found)?;
    let installed = state
        .installations
        .values()
        .find(|one| one.app == app && one.account == organization.id);
    if !installed.is_some_and(|one| one.permissions.contains_key("members")) {
        return Err(not_accessible());
    }
    if !organization.members.contains(&user) {
        return Err(not_found());
    }
    let url = format!("{}/orgs/{}", call.shared.api_url, organization.login);
    let member = &state.accounts[&user];
    Ok(Reply::json(
        200,
        json!({
            "url": format!("{url}/memberships/{}", member.login),
            "state": "active",
            "role": "member",
            "organization_url": url,
            "organization": call.shared.organization(organization),
            "user": call.shared.user(member),
        }),
    ))
}

fn by_number(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let found = state.accounts.get(&call.number("account_id")?);
    Ok(Reply::json(
        200,
        call.shared.myself(found.ok_or_else(not_found)?),
    ))
}

fn by_name(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let found = state
        .account(call.param("username"))
        .ok_or_else(not_found)?;
    Ok(Reply::json(200, call.shared.myself(found)))
}

fn organization(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let found = state.account(call.param("org"));
    let found = found.filter(|one| one.kind == AccountKind::Organization);
    let found = found.ok_or_else(not_found)?;
    let mut shown = call.shared.organization(found);
    extend(
        &mut shown,
        json!({
            "has_organization_projects": true, "has_repository_projects": true,
            "public_repos": 0, "public_gists": 0, "followers": 0, "following": 0,
            "html_url": format!("{}/{}", call.shared.url, found.login),
            "type": "Organization", "archived_at": null,
            "created_at": time(found.created_at), "updated_at": time(found.created_at),
        }),
    );
    Ok(Reply::json(200, shown))
}

/// 204 for a member, as another member or an App with the permission sees it.
fn member(call: &Call<'_>) -> Result<Reply, Stop> {
    let state = call.shared.state();
    let organization = state.account(call.param("org")).ok_or_else(not_found)?;
    let person = state
        .account(call.param("username"))
        .ok_or_else(not_found)?;
    let may_see = match &call.who {
        Who::Installation {
            id, permissions, ..
        } => {
            let installation = state.installations.get(id).ok_or_else(not_found)?;
            if installation.account != organization.id {
                return Err(not_found());
            }
            permissions.contains_key("members")
        }
        Who::User { user, .. } => organization.members.contains(user),
        _ => false,
    };
    match may_see {
        false if matches!(call.who, Who::Installation { .. }) => Err(not_accessible()),
        // Nobody else sees members that did not publish their membership; nobody here did.
        true if organization.members.contains(&person.id) => Ok(Reply::nothing()),
        _ => Err(not_found()),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every route's function looks the same"
)]
fn rate_limit(call: &Call<'_>) -> Result<Reply, Stop> {
    let reset = crate::github::state::now().unix_timestamp() + 3600;
    let all = match call.who {
        Who::Nobody => 60,
        _ => 5000,
    };
    let rate = json!({ "limit": all, "remaining": all, "reset": reset, "used": 0 });
    let body = json!({ "resources": { "core": rate, "search": rate }, "rate": rate });
    Ok(Reply::json(200, body))
}

/// Whether an App was allowed to administrate the repositories of an account.
fn administers(state: &State, app: u64, account: u64) -> bool {
    let mut own = state
        .installations
        .values()
        .filter(|one| one.app == app && one.account == account && one.suspended.is_none());
    own.any(|one| {
        one.permissions
            .get("administration")
            .is_some_and(|level| level == "write")
    })
}

/// A new repository of the person's, as the App may make one where it administers.
fn create(call: &Call<'_>) -> Result<Reply, Stop> {
    let (user, app) = call.user()?;
    if !administers(&call.shared.state(), app, user) {
        return Err(not_accessible());
    }
    created(call, user, user)
}

/// A new repository of an organization's: by a member through the App, or by the App itself.
fn create_in_organization(call: &Call<'_>) -> Result<Reply, Stop> {
    let (organization, by) = {
        let state = call.shared.state();
        let found = state.account(call.param("org"));
        let found = found.filter(|one| one.kind == AccountKind::Organization);
        let organization = found.ok_or_else(not_found)?;
        let by = match &call.who {
            Who::Nobody => return Err(refused(401, "Requires authentication")),
            Who::User { user, app } => {
                if !organization.members.contains(user) {
                    return Err(refused(
                        403,
                        "You need admin access to the organization before adding a repository to it.",
                    ));
                }
                administers(&state, *app, organization.id).then_some(*user)
            }
            Who::Installation {
                id, permissions, ..
            } => {
                let installation = state.installations.get(id).ok_or_else(not_found)?;
                let may = permissions
                    .get("administration")
                    .is_some_and(|level| level == "write");
                (may && installation.account == organization.id)
                    .then(|| state.apps[&installation.app].bot)
            }
            _ => None,
        };
        (organization.id, by.ok_or_else(not_accessible)?)
    };
    created(call, organization, by)
}

fn created(call: &Call<'_>, owner: u64, by: u64) -> Result<Reply, Stop> {
    let name = call.text("name").unwrap_or_default();
    let private = call.member("private").as_bool().unwrap_or(false);
    let id = new_repository(call, owner, &name, private)?;
    if call.member("auto_init") == true {
        call.shared.begin(id, by)?;
    }
    let state = call.shared.state();
    let shown: Value = call
        .shared
        .full_repository(&state, &state.repositories[&id]);
    Ok(Reply::json(201, shown))
}

/// Makes an empty repository.
pub(super) fn new_repository(
    call: &Call<'_>,
    owner: u64,
    name: &str,
    private: bool,
) -> Result<u64, Stop> {
    {
        let state = call.shared.state();
        if state
            .repository(&state.accounts[&owner].login, name)
            .is_some()
        {
            return Err(taken());
        }
    }
    Ok(call.shared.new_repository(owner, name, private)?)
}

/// As GitHub words it.
fn taken() -> Stop {
    let error = json!({
        "resource": "Repository", "code": "custom", "field": "name",
        "message": "name already exists on this account",
    });
    let mut reply = Reply::error(422, "Repository creation failed.");
    if let Some(body) = &mut reply.body {
        body["errors"] = json!([error]);
    }
    Stop::Refused(Box::new(reply))
}
