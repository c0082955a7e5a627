//! The operator's page: setting the App up, its webhook secret, and who may sign up.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;

use super::existing::Existing;
use super::operator_only;
use crate::app::App;
use crate::error::{Error, Result, invalid};
use crate::github::attempts::{self, Purpose};
use crate::github::feedback::permissions;
use crate::github::identities::{self, Allowed};
use crate::github::manifest::{self, WEBHOOK_PATH, Wanted};
use crate::github::registration::{self, NewRegistration, SignUp};
use crate::github::{deliveries, rest};
use crate::pages::error::{PageResult, page};
use crate::pages::tokens::Nothing;
use crate::pages::view::{Done, Moment, Shell, toward};
use crate::signin::{CsrfForm, SignedIn};

#[derive(Template)]
#[template(path = "github/settings.html")]
struct Page {
    shell: Shell,
    github: String,
    webhook: String,
    app: Option<Shown>,
    /// What is wrong with what was just sent.
    problem: Option<String>,
    /// A webhook secret that could not be given to GitHub, shown once.
    secret: Option<String>,
    form: Existing,
}

/// The App as it is shown: nothing secret.
struct Shown {
    id: i64,
    name: String,
    slug: String,
    page: String,
    since: Moment,
    former_until: Option<Moment>,
    sign_up: String,
    allow_strangers: bool,
    allowed: Vec<Allowed>,
    /// Deliveries that failed or are put off.
    troubled: usize,
    /// Whether its secrets can be read.
    readable: bool,
    /// Accounts that did not grant all that feedback needs: name, what is not written, and where it is
    /// granted.
    lacking: Vec<(String, String, String)>,
}

impl Page {
    async fn load(app: &App, person: &SignedIn) -> Result<Self> {
        operator_only(app, person).await?;
        let mut db = app.db.acquire().await?;
        let now = app.clock.now();
        let found = registration::find_shown(&mut db).await?;
        let shown = match found {
            Some(it) => Some(Shown {
                id: it.id,
                name: it.name,
                slug: it.slug,
                page: it.page,
                since: Moment::new(it.created_at, now),
                former_until: it
                    .former_until
                    .filter(|until| *until > now)
                    .map(|until| Moment::new(until, now)),
                sign_up: it.sign_up,
                readable: registration::is_readable(&mut db, &app.kek).await?,
                allow_strangers: app.config.allow_strangers,
                allowed: identities::list_allowed(&mut db).await?,
                troubled: deliveries::list(&mut db, true, 100).await?.len(),
                lacking: permissions::list_lacking(&mut db)
                    .await?
                    .into_iter()
                    .map(|it| (it.account.clone(), it.what(), it.page(app.config.github())))
                    .collect(),
            }),
            None => None,
        };
        Ok(Self {
            shell: Shell::new(person, "settings"),
            github: app.config.github().to_owned(),
            webhook: format!("{}{WEBHOOK_PATH}", app.config.issuer()),
            app: shown,
            problem: None,
            secret: None,
            form: Existing::default(),
        })
    }
}

/// `GET /settings/github`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(done): Query<Done>,
) -> PageResult {
    let mut template = Page::load(&app, &person).await?;
    template.shell = template.shell.after(&done);
    page(StatusCode::OK, &template)
}

/// The page again, with what the form can mend; the rest has a page of its own.
async fn again(app: &App, person: &SignedIn, error: Error, form: Existing) -> PageResult {
    let status = error.status();
    if !matches!(
        error,
        Error::Invalid(_) | Error::Conflict(_) | Error::Unavailable(_)
    ) {
        return Err(error.into());
    }
    let mut template = Page::load(app, person).await?;
    template.problem = Some(error.to_string());
    template.form = form;
    page(status, &template)
}

/// What the form about a new App sends.
#[derive(Debug, Deserialize)]
pub struct New {
    #[serde(default)]
    organization: String,
    members: Option<String>,
    public: Option<String>,
    creation: Option<String>,
}

#[derive(Template)]
#[template(path = "github/manifest.html")]
struct Onward {
    shell: Shell,
    github: String,
    action: String,
    manifest: String,
}

/// `POST /settings/github/manifest`: the page whose button takes the manifest to GitHub.
pub async fn send_manifest(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(new): CsrfForm<New>,
) -> PageResult {
    operator_only(&app, &person).await?;
    let organization = new.organization.trim();
    let plain = organization
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !plain {
        let error = invalid(
            "organization",
            "Give the organization's name as it stands in its address at GitHub.",
        );
        return again(&app, &person, error, Existing::default()).await;
    }
    let purpose = Purpose::Create {
        user: person.user.id,
    };
    let mut db = app.db.acquire().await?;
    let now = app.clock.now();
    let state = attempts::begin(&mut db, &app.kek, &person.session, &purpose, None, now).await?;
    let organization = (!organization.is_empty()).then_some(organization);
    let wanted = Wanted {
        members: new.members.is_some(),
        public: new.public.is_some(),
        creation: new.creation.is_some(),
    };
    let template = Onward {
        shell: Shell::new(&person, "settings"),
        github: app.config.github().to_owned(),
        action: manifest::action(&app.config, organization, &state),
        manifest: manifest::manifest(&app.config, wanted).to_string(),
    };
    toward(page(StatusCode::OK, &template), &app.config.github_origin())
}

/// What GitHub brings with a new App.
#[derive(Debug, Deserialize)]
pub struct Created {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
}

/// `GET /settings/github/created`
pub async fn created(
    State(app): State<App>,
    person: SignedIn,
    Query(answer): Query<Created>,
) -> PageResult {
    operator_only(&app, &person).await?;
    let now = app.clock.now();
    let attempt = attempts::finish(
        &mut *app.db.acquire().await?,
        &app.kek,
        &person.session,
        &answer.state,
        now,
    )
    .await?;
    if attempt.purpose
        != (Purpose::Create {
            user: person.user.id,
        })
    {
        return Err(Error::Conflict("This answer from GitHub is not for this page.".into()).into());
    }
    let new = match manifest::convert(&app, &answer.code).await {
        Ok(new) => new,
        Err(failure) => {
            return again(&app, &person, failure.into(), Existing::default()).await;
        }
    };
    match keep(&app, &person, &new).await {
        Ok(()) => Ok(Redirect::to("/settings/github?done=saved").into_response()),
        Err(error) => again(&app, &person, error, Existing::default()).await,
    }
}

async fn keep(app: &App, person: &SignedIn, new: &NewRegistration) -> Result<()> {
    let now = app.clock.now();
    // A key that cannot sign would be found out at the first push.
    registration::assertion(new.id, &new.private_key, now)?;
    let (actor, github) = (person.actor(), app.config.github());
    let mut tx = app.db.begin().await?;
    if registration::is_readable(&mut tx, &app.kek).await? {
        registration::create(&mut tx, &app.kek, github, new, &actor, now).await?;
    } else {
        registration::enter_again(&mut tx, &app.kek, new, &actor, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// `POST /settings/github/existing`: taken when GitHub knows the App by its key.
pub async fn take_existing(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(form): CsrfForm<Existing>,
) -> PageResult {
    operator_only(&app, &person).await?;
    let taken = async {
        let new = form.check(&app).await?;
        keep(&app, &person, &new).await
    };
    match taken.await {
        Ok(()) => Ok(Redirect::to("/settings/github?done=saved").into_response()),
        Err(error) => again(&app, &person, error, form).await,
    }
}

/// `POST /settings/github/secret`: a new webhook secret, given to GitHub if it takes it.
pub async fn rotate(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    operator_only(&app, &person).await?;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let actor = person.actor();
    let secret = registration::rotate_webhook_secret(&mut tx, &app.kek, &actor, now).await?;
    let registration = registration::get(&mut tx, &app.kek).await?;
    tx.commit().await?;
    // Both secrets are good already, so the order of the two does not matter.
    let told = rest::set_webhook_secret(&app, &registration.assertion(now)?, &secret).await;
    let mut template = Page::load(&app, &person).await?;
    match told {
        Ok(()) => return Ok(Redirect::to("/settings/github?done=saved").into_response()),
        Err(failure) => {
            template.problem = Some(format!(
                "GitHub did not take the new secret ({failure}). Enter it at the App's page there; the former one is accepted for three more days."
            ));
            template.secret = Some(secret.expose().to_owned());
        }
    }
    page(StatusCode::OK, &template)
}

/// Who may sign up.
#[derive(Debug, Deserialize)]
pub struct Rule {
    #[serde(default)]
    sign_up: String,
}

/// `POST /settings/github/sign-up`
pub async fn set_sign_up(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(form): CsrfForm<Rule>,
) -> PageResult {
    operator_only(&app, &person).await?;
    let changed = async {
        let rule = SignUp::parse(&form.sign_up)?;
        let mut tx = app.db.begin().await?;
        let strangers = app.config.allow_strangers;
        registration::set_sign_up(&mut tx, rule, strangers, &person.actor(), app.clock.now())
            .await?;
        tx.commit().await?;
        Ok(())
    };
    after(&app, &person, changed.await, "saved").await
}

/// A name at GitHub.
#[derive(Debug, Deserialize)]
pub struct Login {
    #[serde(default)]
    login: String,
}

/// `POST /settings/github/allow`
pub async fn allow(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(form): CsrfForm<Login>,
) -> PageResult {
    operator_only(&app, &person).await?;
    let allowed = identities::allow(&app, &form.login, &person.actor()).await;
    after(&app, &person, allowed, "saved").await
}

/// An account's number.
#[derive(Debug, Deserialize)]
pub struct Account {
    account: i64,
}

/// `POST /settings/github/disallow`
pub async fn disallow(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(form): CsrfForm<Account>,
) -> PageResult {
    operator_only(&app, &person).await?;
    let mut tx = app.db.begin().await?;
    identities::disallow(&mut tx, form.account, &person.actor(), app.clock.now()).await?;
    tx.commit().await?;
    after(&app, &person, Ok(()), "removed").await
}

/// `POST /settings/github/remove`
pub async fn remove(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(Nothing {}): CsrfForm<Nothing>,
) -> PageResult {
    operator_only(&app, &person).await?;
    let mut tx = app.db.begin().await?;
    registration::remove(&mut tx, &person.actor(), app.clock.now()).await?;
    tx.commit().await?;
    after(&app, &person, Ok(()), "removed").await
}

async fn after(app: &App, person: &SignedIn, changed: Result<()>, done: &str) -> PageResult {
    match changed {
        Ok(()) => Ok(Redirect::to(&format!("/settings/github?done={done}")).into_response()),
        Err(error) => again(app, person, error, Existing::default()).await,
    }
}
