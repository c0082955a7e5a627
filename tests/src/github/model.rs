//! What GitHub knows of: accounts, repositories, Apps, installations and what Apps said about commits.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use time::OffsetDateTime;

/// An account: a person, an organization or an App's bot.
#[derive(Debug, Clone)]
pub struct Account {
    /// Stays when the account is renamed.
    pub id: u64,
    /// The name in addresses.
    pub login: String,
    /// Who it is.
    pub kind: AccountKind,
    /// The people of an organization.
    pub members: BTreeSet<u64>,
    /// Since when it exists.
    pub created_at: OffsetDateTime,
}

/// Who an account is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// A person.
    User,
    /// An organization.
    Organization,
    /// What an App writes as.
    Bot,
}

impl AccountKind {
    /// As payloads name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Organization => "Organization",
            Self::Bot => "Bot",
        }
    }
}

/// A repository; its objects lie in a bare repository of the same id.
#[derive(Debug, Clone)]
pub struct Repository {
    pub id: u64,
    pub owner: u64,
    pub name: String,
    pub private: bool,
    pub template: bool,
    pub default_branch: String,
    pub parent: Option<u64>,
    /// People who may push besides the owner's.
    pub collaborators: BTreeSet<u64>,
    pub created_at: OffsetDateTime,
    pub pushed_at: OffsetDateTime,
    pub pulls: BTreeMap<u64, Pull>,
}

/// A pull request.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Everywhere on GitHub.
    pub id: u64,
    /// In its repository.
    pub number: u64,
    /// What it is called.
    pub title: String,
    /// Who opened it.
    pub author: u64,
    /// Where its branch is.
    pub head_repository: u64,
    /// The branch to merge.
    pub head_branch: String,
    /// The branch's commit.
    pub head_sha: String,
    /// The branch to merge into.
    pub base_branch: String,
    /// That branch's commit when the head last moved.
    pub base_sha: String,
    /// Neither closed nor merged.
    pub open: bool,
    /// Not ready for review.
    pub draft: bool,
    /// How it was merged.
    pub merged: Option<Merged>,
    /// When it was opened.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// When it was closed or merged.
    pub closed_at: Option<OffsetDateTime>,
    /// Who approved it.
    pub reviews: Vec<Review>,
}

/// How a pull request was merged.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The merge commit.
    pub sha: String,
    /// Who merged.
    pub by: u64,
    /// When.
    pub at: OffsetDateTime,
}

/// A review that approves.
#[derive(Debug, Clone)]
pub struct Review {
    /// Everywhere on GitHub.
    pub id: u64,
    /// Who approved.
    pub user: u64,
    /// The commit that was approved.
    pub sha: String,
    /// When.
    pub at: OffsetDateTime,
}

/// A GitHub App.
#[derive(Debug, Clone)]
pub struct App {
    /// Its number.
    pub id: u64,
    /// The account that made it.
    pub owner: u64,
    /// The account that it writes as.
    pub bot: u64,
    /// As people see it.
    pub name: String,
    /// In addresses.
    pub slug: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its home.
    pub external_url: String,
    /// Whether others may install it.
    pub public: bool,
    /// For OAuth.
    pub client_id: String,
    /// For OAuth.
    pub client_secret: String,
    /// For webhooks.
    pub webhook_secret: String,
    /// Its hook's number.
    pub hook_id: u64,
    /// Where webhooks go.
    pub hook_url: Option<String>,
    /// Whether they do.
    pub hook_active: bool,
    /// PKCS#1, as GitHub gives it.
    pub private_key: String,
    /// The public half, as PKCS#1 DER.
    pub public_key: Vec<u8>,
    /// What it asks for.
    pub permissions: BTreeMap<String, String>,
    /// What it wants to hear of.
    pub events: Vec<String>,
    /// Where codes may go.
    pub callback_urls: Vec<String>,
    /// Where people go after installing.
    pub setup_url: Option<String>,
    /// And after changing repositories.
    pub setup_on_update: bool,
    /// Whether installing signs in, too.
    pub request_oauth_on_install: bool,
    /// When it was made.
    pub created_at: OffsetDateTime,
}

/// An App on an account.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Its number.
    pub id: u64,
    /// Which App.
    pub app: u64,
    /// On which account.
    pub account: u64,
    /// On which of its repositories.
    pub repositories: Repositories,
    /// What was granted.
    pub permissions: BTreeMap<String, String>,
    /// What the App hears of.
    pub events: Vec<String>,
    /// By whom and when it was suspended.
    pub suspended: Option<(u64, OffsetDateTime)>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// Which repositories of its account an installation reaches.
#[derive(Debug, Clone)]
pub enum Repositories {
    /// Those of today and tomorrow.
    All,
    /// These.
    Selected(BTreeSet<u64>),
}

/// An installation access token.
#[derive(Debug, Clone)]
pub struct InstallationToken {
    pub installation: u64,
    pub permissions: BTreeMap<String, String>,
    /// Narrower than the installation.
    pub repositories: Option<BTreeSet<u64>>,
    pub expires_at: OffsetDateTime,
}

/// A person's token for an App.
#[derive(Debug, Clone)]
pub struct UserToken {
    pub user: u64,
    pub app: u64,
    pub expires_at: OffsetDateTime,
}

/// A code on its way from the consent page.
#[derive(Debug, Clone)]
pub struct Code {
    pub app: u64,
    pub user: u64,
    pub redirect_uri: Option<String>,
    pub challenge: Option<String>,
    pub expires_at: OffsetDateTime,
}

/// A manifest that waits for its button.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub document: Value,
    pub state: Option<String>,
    /// The organization; otherwise the person who presses it.
    pub organization: Option<String>,
}

/// A check run, as an App last left it.
#[derive(Debug, Clone)]
pub struct Check {
    /// Its number.
    pub id: u64,
    /// The suite of its commit and App.
    pub suite: u64,
    /// Where it is.
    pub repository: u64,
    /// Whose it is.
    pub app: u64,
    /// What was checked.
    pub name: String,
    /// The commit.
    pub head_sha: String,
    /// `queued`, `in_progress` or `completed`.
    pub status: String,
    /// How it ended.
    pub conclusion: Option<String>,
    /// Where the App shows more.
    pub details_url: Option<String>,
    /// The App's own name for it.
    pub external_id: Option<String>,
    /// When it started.
    pub started_at: Option<String>,
    /// When it ended.
    pub completed_at: Option<String>,
    /// The output's title.
    pub title: Option<String>,
    /// The output's summary, in Markdown.
    pub summary: Option<String>,
    /// The output's text, in Markdown.
    pub text: Option<String>,
    /// In the order in which they came.
    pub annotations: Vec<Value>,
}

/// A commit status.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its number.
    pub id: u64,
    /// Where it is.
    pub repository: u64,
    /// The commit.
    pub sha: String,
    /// `pending`, `success`, `failure` or `error`.
    pub state: String,
    /// What it is about.
    pub context: String,
    /// One sentence.
    pub description: Option<String>,
    /// Where there is more.
    pub target_url: Option<String>,
    /// Who set it.
    pub creator: u64,
    /// When.
    pub created_at: OffsetDateTime,
}

/// A deployment and what became of it.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its number.
    pub id: u64,
    /// Where it is.
    pub repository: u64,
    /// The App that made it.
    pub app: Option<u64>,
    /// Who made it.
    pub creator: u64,
    /// The commit.
    pub sha: String,
    /// What was asked to be deployed.
    pub reference: String,
    /// What is done.
    pub task: String,
    /// Where it goes.
    pub environment: String,
    /// One sentence.
    pub description: Option<String>,
    /// The App's own data.
    pub payload: Value,
    /// Whether its environment goes away.
    pub transient: bool,
    /// Whether people use its environment.
    pub production: bool,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// The first is the oldest.
    pub statuses: Vec<DeploymentStatus>,
}

/// One state of a deployment.
#[derive(Debug, Clone)]
pub struct DeploymentStatus {
    /// Its number.
    pub id: u64,
    /// `success`, `failure`, `in_progress` and so on.
    pub state: String,
    /// One sentence.
    pub description: String,
    /// Where it went.
    pub environment: String,
    /// Where it can be used.
    pub environment_url: String,
    /// Where its log is.
    pub log_url: String,
    /// When.
    pub created_at: OffsetDateTime,
}

/// A comment on a pull request.
#[derive(Debug, Clone)]
pub struct Comment {
    /// Its number.
    pub id: u64,
    /// Where it is.
    pub repository: u64,
    /// On which pull request.
    pub number: u64,
    /// Who wrote it.
    pub user: u64,
    /// Through which App.
    pub app: Option<u64>,
    /// In Markdown.
    pub body: String,
    /// How often it was edited.
    pub edits: usize,
    /// When it was written.
    pub created_at: OffsetDateTime,
    /// When it was last edited.
    pub updated_at: OffsetDateTime,
}
