//! Service accounts: list and create; and of each its API tokens, its OAuth clients, and its end.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::error::{PageResult, page};
use super::token_form::{self, Created, Row, rows};
use super::tokens::Nothing;
use super::view::{Done, Moment, Problems, Shell};
use crate::app::App;
use crate::clients::AuthMethod;
use crate::clients::service::{self, Auth, NewServiceClient, ServiceClient};
use crate::error::{Error, Result, invalid};
use crate::service_accounts::{self, ServiceAccount};
use crate::signin::{CsrfForm, SignedIn};
use crate::{api_tokens, organizations};

#[derive(Template)]
#[template(path = "service_accounts.html")]
struct Accounts {
    shell: Shell,
    list: Vec<AccountRow>,
    may_manage: bool,
    name: String,
    problem: Option<String>,
}

struct AccountRow {
    id: Uuid,
    name: String,
    created: Moment,
    tokens: usize,
}

impl Accounts {
    async fn load(app: &App, person: &SignedIn) -> Result<Self> {
        let now = app.clock.now();
        let mut db = app.db.acquire().await?;
        let mut list = Vec::new();
        let mut may_manage = false;
        for organization in organizations::list_for(&mut db, person.user.id).await? {
            may_manage |= organizations::may_manage(&organization.role);
            for account in service_accounts::list(&mut db, organization.id).await? {
                list.push(AccountRow {
                    tokens: api_tokens::list(&mut db, account.id, now).await?.len(),
                    id: account.id,
                    name: account.name,
                    created: Moment::new(account.created_at, now),
                });
            }
        }
        Ok(Self {
            shell: Shell::new(person, "service-accounts"),
            list,
            may_manage,
            name: String::new(),
            problem: None,
        })
    }
}

/// `GET /service-accounts`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(done): Query<Done>,
) -> PageResult {
    let mut template = Accounts::load(&app, &person).await?;
    template.shell = template.shell.after(&done);
    page(StatusCode::OK, &template)
}

/// The form that creates one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct New {
    name: String,
}

/// `POST /service-accounts`
pub async fn create(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(new): CsrfForm<New>,
) -> PageResult {
    let mut problems = Problems::default();
    match create_in(&app, &person, &new.name).await {
        Ok(account) => {
            let url = format!("/service-accounts/{}", account.id);
            return Ok(Redirect::to(&url).into_response());
        }
        Err(error @ Error::Forbidden(_)) => return Err(error.into()),
        Err(error) => problems.add(error)?,
    }
    let mut template = Accounts::load(&app, &person).await?;
    template.name = new.name;
    template.problem = problems.name.or(problems.general);
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

async fn create_in(app: &App, person: &SignedIn, name: &str) -> Result<ServiceAccount> {
    let mut tx = app.db.begin().await?;
    let organization = organizations::get_for(&mut tx, person.user.id, None)
        .await?
        .manageable()?;
    let now = app.clock.now();
    let account =
        service_accounts::create(&mut tx, &organization, name, &person.actor(), now).await?;
    tx.commit().await?;
    Ok(account)
}

#[derive(Template)]
#[template(path = "service_account.html")]
struct Details {
    shell: Shell,
    account: ServiceAccount,
    since: Moment,
    /// Where the forms about tokens are sent.
    base: String,
    list: Vec<Row>,
    form: token_form::Form,
    created: Option<Created>,
    clients: Vec<ClientRow>,
    client_form: NewClient,
    client_problem: Option<String>,
    /// A client that was just made: its id, and its secret if it has one.
    client: Option<(String, Option<String>)>,
    token_url: String,
}

struct ClientRow {
    id: String,
    name: String,
    /// Whether it signs assertions instead of showing a secret.
    signs: bool,
    created: Moment,
    used: Option<Moment>,
    ends: Option<Moment>,
}

impl ClientRow {
    fn new(client: ServiceClient, now: OffsetDateTime) -> Self {
        Self {
            id: client.id,
            name: client.name,
            signs: client.auth_method == AuthMethod::PrivateKeyJwt.name(),
            created: Moment::new(client.created_at, now),
            used: client.last_used_at.map(|at| Moment::new(at, now)),
            ends: client.expires_at.map(|at| Moment::new(at, now)),
        }
    }
}

impl Details {
    async fn load(app: &App, person: &SignedIn, account: &str) -> Result<Self> {
        let now = app.clock.now();
        let mut db = app.db.acquire().await?;
        let account = service_accounts::get_for(&mut db, person.user.id, account).await?;
        Ok(Self {
            shell: Shell::new(person, "service-accounts"),
            base: format!("/service-accounts/{}/tokens", account.id),
            list: rows(&mut db, account.id, now).await?,
            form: token_form::Form::new(&mut db, account.id, false).await?,
            created: None,
            clients: service::list(&mut db, account.id)
                .await?
                .into_iter()
                .map(|it| ClientRow::new(it, now))
                .collect(),
            client_form: NewClient::default(),
            client_problem: None,
            client: None,
            token_url: app.config.token_url(),
            since: Moment::new(account.created_at, now),
            account,
        })
    }
}

/// `GET /service-accounts/{account}`
pub async fn show_one(
    State(app): State<App>,
    person: SignedIn,
    Path(account): Path<String>,
    Query(done): Query<Done>,
) -> PageResult {
    let mut template = Details::load(&app, &person, &account).await?;
    template.shell = template.shell.after(&done);
    page(StatusCode::OK, &template)
}

/// `POST /service-accounts/{account}/tokens`: answers with the page itself, as for a person's.
pub async fn create_token(
    State(app): State<App>,
    person: SignedIn,
    Path(account): Path<String>,
    CsrfForm(fields): CsrfForm<Vec<(String, String)>>,
) -> PageResult {
    let mut template = Details::load(&app, &person, &account).await?;
    let user = template.account.id;
    let created = template
        .form
        .create(&app, user, &person.actor(), fields)
        .await?;
    let Some(created) = created else {
        return page(StatusCode::UNPROCESSABLE_ENTITY, &template);
    };
    template = Details::load(&app, &person, &account).await?;
    template.created = Some(created);
    page(StatusCode::CREATED, &template)
}

/// `POST /service-accounts/{account}/tokens/{token}/revoke`
pub async fn revoke_token(
    State(app): State<App>,
    person: SignedIn,
    Path((account, token)): Path<(String, Uuid)>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let account = service_accounts::get_for(&mut tx, person.user.id, &account).await?;
    let now = app.clock.now();
    api_tokens::revoke(&mut tx, account.id, token, &person.actor(), now).await?;
    tx.commit().await?;
    let url = format!("/service-accounts/{}?done=revoked", account.id);
    Ok(Redirect::to(&url).into_response())
}

/// The form that creates an OAuth client, as it is sent and as it comes back.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NewClient {
    name: String,
    /// Public keys as a JWK set; empty for a secret.
    jwks: String,
}

impl NewClient {
    fn auth(&self) -> Result<Auth> {
        if self.jwks.trim().is_empty() {
            return Ok(Auth::Secret);
        }
        serde_json::from_str(&self.jwks)
            .map(Auth::Jwks)
            .map_err(|_| {
                invalid(
                    "jwks",
                    "The keys are no JSON; paste a JWK set such as {\"keys\": [ … ]}.",
                )
            })
    }
}

/// `POST /service-accounts/{account}/clients`: answers with the page itself; the secret is kept
/// nowhere from where the next page could take it.
pub async fn create_client(
    State(app): State<App>,
    person: SignedIn,
    Path(account): Path<String>,
    CsrfForm(new): CsrfForm<NewClient>,
) -> PageResult {
    let mut problems = Problems::default();
    match create_client_in(&app, &person, &account, &new).await {
        Ok(client) => {
            let mut template = Details::load(&app, &person, &account).await?;
            template.client = Some(client);
            return page(StatusCode::CREATED, &template);
        }
        Err(error) => problems.add(error)?,
    }
    let mut template = Details::load(&app, &person, &account).await?;
    template.client_form = new;
    template.client_problem = problems.name.or(problems.general);
    page(StatusCode::UNPROCESSABLE_ENTITY, &template)
}

async fn create_client_in(
    app: &App,
    person: &SignedIn,
    account: &str,
    new: &NewClient,
) -> Result<(String, Option<String>)> {
    let auth = new.auth()?;
    let mut tx = app.db.begin().await?;
    let account = service_accounts::get_for(&mut tx, person.user.id, account).await?;
    let (actor, now) = (person.actor(), app.clock.now());
    let new = NewServiceClient {
        name: &new.name,
        auth,
        expires_at: None,
    };
    let (client, secret) = service::create(&mut tx, account.id, new, &actor, now).await?;
    tx.commit().await?;
    Ok((client.id, secret))
}

/// `POST /service-accounts/{account}/clients/{client}/delete`
pub async fn delete_client(
    State(app): State<App>,
    person: SignedIn,
    Path((account, client)): Path<(String, String)>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let account = service_accounts::get_for(&mut tx, person.user.id, &account).await?;
    let now = app.clock.now();
    service::delete(&mut tx, account.id, &client, &person.actor(), now).await?;
    tx.commit().await?;
    let url = format!("/service-accounts/{}?done=removed", account.id);
    Ok(Redirect::to(&url).into_response())
}

/// `POST /service-accounts/{account}/delete`
pub async fn delete(
    State(app): State<App>,
    person: SignedIn,
    Path(account): Path<String>,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    let mut tx = app.db.begin().await?;
    let account = service_accounts::get_for(&mut tx, person.user.id, &account).await?;
    service_accounts::delete(&mut tx, &account, &person.actor(), app.clock.now()).await?;
    tx.commit().await?;
    Ok(Redirect::to("/service-accounts?done=removed").into_response())
}
