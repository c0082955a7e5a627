//! All that GitHub knows, and its clock and chance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_lc_rs::rsa;
use time::OffsetDateTime;

pub use super::model::*;

/// All of it.
#[derive(Debug)]
pub struct State {
    next: u64,
    pub accounts: BTreeMap<u64, Account>,
    pub repositories: BTreeMap<u64, Repository>,
    /// Former full names in lower case.
    pub moved: BTreeMap<String, u64>,
    pub apps: BTreeMap<u64, App>,
    pub installations: BTreeMap<u64, Installation>,
    pub tokens: BTreeMap<String, InstallationToken>,
    pub user_tokens: BTreeMap<String, UserToken>,
    /// Browser sessions.
    pub sessions: BTreeMap<String, u64>,
    /// Who allowed which App.
    pub grants: BTreeSet<(u64, u64)>,
    pub codes: BTreeMap<String, Code>,
    pub manifests: BTreeMap<String, Manifest>,
    /// Codes of the manifest flow and their Apps.
    pub conversions: BTreeMap<String, u64>,
    pub checks: BTreeMap<u64, Check>,
    /// Check suites: repository, App and commit.
    pub suites: BTreeMap<u64, (u64, u64, String)>,
    pub statuses: Vec<Status>,
    pub deployments: BTreeMap<u64, Deployment>,
    pub comments: BTreeMap<u64, Comment>,
    /// For each who asks: when the count of requests ends, and the count.
    pub used: BTreeMap<String, (i64, u64)>,
    pub token_lifetime: Duration,
    /// Minted tokens of installations that are gone, too.
    pub minted: BTreeMap<u64, usize>,
}

impl State {
    /// An empty GitHub.
    pub fn new() -> Self {
        Self {
            next: 1_000_000,
            accounts: BTreeMap::new(),
            repositories: BTreeMap::new(),
            moved: BTreeMap::new(),
            apps: BTreeMap::new(),
            installations: BTreeMap::new(),
            tokens: BTreeMap::new(),
            user_tokens: BTreeMap::new(),
            sessions: BTreeMap::new(),
            grants: BTreeSet::new(),
            codes: BTreeMap::new(),
            manifests: BTreeMap::new(),
            conversions: BTreeMap::new(),
            checks: BTreeMap::new(),
            suites: BTreeMap::new(),
            statuses: Vec::new(),
            deployments: BTreeMap::new(),
            comments: BTreeMap::new(),
            used: BTreeMap::new(),
            token_lifetime: Duration::from_hours(1),
            minted: BTreeMap::new(),
        }
    }

    /// A number that nothing else has.
    pub fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// By its name; GitHub's names have no case.
    pub fn account(&self, login: &str) -> Option<&Account> {
        self.accounts
            .values()
            .find(|account| account.login.eq_ignore_ascii_case(login))
    }

    /// By its present name.
    pub fn repository(&self, owner: &str, name: &str) -> Option<&Repository> {
        let owner = self.account(owner)?.id;
        self.repositories
            .values()
            .find(|one| one.owner == owner && one.name.eq_ignore_ascii_case(name))
    }

    /// `owner/name`.
    pub fn full_name(&self, repository: &Repository) -> String {
        let owner = &self.accounts[&repository.owner].login;
        format!("{owner}/{}", repository.name)
    }

    /// Whether a person reads a repository.
    pub fn reads(&self, user: u64, repository: &Repository) -> bool {
        !repository.private || self.pushes(user, repository)
    }

    /// Whether a person writes to a repository.
    pub fn pushes(&self, user: u64, repository: &Repository) -> bool {
        repository.owner == user
            || repository.collaborators.contains(&user)
            || self.accounts[&repository.owner].members.contains(&user)
    }

    /// Whether a person decides about an account's Apps.
    pub fn administers(&self, user: u64, account: u64) -> bool {
        account == user || self.accounts[&account].members.contains(&user)
    }

    /// Whether an installation reaches a repository.
    pub fn reaches(installation: &Installation, repository: &Repository) -> bool {
        repository.owner == installation.account
            && match &installation.repositories {
                Repositories::All => true,
                Repositories::Selected(these) => these.contains(&repository.id),
            }
    }

    /// The installations that reach a repository and are not suspended.
    pub fn watching(&self, repository: &Repository) -> Vec<u64> {
        self.installations
            .values()
            .filter(|one| one.suspended.is_none() && Self::reaches(one, repository))
            .map(|one| one.id)
            .collect()
    }

    /// The check suite of an App for a commit, made with the first look at it.
    pub fn suite(&mut self, repository: u64, app: u64, sha: &str) -> u64 {
        let wanted = (repository, app, sha.to_owned());
        if let Some((&id, _)) = self.suites.iter().find(|(_, suite)| **suite == wanted) {
            return id;
        }
        let id = self.id();
        self.suites.insert(id, wanted);
        id
    }
}

/// The time. GitHub's clock is the machine's.
pub fn now() -> OffsetDateTime {
    #[expect(
        clippy::disallowed_methods,
        reason = "an outside service has a clock of its own; it is read here only"
    )]
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0)
        .expect("zero is a number of nanoseconds")
}

/// Random hexadecimal digits: 32 for each part.
pub fn random(prefix: &str) -> String {
    format!("{prefix}{}", uuid::Uuid::new_v4().simple())
}

/// What precedes the PKCS#1 key in one of this size (RFC 5208): SEQUENCE { version, algorithm, OCTET
/// STRING }.
const BEFORE_KEY: usize = 26;

/// A key for an App: the private half as GitHub writes it (PKCS#1 in PEM), the public half as DER.
pub fn key() -> anyhow::Result<(String, Vec<u8>)> {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::signature::KeyPair as _;
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048)
        .map_err(|_| anyhow::anyhow!("no RSA key could be made"))?;
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)
        .map_err(|_| anyhow::anyhow!("the RSA key could not be written"))?;
    let encoded = BASE64_STANDARD.encode(&pkcs8.as_ref()[BEFORE_KEY..]);
    let mut pem = String::from("-----BEGIN RSA PRIVATE KEY-----\n");
    for line in encoded.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line)?);
        pem.push('\n');
    }
    pem.push_str("-----END RSA PRIVATE KEY-----\n");
    Ok((pem, pair.public_key().as_ref().to_vec()))
}
