//! One request of the REST API: who asks, for what, and the answer.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::Shared;
use super::state::{Repository, State};

/// Where errors point.
const DOCUMENTATION: &str = "https://docs.github.com/rest";

/// Who asks.
#[derive(Debug, Clone)]
pub enum Who {
    /// Nobody in particular.
    Nobody,
    /// An App, by its JWT.
    App(u64),
    /// An installation, by its token.
    Installation {
        id: u64,
        permissions: BTreeMap<String, String>,
        repositories: Option<std::collections::BTreeSet<u64>>,
    },
    /// A person, by a token for an App.
    User { user: u64, app: u64 },
    /// An App, by its client's id and secret.
    Client(u64),
}

/// An answer.
#[derive(Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub body: Option<Value>,
    /// Instead of JSON.
    pub raw: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, String)>,
}

impl Reply {
    /// JSON with a status.
    pub fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            body: Some(body),
            ..Self::default()
        }
    }

    /// 204.
    pub fn nothing() -> Self {
        Self {
            status: 204,
            ..Self::default()
        }
    }

    /// An error as GitHub words it.
    pub fn error(status: u16, message: &str) -> Self {
        let body = json!({
            "message": message,
            "documentation_url": DOCUMENTATION,
            "status": status.to_string(),
        });
        Self::json(status, body)
    }
}

/// Why there is no usual answer.
#[derive(Debug)]
pub enum Stop {
    /// GitHub refuses.
    Refused(Box<Reply>),
    /// The emulator failed.
    Broken(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

/// A refusal.
pub fn refused(status: u16, message: &str) -> Stop {
    Stop::Refused(Box::new(Reply::error(status, message)))
}

/// 404.
pub fn not_found() -> Stop {
    refused(404, "Not Found")
}

/// 403 of a token that lacks a permission.
pub fn not_accessible() -> Stop {
    refused(403, "Resource not accessible by integration")
}

/// 422 with one error.
pub fn invalid(resource: &str, field: &str, code: &str) -> Stop {
    let mut reply = Reply::json(
        422,
        json!({
            "message": "Validation Failed",
            "errors": [{ "resource": resource, "field": field, "code": code }],
            "documentation_url": DOCUMENTATION,
        }),
    );
    reply.status = 422;
    Stop::Refused(Box::new(reply))
}

/// What a route does.
pub type Handler = fn(&Call<'_>) -> Result<Reply, Stop>;

/// How much of a permission is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Read,
    Write,
}

/// One request.
pub struct Call<'a> {
    pub shared: &'a Shared,
    pub method: &'a str,
    /// Without the API's root.
    pub address: &'a str,
    pub path: Vec<(String, String)>,
    pub query: Vec<(String, String)>,
    pub headers: &'a HeaderMap,
    pub body: Option<Value>,
    pub who: Who,
}

impl Call<'_> {
    /// A parameter of the path.
    pub fn param(&self, name: &str) -> &str {
        let found = self.path.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A number in the path.
    pub fn number(&self, name: &str) -> Result<u64, Stop> {
        self.param(name).parse().map_err(|_| not_found())
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }

    /// A member of the body; null where there is none.
    pub fn member(&self, name: &str) -> &Value {
        self.body.as_ref().map_or(&Value::Null, |body| &body[name])
    }

    /// A member of the body that is text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.member(name).as_str().map(str::to_owned)
    }

    /// The App that asks with its JWT.
    pub fn app(&self) -> Result<u64, Stop> {
        match self.who {
            Who::App(id) => Ok(id),
            Who::Nobody => Err(refused(401, "Requires authentication")),
            _ => Err(refused(401, "A JSON web token could not be decoded")),
        }
    }

    /// The person that asks.
    pub fn user(&self) -> Result<(u64, u64), Stop> {
        match self.who {
            Who::User { user, app } => Ok((user, app)),
            Who::Nobody => Err(refused(401, "Requires authentication")),
            _ => Err(not_accessible()),
        }
    }

    /// What the one who asks may do with a repository; none where they may not see more than
    /// everybody.
    pub fn permissions(
        &self,
        state: &State,
        repository: &Repository,
    ) -> Option<BTreeMap<String, String>> {
        match &self.who {
            Who::Installation {
                id,
                permissions,
                repositories,
            } => {
                let installation = state.installations.get(id)?;
                let reached = State::reaches(installation, repository)
                    && repositories
                        .as_ref()
                        .is_none_or(|some| some.contains(&repository.id));
                reached.then(|| permissions.clone())
            }
            Who::User { user, app } => {
                let installation = state
                    .installations
                    .values()
                    .find(|one| one.app == *app && State::reaches(one, repository))?;
                if installation.suspended.is_some() || !state.reads(*user, repository) {
                    return None;
                }
                let pushes = state.pushes(*user, repository);
                let granted = installation.permissions.iter().map(|(name, level)| {
                    let level = if pushes { level.as_str() } else { "read" };
                    (name.clone(), level.to_owned())
                });
                Some(granted.collect())
            }
            Who::Nobody | Who::App(_) | Who::Client(_) => None,
        }
    }

    /// The repository of the path, if it may be seen and this may be done.
    pub fn repository(
        &self,
        state: &State,
        permission: &str,
        level: Level,
    ) -> Result<Repository, Stop> {
        let (owner, name) = (self.param("owner"), self.param("repo"));
        let found = state.repository(owner, name);
        let moved = state
            .moved
            .get(&format!("{owner}/{name}").to_lowercase())
            .and_then(|id| state.repositories.get(id));
        let repository = found.or(moved).ok_or_else(not_found)?;
        let permissions = self.permissions(state, repository);
        if repository.private && permissions.is_none() {
            return Err(not_found());
        }
        if found.is_none() {
            return Err(self.moved(repository));
        }
        let allowed = match (&permissions, level) {
            (Some(permissions), Level::Read) => {
                !repository.private
                    || permission == "metadata"
                    || permissions.contains_key(permission)
            }
            (Some(permissions), Level::Write) => permissions
                .get(permission)
                .is_some_and(|level| level == "write"),
            (None, Level::Read) => true,
            (None, Level::Write) => false,
        };
        match allowed {
            true => Ok(repository.clone()),
            false if matches!(self.who, Who::Nobody) => {
                Err(refused(401, "Requires authentication"))
            }
            false => Err(not_accessible()),
        }
    }

    /// GitHub leads from a former name to the repository's number.
    fn moved(&self, repository: &Repository) -> Stop {
        let former = format!("/repos/{}/{}", self.param("owner"), self.param("repo"));
        let rest = self.address.strip_prefix(&*former).unwrap_or_default();
        let url = format!(
            "{}/repositories/{}{rest}",
            self.shared.api_url, repository.id
        );
        let (status, message) = match self.method {
            "GET" => (301, "Moved Permanently"),
            _ => (307, "Temporary Redirect"),
        };
        let body = json!({ "message": message, "url": url, "documentation_url": DOCUMENTATION });
        let mut reply = Reply::json(status, body);
        reply.headers.push(("location", url));
        Stop::Refused(Box::new(reply))
    }

    /// One page of a list, and where the others are (GitHub's documentation, "Using pagination in the
    /// REST API").
    pub fn page(&self, all: Vec<Value>) -> (Vec<Value>, Vec<(&'static str, String)>) {
        let number = |name: &str, default: usize| {
            let given = self.query(name).and_then(|value| value.parse().ok());
            given.filter(|value| *value > 0).unwrap_or(default)
        };
        let (size, page) = (number("per_page", 30).min(100), number("page", 1));
        let last = all.len().div_ceil(size).max(1);
        let link = |page: usize, relation: &str| {
            let mut url = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in self.query.iter().filter(|(name, _)| name != "page") {
                url.append_pair(name, value);
            }
            url.append_pair("page", &page.to_string());
            let (api, path) = (&self.shared.api_url, self.address);
            format!("<{api}{path}?{}>; rel=\"{relation}\"", url.finish())
        };
        let mut links = Vec::new();
        if page > 1 {
            links.push(link(page - 1, "prev"));
        }
        if page < last {
            links.push(link(page + 1, "next"));
            links.push(link(last, "last"));
        }
        if page > 1 {
            links.push(link(1, "first"));
        }
        let headers = if links.is_empty() {
            Vec::new()
        } else {
            vec![("link", links.join(", "))]
        };
        let shown = all.into_iter().skip((page - 1) * size).take(size);
        (shown.collect(), headers)
    }

    /// A list as the whole answer.
    pub fn list(&self, all: Vec<Value>) -> Reply {
        let (shown, headers) = self.page(all);
        Reply {
            headers,
            ..Reply::json(200, Value::Array(shown))
        }
    }

    /// A list inside an object that also counts.
    pub fn counted(&self, name: &str, all: Vec<Value>, more: Value) -> Reply {
        let mut body = more;
        body["total_count"] = all.len().into();
        let (shown, headers) = self.page(all);
        body[name] = Value::Array(shown);
        Reply {
            headers,
            ..Reply::json(200, body)
        }
    }
}
