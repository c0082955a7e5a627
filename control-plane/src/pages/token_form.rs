//! What the pages of API tokens share: the form that creates one, the one time it is shown, and
//! the list. A person's tokens and those of a service account look alike.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::view::Moment;
use crate::api_tokens::{self, ApiToken, GoodFor, NewToken};
use crate::app::App;
use crate::audit::Actor;
use crate::config::ServeConfig;
use crate::error::{Error, Result, invalid};
use crate::projects;

/// Days a token may work, and how that is called. Empty means until it is revoked.
const LIFETIMES: [(&str, &str); 4] = [
    ("30", "30 days"),
    ("90", "90 days"),
    ("365", "a year"),
    ("", "until it is revoked"),
];

/// What a form can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The API and calls.
    Everything,
    /// Calls of all projects.
    Calls,
    /// Calls of some projects.
    Projects,
}

/// The form, as it is sent and as it comes back.
#[derive(Debug)]
pub struct Form {
    /// What the token is for.
    pub name: String,
    /// Days it works; empty for no end.
    pub days: String,
    /// What it is good for.
    pub purpose: Purpose,
    /// The projects it can be limited to, and whether each is ticked.
    pub projects: Vec<(String, bool)>,
    /// Whether it may be good for everything: a service account's may not.
    pub person: bool,
    /// The choices of an end.
    pub lifetimes: &'static [(&'static str, &'static str)],
    /// What is wrong with the name.
    pub name_problem: Option<String>,
    /// What is wrong with the rest.
    pub problem: Option<String>,
}

impl Form {
    /// An empty one for the tokens of a user, who is a person or a service account.
    pub async fn new(db: &mut PgConnection, user: Uuid, person: bool) -> Result<Self> {
        let projects = projects::list_for_calls(db, user).await?;
        Ok(Self {
            name: String::new(),
            days: "90".into(),
            purpose: if person {
                Purpose::Everything
            } else {
                Purpose::Calls
            },
            projects: projects.into_iter().map(|it| (it.name, false)).collect(),
            person,
            lifetimes: &LIFETIMES,
            name_problem: None,
            problem: None,
        })
    }

    /// As it was sent.
    fn fill(&mut self, fields: Vec<(String, String)>) {
        for (name, value) in fields {
            match (name.as_str(), value.as_str()) {
                ("name", _) => self.name = value,
                ("days", _) => self.days = value,
                ("good_for", "calls") => self.purpose = Purpose::Calls,
                ("good_for", "projects") => self.purpose = Purpose::Projects,
                ("project", ticked) => {
                    if let Some(known) = self.projects.iter_mut().find(|it| it.0 == ticked) {
                        known.1 = true;
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether this is what is asked for.
    pub fn is(&self, purpose: &str) -> bool {
        purpose
            == match self.purpose {
                Purpose::Everything => "everything",
                Purpose::Calls => "calls",
                Purpose::Projects => "projects",
            }
    }

    fn end(&self, now: OffsetDateTime) -> Result<Option<OffsetDateTime>> {
        if self.days.is_empty() {
            return Ok(None);
        }
        let days: u16 = self
            .days
            .parse()
            .map_err(|_| invalid("days", "Choose how long the token works."))?;
        Ok(Some(now + Duration::days(days.into())))
    }

    /// Creates what was asked for. `None` when the form has to come back, with what is wrong
    /// beside its fields.
    pub async fn create(
        &mut self,
        app: &App,
        user: Uuid,
        actor: &Actor,
        fields: Vec<(String, String)>,
    ) -> Result<Option<Created>> {
        self.fill(fields);
        match self.try_create(app, user, actor).await {
            Ok(created) => Ok(Some(created)),
            Err(Error::Invalid(fields)) => {
                for field in fields {
                    match field.name {
                        "name" => self.name_problem = Some(field.message),
                        _ => self.problem = Some(field.message),
                    }
                }
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    async fn try_create(&self, app: &App, user: Uuid, actor: &Actor) -> Result<Created> {
        let now = app.clock.now();
        let expires_at = self.end(now)?;
        let mut tx = app.db.begin().await?;
        let limited = self.purpose == Purpose::Projects;
        let names: Vec<String> = self
            .projects
            .iter()
            .filter(|it| it.1 || !limited)
            .map(|it| it.0.clone())
            .collect();
        let ids = if limited {
            Some(projects::ids_for_calls(&mut tx, user, &names).await?)
        } else {
            None
        };
        let new = NewToken {
            user,
            name: &self.name,
            good_for: match self.purpose {
                Purpose::Everything => GoodFor::Everything,
                Purpose::Calls | Purpose::Projects => GoodFor::Calls,
            },
            projects: ids.as_deref(),
            expires_at,
        };
        let (_, token) = api_tokens::create(&mut tx, new, actor, now).await?;
        tx.commit().await?;
        Ok(Created::new(&app.config, token, self.purpose, &names))
    }
}

/// A token that was just made: the one time it is shown.
#[derive(Debug)]
pub struct Created {
    /// The token.
    pub token: String,
    /// The command that signs in with it; `None` for one that is good for calls alone.
    pub login: Option<String>,
    /// Where it can be used, for one that is good for calls alone.
    pub addresses: Vec<Addresses>,
}

/// The two addresses of a project that take API tokens.
#[derive(Debug)]
pub struct Addresses {
    /// The project.
    pub project: String,
    /// Its URL.
    pub url: String,
    /// The one that never asks anyone to sign in.
    pub key_url: String,
}

impl Created {
    fn new(config: &ServeConfig, token: String, purpose: Purpose, projects: &[String]) -> Self {
        let everything = purpose == Purpose::Everything;
        let login = format!("berth login --server {} --token {token}", config.issuer());
        let addresses = projects.iter().map(|name| Addresses {
            project: name.clone(),
            url: config.project_url(name),
            key_url: config.project_key_url(name),
        });
        Self {
            token,
            login: everything.then_some(login),
            addresses: if everything {
                Vec::new()
            } else {
                addresses.collect()
            },
        }
    }
}

/// A token of the list.
#[derive(Debug)]
pub struct Row {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// What it is good for.
    pub purpose: String,
    /// Since when.
    pub created: Moment,
    /// When it was last used.
    pub used: Option<Moment>,
    /// When it ends.
    pub expires: Option<Moment>,
}

impl Row {
    fn new(token: ApiToken, now: OffsetDateTime) -> Self {
        let purpose = match &token.projects {
            _ if token.good_for == GoodFor::Everything.name() => "Everything".to_owned(),
            None => "Calls of every project".to_owned(),
            Some(names) if names.is_empty() => "Calls of projects that are deleted".to_owned(),
            Some(names) => format!("Calls of {}", names.join(", ")),
        };
        Self {
            id: token.id,
            name: token.name,
            purpose,
            created: Moment::new(token.created_at, now),
            used: token.last_used_at.map(|at| Moment::new(at, now)),
            expires: token.expires_at.map(|at| Moment::new(at, now)),
        }
    }
}

/// The tokens of a user that still work.
pub async fn rows(db: &mut PgConnection, user: Uuid, now: OffsetDateTime) -> Result<Vec<Row>> {
    let tokens = api_tokens::list(db, user, now).await?;
    Ok(tokens.into_iter().map(|it| Row::new(it, now)).collect())
}
