//! What every handler has at hand, built in one place.

use std::sync::Arc;

use sqlx::PgPool;

use crate::changes::Changes;
use crate::clients::Documents;
use crate::clock::Clock;
use crate::config::ServeConfig;
use crate::connections::Recorder;
use crate::crypto::KeyEncryptionKey;
use crate::github::GitHub;
use crate::signing_keys::SigningKeys;

/// The application's state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    /// The database.
    pub db: PgPool,
    /// The settings.
    pub config: Arc<ServeConfig>,
    /// The time.
    pub clock: Clock,
    /// Wakes long polls.
    pub changes: Changes,
    /// The keys that sign access tokens.
    pub keys: Arc<SigningKeys>,
    /// Encrypts what the database keeps secret.
    pub kek: Arc<KeyEncryptionKey>,
    /// Steps of clients that connect.
    pub connections: Recorder,
    /// What clients publish of themselves.
    pub documents: Arc<Documents>,
    /// What talks to GitHub.
    pub github: Arc<GitHub>,
    /// Names this platform.
    pub installation: uuid::Uuid,
}

impl App {
    /// Connects, migrates and loads the keys.
    pub async fn build(config: ServeConfig, clock: Clock) -> anyhow::Result<Self> {
        let documents = Arc::new(Documents::new(config.fetcher()?));
        let github = Arc::new(GitHub::new(&config, clock.clone())?);
        let db = crate::db::connect(config.database_options()?).await?;
        crate::db::migrate(&db).await?;
        let mut connection = db.acquire().await?;
        let installation = crate::db::installation(&mut connection).await?;
        let kek = KeyEncryptionKey::new(&config.key_encryption_key()?);
        let keys = SigningKeys::load_or_create(&mut connection, &kek, clock.now()).await?;
        crate::users::ensure_owner(&mut connection, &config, clock.now()).await?;
        crate::clients::ensure_cli(&mut connection, clock.now()).await?;
        drop(connection);
        Ok(Self {
            db,
            config: Arc::new(config),
            clock,
            changes: Changes::default(),
            keys: Arc::new(keys),
            kek: Arc::new(kek),
            connections: Recorder::default(),
            documents,
            github,
            installation,
        })
    }
}
