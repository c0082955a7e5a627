//! Members of an organization: list, add (with a one-time link for who is new), role, remove.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;
use uuid::Uuid;

use super::error::{PageResult, page};
use super::tokens::Nothing;
use super::view::{Done, Shell};
use crate::app::App;
use crate::error::{Error, Result};
use crate::members::{self, Added};
use crate::organizations::{self, Member, Organization, Role};
use crate::signin::{CsrfForm, SignedIn};

/// Roles as they can be chosen, least first, with what they may do.
const ROLES: [(&str, &str); 4] = [
    ("viewer", "looks and calls"),
    ("editor", "deploys, variables, settings"),
    ("admin", "everything but owners"),
    ("owner", "everything"),
];

#[derive(Template)]
#[template(path = "members.html")]
struct Members {
    shell: Shell,
    /// `None` for someone who belongs to none.
    organization: Option<Organization>,
    /// When there are several: the others.
    others: Vec<Organization>,
    list: Vec<Row>,
    may_manage: bool,
    /// The roles that whoever looks can give.
    roles: Vec<(&'static str, &'static str)>,
    form: Form,
    problem: Option<String>,
    /// What is wrong with a change of the list.
    general: Option<String>,
    /// A one-time link that was just made, and for whom.
    link: Option<(String, String)>,
}

struct Row {
    member: Member,
    /// Whether it is whoever looks.
    yourself: bool,
    may_change: bool,
}

/// The form that adds someone, as it is sent and as it comes back.
#[derive(Deserialize)]
#[serde(default)]
pub struct Form {
    email: String,
    role: String,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            email: String::new(),
            role: Role::Editor.name().to_owned(),
        }
    }
}

/// Names the organization, for people who belong to several.
#[derive(Debug, Default, Deserialize)]
pub struct Of {
    organization: Option<Uuid>,
}

impl Of {
    fn page(&self, done: &str) -> String {
        match self.organization {
            Some(id) => format!("/members?organization={id}&done={done}"),
            None => format!("/members?done={done}"),
        }
    }
}

impl Members {
    async fn load(app: &App, person: &SignedIn, of: &Of) -> Result<Self> {
        let mut db = app.db.acquire().await?;
        let organization =
            match organizations::get_for(&mut db, person.user.id, of.organization).await {
                Ok(found) => Some(found),
                Err(Error::NotFound(_)) if of.organization.is_none() => None,
                Err(error) => return Err(error),
            };
        let mut all = organizations::list_for(&mut db, person.user.id).await?;
        let role = organization.as_ref().map_or("", |it| it.role.as_str());
        let owner = Role::Owner.name();
        let reaches =
            |other: &str| organizations::may_manage(role) && (role == owner || other != owner);
        let mut list = Vec::new();
        if let Some(organization) = &organization {
            all.retain(|it| it.id != organization.id);
            for member in organizations::list_members(&mut db, organization.id).await? {
                list.push(Row {
                    yourself: member.user_id == person.user.id,
                    may_change: reaches(&member.role),
                    member,
                });
            }
        }
        Ok(Self {
            shell: Shell::new(person, "members"),
            may_manage: organizations::may_manage(role),
            roles: ROLES.into_iter().filter(|it| reaches(it.0)).collect(),
            organization,
            others: all,
            list,
            form: Form::default(),
            problem: None,
            general: None,
            link: None,
        })
    }
}

/// `GET /members`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(of): Query<Of>,
    Query(done): Query<Done>,
) -> PageResult {
    let mut template = Members::load(&app, &person, &of).await?;
    template.shell = template.shell.after(&done);
    page(StatusCode::OK, &template)
}

/// `POST /members`. Answers with the page itself: the one-time link is kept nowhere from where the
/// next page could take it.
pub async fn add(
    State(app): State<App>,
    person: SignedIn,
    Query(of): Query<Of>,
    CsrfForm(form): CsrfForm<Form>,
) -> PageResult {
    let added = match add_in(&app, &person, &of, &form).await {
        Ok(added) => added,
        Err(error) => {
            let problem = sentence(error)?;
            let mut template = Members::load(&app, &person, &of).await?;
            (template.form, template.problem) = (form, Some(problem));
            return page(StatusCode::UNPROCESSABLE_ENTITY, &template);
        }
    };
    let Some(token) = added.setup_token else {
        return Ok(Redirect::to(&of.page("added")).into_response());
    };
    let mut template = Members::load(&app, &person, &of).await?;
    template.link = Some((added.user.email, app.config.setup_url(&token)));
    page(StatusCode::CREATED, &template)
}

async fn add_in(app: &App, person: &SignedIn, of: &Of, form: &Form) -> Result<Added> {
    let role = Role::parse(&form.role)?;
    let mut tx = app.db.begin().await?;
    let organization = organizations::get_for(&mut tx, person.user.id, of.organization).await?;
    let now = app.clock.now();
    let added = members::add(
        &mut tx,
        &organization,
        &form.email,
        role,
        &person.actor(),
        now,
    )
    .await?;
    tx.commit().await?;
    Ok(added)
}

/// What is said on the page itself: what the form can mend. The rest has a page of its own.
fn sentence(error: Error) -> Result<String> {
    match error {
        Error::Invalid(_) | Error::Conflict(_) => Ok(error.to_string()),
        other => Err(other),
    }
}

/// The form that changes a role.
#[derive(Debug, Deserialize)]
pub struct NewRole {
    role: String,
}

/// `POST /members/{user}/role`
pub async fn change_role(
    State(app): State<App>,
    person: SignedIn,
    Path(user): Path<Uuid>,
    Query(of): Query<Of>,
    CsrfForm(new): CsrfForm<NewRole>,
) -> PageResult {
    let changed = async {
        let role = Role::parse(&new.role)?;
        let mut tx = app.db.begin().await?;
        let organization = organizations::get_for(&mut tx, person.user.id, of.organization).await?;
        let now = app.clock.now();
        members::change_role(&mut tx, &organization, user, role, &person.actor(), now).await?;
        tx.commit().await?;
        Ok(())
    };
    answer(&app, &person, &of, changed.await, "saved").await
}

/// `POST /members/{user}/remove`
pub async fn remove(
    State(app): State<App>,
    person: SignedIn,
    Path(user): Path<Uuid>,
    Query(of): Query<Of>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let organization = of.organization;
    let removed = async {
        let mut tx = app.db.begin().await?;
        let organization = organizations::get_for(&mut tx, person.user.id, organization).await?;
        let by = person.user.id;
        let now = app.clock.now();
        members::remove(&mut tx, &organization, user, by, &person.actor(), now).await?;
        tx.commit().await?;
        Ok(())
    };
    // Who has left an organization does not see its page any more.
    let of = if user == person.user.id {
        Of::default()
    } else {
        of
    };
    answer(&app, &person, &of, removed.await, "removed").await
}

async fn answer(
    app: &App,
    person: &SignedIn,
    of: &Of,
    changed: Result<()>,
    done: &str,
) -> PageResult {
    let Err(error) = changed else {
        return Ok(Redirect::to(&of.page(done)).into_response());
    };
    let general = sentence(error)?;
    let mut template = Members::load(app, person, of).await?;
    template.general = Some(general);
    page(StatusCode::CONFLICT, &template)
}

/// `POST /members/{user}/link`: another one-time link for someone who has no password yet.
pub async fn renew_link(
    State(app): State<App>,
    person: SignedIn,
    Path(user): Path<Uuid>,
    Query(of): Query<Of>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let organization = organizations::get_for(&mut tx, person.user.id, of.organization).await?;
    let now = app.clock.now();
    let token = members::renew_link(&mut tx, &organization, user, &person.actor(), now).await?;
    tx.commit().await?;
    let mut template = Members::load(&app, &person, &of).await?;
    let email = template
        .list
        .iter()
        .find(|row| row.member.user_id == user)
        .map(|row| row.member.email.clone());
    template.link = Some((email.unwrap_or_default(), app.config.setup_url(&token)));
    page(StatusCode::CREATED, &template)
}
