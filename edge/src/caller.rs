//! Callers: who a token stands for, and what is remembered of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use uuid::Uuid;

use crate::clock;
use crate::protocol::ApiToken;

/// What every API token begins with.
pub(crate) const API_TOKEN_PREFIX: &str = "brt_";

/// Whoever holds one verified token. It lives as long as the token is remembered, so that what is
/// made for it once serves all its calls.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The person or service account.
    pub(crate) user: Uuid,
    /// User and client: whom an MCP session belongs to.
    pub(crate) principal: Arc<str>,
    pub(crate) credential: Credential,
    /// The client of the token, or `api-token:<id>`; visible ASCII.
    pub(crate) client: HeaderValue,
    /// `user` as a header.
    pub(crate) user_header: HeaderValue,
    /// Seconds since 1970.
    expires: u64,
    visits: Mutex<Vec<Visit>>,
}

/// Which kind of token it is, with what limits it.
#[derive(Debug)]
pub(crate) enum Credential {
    /// An access token of the authorization server.
    AccessToken {
        grant: Uuid,
        /// The project: its name, and so the audience, may be another one's later.
        project: Uuid,
        /// The resource that it was issued for (RFC 8707).
        audience: Box<str>,
        /// Space-separated.
        scope: HeaderValue,
    },
    /// An API token.
    ApiToken {
        /// As the snapshot states it.
        stated: Box<ApiToken>,
        /// `None` for every project that its user may call.
        projects: Option<HashSet<Uuid>>,
    },
}

/// What is remembered of a token at one project.
#[derive(Debug)]
struct Visit {
    project: Uuid,
    called: bool,
    assertion: Option<Assertion>,
}

/// What the edge says about a caller to the instances of one resource, signed.
#[derive(Debug, Clone)]
pub(crate) struct Assertion {
    pub(crate) resource: Arc<str>,
    pub(crate) value: HeaderValue,
    /// Seconds since 1970 from which on a new one is made.
    pub(crate) renew_at: u64,
}

impl Caller {
    /// The holder of a token that ends `expires` seconds after 1970; `None` where the client's name
    /// is not visible ASCII, and so cannot stand in a header.
    pub(crate) fn new(
        user: Uuid,
        client: &str,
        credential: Credential,
        expires: u64,
    ) -> Option<Self> {
        let client_header = HeaderValue::from_str(client).ok()?;
        client_header.to_str().ok()?;
        let user_text = user.to_string();
        Some(Self {
            user,
            // Neither half contains a line feed, so two pairs never look alike.
            principal: format!("{user_text}\n{client}").into(),
            credential,
            client: client_header,
            user_header: HeaderValue::try_from(user_text).ok()?,
            expires,
            visits: Mutex::default(),
        })
    }

    /// The holder of an API token.
    pub(crate) fn with_api_token(token: &ApiToken) -> Option<Self> {
        let credential = Credential::ApiToken {
            stated: Box::new(token.clone()),
            projects: token
                .projects
                .as_ref()
                .map(|projects| projects.iter().copied().collect()),
        };
        let client = format!("api-token:{}", token.id);
        let expires = token
            .expires_at
            .map_or(u64::MAX, |at| u64::try_from(at).unwrap_or(0));
        Self::new(token.user, &client, credential, expires)
    }

    /// The client: a `client_id`, or `api-token:<id>`.
    pub(crate) fn client_id(&self) -> &str {
        self.client
            .to_str()
            .expect("it was read as text when it was made")
    }

    /// The grant of the access token, if it is one.
    pub(crate) fn grant(&self) -> Option<Uuid> {
        match &self.credential {
            Credential::AccessToken { grant, .. } => Some(*grant),
            Credential::ApiToken { .. } => None,
        }
    }

    /// The API token, if it is one.
    pub(crate) fn api_token(&self) -> Option<Uuid> {
        match &self.credential {
            Credential::ApiToken { stated, .. } => Some(stated.id),
            Credential::AccessToken { .. } => None,
        }
    }

    /// Whether the token was issued for `project`.
    pub(crate) fn covers(&self, project: Uuid) -> bool {
        match &self.credential {
            Credential::AccessToken { project: of, .. } => *of == project,
            Credential::ApiToken { projects, .. } => projects
                .as_ref()
                .is_none_or(|projects| projects.contains(&project)),
        }
    }

    /// Whether the token ended more than `leeway` seconds ago.
    pub(crate) fn expired(&self, leeway: u64) -> bool {
        now() > self.expires.saturating_add(leeway)
    }

    /// Whether this is the first call of the token at `project`: true once for each.
    pub(crate) fn calls_first(&self, project: Uuid) -> bool {
        let mut visits = self.lock();
        !std::mem::replace(&mut visit(&mut visits, project).called, true)
    }

    /// The assertion made earlier for `resource`, if it is still good for a while.
    pub(crate) fn assertion(&self, project: Uuid, resource: &str) -> Option<HeaderValue> {
        let visits = self.lock();
        let visit = visits.iter().find(|visit| visit.project == project)?;
        let assertion = visit.assertion.as_ref()?;
        (now() < assertion.renew_at && *assertion.resource == *resource)
            .then(|| assertion.value.clone())
    }

    /// Keeps an assertion for the next calls.
    pub(crate) fn keep(&self, project: Uuid, assertion: Assertion) {
        visit(&mut self.lock(), project).assertion = Some(assertion);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Visit>> {
        // No code panics while it holds the lock.
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the holder of `token`, and nothing about it has changed.
    pub(crate) fn holds(&self, token: &ApiToken) -> bool {
        matches!(&self.credential, Credential::ApiToken { stated, .. } if **stated == *token)
    }
}

fn visit(visits: &mut Vec<Visit>, project: Uuid) -> &mut Visit {
    let position = visits.iter().position(|visit| visit.project == project);
    let position = position.unwrap_or_else(|| {
        visits.push(Visit {
            project,
            called: false,
            assertion: None,
        });
        visits.len() - 1
    });
    &mut visits[position]
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    clock::roughly().as_secs()
}
