//! The repositories that one's organizations may use, and the ways to GitHub that bring more.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use serde::Deserialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::error::{Error, Result};
use crate::github::attempts::{self, Attempt, Purpose};
use crate::github::installations::{self, Connected, Readable};
use crate::github::proofs::{self, Use};
use crate::github::{authorize, registration};
use crate::organizations::{self, Organization};
use crate::pages::error::{PageResult, page};
use crate::pages::view::{Done, Shell, toward};
use crate::projects;
use crate::signin::{CsrfForm, SignedIn};

/// Repositories of one page.
const PAGE: i64 = 30;

#[derive(Template)]
#[template(path = "github/repositories.html")]
struct Page {
    shell: Shell,
    /// Whether the platform has an App.
    exists: bool,
    is_operator: bool,
    installations: Vec<(Connected, Vec<Use>)>,
    /// The organizations that may get repositories from whoever looks.
    homes: Vec<Organization>,
    list: Vec<Readable>,
    search: String,
    number: i64,
    has_more: bool,
    /// Why the list may be old.
    problem: Option<String>,
}

/// `?search=&page=`
#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    search: String,
    page: Option<i64>,
}

/// `GET /github`
pub async fn show(
    State(app): State<App>,
    person: SignedIn,
    Query(filter): Query<Filter>,
    Query(done): Query<Done>,
) -> PageResult {
    let user = person.user.id;
    let exists = registration::exists(&mut *app.db.acquire().await?).await?;
    let problem = if exists {
        installations::refresh_for(&app, user)
            .await
            .err()
            .map(|failure| failure.to_string())
    } else {
        None
    };
    let mut db = app.db.acquire().await?;
    let number = filter.page.unwrap_or(1).clamp(1, i64::from(i32::MAX));
    let offset = (number - 1) * PAGE;
    let search = filter.search.trim();
    let mut list =
        installations::list_readable(&mut db, user, None, search, offset, PAGE + 1).await?;
    let has_more = i64::try_from(list.len()).is_ok_and(|found| found > PAGE);
    list.truncate(usize::try_from(PAGE).unwrap_or_default());
    let uses = proofs::list_uses(&mut db, user).await?;
    let installations = installations::list_for(&mut db, user).await?;
    let installations = installations.into_iter().map(|it| {
        let of_it = uses.iter().filter(|used| used.installation_id == it.id);
        let of_it = of_it.cloned().collect();
        (it, of_it)
    });
    let mut homes = organizations::list_for(&mut db, user).await?;
    homes.retain(|it| projects::may_change(&it.role));
    let template = Page {
        shell: Shell::new(&person, "github").after(&done),
        exists,
        is_operator: organizations::is_operator(&mut db, user).await?,
        installations: installations.collect(),
        homes,
        list,
        search: search.to_owned(),
        number,
        has_more,
        problem,
    };
    toward(page(StatusCode::OK, &template), &app.config.github_origin())
}

/// Names the organization that is to get the repositories.
#[derive(Debug, Deserialize)]
pub struct For {
    pub(in crate::pages) organization: Option<Uuid>,
}

impl For {
    /// The organization, if the person may change it; without a name, the one of their new projects.
    pub(in crate::pages) async fn home(
        &self,
        db: &mut PgConnection,
        person: &SignedIn,
    ) -> Result<Uuid> {
        let Some(id) = self.organization else {
            return projects::home_of(db, person.user.id).await;
        };
        let found = organizations::get_for(db, person.user.id, Some(id)).await?;
        if !projects::may_change(&found.role) {
            return Err(Error::Forbidden(
                "You may look at this organization but not connect repositories for it; ask one of its admins.".into(),
            ));
        }
        Ok(found.id)
    }
}

/// `POST /github/install`: sends the browser to GitHub's page of installing the App.
pub async fn install(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(form): CsrfForm<For>,
) -> PageResult {
    let mut db = app.db.acquire().await?;
    let registration = registration::get(&mut db, &app.kek).await?;
    let purpose = Purpose::Install {
        user: person.user.id,
        organization: form.home(&mut db, &person).await?,
    };
    let now = app.clock.now();
    let state = attempts::begin(&mut db, &app.kek, &person.session, &purpose, None, now).await?;
    let mut url = app.config.github_url.clone();
    url.path_segments_mut()
        .expect("http addresses have paths")
        .pop_if_empty()
        .extend(["apps", &registration.slug, "installations", "new"]);
    url.query_pairs_mut().append_pair("state", &state);
    Ok(Redirect::to(url.as_str()).into_response())
}

/// `POST /github/connect`: asks GitHub who is there and what they may use.
pub async fn connect(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(form): CsrfForm<For>,
) -> PageResult {
    prove(&app, &person, &form).await
}

/// What is to end.
#[derive(Debug, Deserialize)]
pub struct End {
    organization: Uuid,
    installation: i64,
}

/// `POST /github/disconnect`: an organization does not use an installation any more.
pub async fn disconnect(
    State(app): State<App>,
    person: SignedIn,
    CsrfForm(form): CsrfForm<End>,
) -> PageResult {
    let (user, now) = (person.user.id, app.clock.now());
    let mut tx = app.db.begin().await?;
    let organization = organizations::get_for(&mut tx, user, Some(form.organization)).await?;
    proofs::disconnect(&mut tx, &organization, form.installation, user, now).await?;
    tx.commit().await?;
    Ok(Redirect::to("/github?done=removed").into_response())
}

async fn prove(app: &App, person: &SignedIn, of: &For) -> PageResult {
    let mut db = app.db.acquire().await?;
    let registration = registration::get(&mut db, &app.kek).await?;
    let purpose = Purpose::Connect {
        user: person.user.id,
        organization: of.home(&mut db, person).await?,
    };
    let url = authorize::begin(app, &mut db, &registration, &person.session, &purpose).await?;
    Ok(Redirect::to(&url).into_response())
}

/// What GitHub brings after an installation. The installation's number, which comes too, is not
/// read: anyone can write any number there.
#[derive(Debug, Deserialize)]
pub struct Installed {
    #[serde(default)]
    state: String,
    setup_action: Option<String>,
}

/// `GET /github/installed`: goes on to ask GitHub what the person may use, when they come from our
/// own button. Whoever comes from elsewhere finds the button on the page.
pub async fn installed(
    State(app): State<App>,
    person: SignedIn,
    Query(answer): Query<Installed>,
) -> PageResult {
    if answer.setup_action.as_deref() == Some("request") {
        return Ok(Redirect::to("/github?done=requested").into_response());
    }
    let now = app.clock.now();
    let finished = attempts::finish(
        &mut *app.db.acquire().await?,
        &app.kek,
        &person.session,
        &answer.state,
        now,
    )
    .await;
    match finished {
        Ok(Attempt {
            purpose: Purpose::Install { user, organization },
            ..
        }) if user == person.user.id => {
            let of = For {
                organization: Some(organization),
            };
            prove(&app, &person, &of).await
        }
        Ok(_) | Err(Error::Invalid(_)) => {
            Ok(Redirect::to("/github?done=installed").into_response())
        }
        Err(error) => Err(error.into()),
    }
}
