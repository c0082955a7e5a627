//! What several pages show: the frame around them, times, durations and people.

use std::collections::HashMap;

use axum::http::{HeaderValue, header};
use serde::Deserialize;
use sqlx::PgConnection;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::error::PageResult;
use crate::error::{Error, Result};
use crate::signin::SignedIn;
use crate::signin::page::content_security_policy;
use crate::{organizations, service_accounts};

/// The frame around every page of someone who is signed in.
#[derive(Debug)]
pub struct Shell {
    /// How they are called.
    pub user: String,
    /// For the page's forms.
    pub csrf: String,
    /// The part of the main navigation this page belongs to.
    pub section: &'static str,
    /// What was just done.
    pub notice: Option<&'static str>,
}

impl Shell {
    /// For a page of `section`.
    pub fn new(person: &SignedIn, section: &'static str) -> Self {
        Self {
            user: person.user.email.clone(),
            csrf: person.csrf.clone(),
            section,
            notice: None,
        }
    }

    /// With what a redirect's `?done=` says.
    pub fn after(mut self, done: &Done) -> Self {
        self.notice = done.sentence();
        self
    }
}

/// A page with forms that lead to another origin: browsers hold forms, and where they are redirected,
/// to what the page names.
pub fn toward(page: PageResult, origin: &str) -> PageResult {
    let mut response = page?;
    if let Ok(policy) = HeaderValue::try_from(content_security_policy(Some(origin))) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// `?done=` of a page that a form led to. Only fixed sentences, so that no link can make a page
/// say something else.
#[derive(Debug, Default, Deserialize)]
pub struct Done {
    done: Option<String>,
}

impl Done {
    fn sentence(&self) -> Option<&'static str> {
        Some(match self.done.as_deref()? {
            "saved" => "Saved.",
            "password" => "Your password is changed. Every other browser is signed out.",
            "connected" => {
                "Connected; pushes come live from now on. “Deploy now” on the project's page deploys what is there already."
            }
            "unlinked" => "Disconnected; pushes do not come live any more.",
            "removed" => "Removed.",
            "closed" => "Closed; the next commit of its pull request opens it again.",
            "generated" => "Generated and sealed; only your server can read it.",
            "added" => "Added; they sign in as they did before.",
            "requested" => {
                "GitHub asked an owner of that account to install the App; come back once they did."
            }
            "installed" => "Installed. Press “Update from GitHub” to see the repositories here.",
            "deleted" => "The project is deleted; its URL no longer answers.",
            "disconnected" => "The app is disconnected; its tokens no longer work.",
            "revoked" => "The token is revoked; it no longer works.",
            _ => return None,
        })
    }
}

/// A point in time as people read it, with the exact one behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// RFC 3339.
    pub iso: String,
    /// To the second, in UTC.
    pub full: String,
    /// The day alone.
    pub day: String,
    /// How long ago.
    pub ago: String,
}

impl Moment {
    /// `at` as seen at `now`.
    pub fn new(at: OffsetDateTime, now: OffsetDateTime) -> Self {
        let day = at
            .format(format_description!(
                "[day padding:none] [month repr:short] [year]"
            ))
            .unwrap_or_default();
        let clock = at
            .format(format_description!("[hour]:[minute]:[second]"))
            .unwrap_or_default();
        Self {
            iso: at.format(&Rfc3339).unwrap_or_default(),
            full: format!("{day}, {clock} UTC"),
            ago: ago(now - at).unwrap_or_else(|| day.clone()),
            day,
        }
    }
}

fn ago(age: Duration) -> Option<String> {
    Some(match age.whole_seconds() {
        // A runner's clock may run a little ahead of ours.
        ..45 => "just now".to_owned(),
        45..3_600 => format!("{} min ago", (age.whole_seconds() + 15) / 60),
        3_600..86_400 => format!("{} h ago", age.whole_hours()),
        86_400..172_800 => "yesterday".to_owned(),
        172_800..2_592_000 => format!("{} days ago", age.whole_days()),
        _ => return None,
    })
}

/// A duration in milliseconds as people read it.
pub fn took(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// Words as they would be typed for a shell.
pub fn words(words: &[String]) -> String {
    shell_words::join(words)
}

/// Who did things in an organization, by the actor's name in the database.
#[derive(Debug, Default)]
pub struct People(HashMap<String, String>);

impl People {
    /// The members and service accounts of an organization.
    pub async fn of(db: &mut PgConnection, organization: Uuid) -> Result<Self> {
        let members = organizations::list_members(db, organization).await?;
        let members = members.into_iter().map(|it| (it.user_id, it.name));
        let accounts = service_accounts::list(db, organization).await?;
        let accounts = accounts.into_iter().map(|it| (it.id, it.name));
        Ok(Self(
            members
                .chain(accounts)
                .map(|(id, name)| (format!("user:{id}"), name))
                .collect(),
        ))
    }

    /// A name for `user:…`, `token:…` or `system`.
    pub fn name<'a>(&'a self, actor: &str) -> &'a str {
        match self.0.get(actor) {
            Some(name) => name,
            None if actor.starts_with("token:") => "an API token",
            None if actor.starts_with("user:") => "someone who has left",
            None if actor == "github" => "GitHub",
            None => "Berth",
        }
    }
}

/// What is wrong with a form about a project, field by field.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// The project's name.
    pub name: Option<String>,
    /// The Git URL.
    pub source_url: Option<String>,
    /// The branch.
    pub source_branch: Option<String>,
    /// The entrypoint.
    pub entrypoint: Option<String>,
    /// The variables.
    pub variables: Option<String>,
    /// What belongs to no field.
    pub general: Option<String>,
}

impl Problems {
    /// Adds what an error says about the form. A fault of ours is no problem of the form, and is
    /// handed back.
    pub fn add(&mut self, error: Error) -> Result<()> {
        match error {
            Error::Invalid(fields) => {
                for field in fields {
                    let slot = match field.name {
                        "name" => &mut self.name,
                        "source_url" => &mut self.source_url,
                        "source_branch" => &mut self.source_branch,
                        "entrypoint" => &mut self.entrypoint,
                        "variables" => &mut self.variables,
                        _ => &mut self.general,
                    };
                    match slot {
                        Some(text) => text.extend([" ", &field.message]),
                        None => *slot = Some(field.message),
                    }
                }
                Ok(())
            }
            Error::Conflict(sentence)
            | Error::Forbidden(sentence)
            | Error::Unavailable(sentence) => {
                self.general = Some(sentence);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn ages_read_as_people_say_them() {
        let now = datetime!(2026-03-10 12:00 UTC);
        let ago = |age: Duration| Moment::new(now - age, now).ago;
        assert_eq!(ago(Duration::seconds(-3)), "just now");
        assert_eq!(ago(Duration::seconds(50)), "1 min ago");
        assert_eq!(ago(Duration::minutes(59)), "59 min ago");
        assert_eq!(ago(Duration::hours(23)), "23 h ago");
        assert_eq!(ago(Duration::hours(30)), "yesterday");
        assert_eq!(ago(Duration::days(3)), "3 days ago");
        assert_eq!(ago(Duration::days(90)), "10 Dec 2025");
        assert_eq!(Moment::new(now, now).full, "10 Mar 2026, 12:00:00 UTC");
    }

    #[test]
    fn durations_keep_what_matters() {
        assert_eq!(took(7), "7 ms");
        assert_eq!(took(3_450), "3.4 s");
        assert_eq!(took(72_000), "1 min 12 s");
    }

    #[test]
    fn problems_stand_beside_their_fields() {
        let mut problems = Problems::default();
        problems.add(crate::error::invalid("name", "No.")).unwrap();
        problems
            .add(crate::error::invalid("name", "Nor this."))
            .unwrap();
        problems.add(Error::Conflict("Taken.".into())).unwrap();
        assert_eq!(problems.name.as_deref(), Some("No. Nor this."));
        assert_eq!(problems.general.as_deref(), Some("Taken."));
        assert!(problems.add(Error::NotFound("project")).is_err());
    }
}
