//! Keys that are made here: random, sealed as they are made, and never shown to anyone.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Change, Changed, NewVariable, Scope, change};
use crate::audit::Actor;
use crate::error::{Error, Result};
use crate::ids::random_key;
use crate::projects::Project;

/// The keys that FastMCP's documentation has servers read: the first encrypts what a server
/// stores, the second signs the tokens of its own sign-in.
pub const KEYS: [&str; 2] = ["STORAGE_ENCRYPTION_KEY", "JWT_SIGNING_KEY"];

/// Variables to be filled with random keys.
#[derive(Debug, Clone, Default)]
pub struct Generate {
    /// For which deployments.
    pub scope: Scope,
    /// Their names; none means [`KEYS`].
    pub names: Vec<String>,
    /// Whether one that is set already gets another value.
    pub replace: bool,
}

/// Sets variables to 256 random bits each, in the form that `cryptography.fernet.Fernet` takes;
/// all or none. One that is set already is a conflict unless it may be replaced: what was
/// encrypted or signed with the old value is lost with it.
pub async fn generate(
    db: &mut PgConnection,
    project: &Project,
    generate: &Generate,
    actor: &Actor,
    now: OffsetDateTime,
) -> Result<Changed> {
    let mut names = generate.names.clone();
    if names.is_empty() {
        names = KEYS.map(String::from).to_vec();
    }
    names.sort();
    names.dedup();
    if !generate.replace {
        refuse_those_set(db, project.id, &generate.scope, &names).await?;
    }
    let set = names.into_iter().map(|name| NewVariable {
        name,
        value: random_key(),
        secret: true,
    });
    let wanted = Change {
        scope: generate.scope.clone(),
        set: set.collect(),
        unset: Vec::new(),
    };
    change(db, project, &wanted, actor, now).await
}

async fn refuse_those_set(
    db: &mut PgConnection,
    project: Uuid,
    scope: &Scope,
    names: &[String],
) -> Result<()> {
    // Two that ask at once come one after the other, and the second finds what the first made.
    sqlx::query!("select id from projects where id = $1 for update", project)
        .fetch_one(&mut *db)
        .await?;
    let set = sqlx::query_scalar!(
        "select name from variables
         where project_id = $1 and scope = $2 and branch = $3 and name = any($4) order by name",
        project,
        scope.name(),
        scope.branch(),
        names,
    )
    .fetch_all(db)
    .await?;
    if set.is_empty() {
        return Ok(());
    }
    let (are, them) = if set.len() == 1 {
        ("is", "it")
    } else {
        ("are", "them")
    };
    Err(Error::Conflict(format!(
        "{} {are} set already, and nothing was changed. A new value makes what was encrypted or \
         signed with the old one unreadable; ask to replace {them} if you mean that.",
        set.join(" and ")
    )))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE;

    use super::*;
    use crate::testing::{app, project};

    #[tokio::test]
    async fn keys_are_sealed_and_stay_unless_replacing_is_asked_for() {
        let app = app().await;
        let hello = project(&app, "hello").await;
        let mut db = app.db.acquire().await.unwrap();
        let secret = crypto_box::SecretKey::generate(&mut crypto_box::aead::OsRng);
        let runner = Uuid::from_u128(1);
        let key = base64::engine::general_purpose::STANDARD.encode(secret.public_key().as_bytes());
        let presence = crate::runners::Presence {
            id: runner,
            sequence: 1,
            name: "r",
            public_key: &key,
            images: &[],
        };
        crate::runners::saw(&mut db, &presence, app.clock.now())
            .await
            .unwrap();
        let stored = async |db: &mut PgConnection| -> Vec<(String, String)> {
            let rows = sqlx::query!(
                "select name, value from variables where project_id = $1 and secret order by name",
                hello.id
            );
            let rows = rows.fetch_all(db).await.unwrap();
            rows.into_iter().map(|row| (row.name, row.value)).collect()
        };
        let mut wanted = Generate::default();
        let now = app.clock.now();
        generate(&mut db, &hello, &wanted, &Actor::System, now)
            .await
            .unwrap();
        let first = stored(&mut db).await;
        for (name, value) in &first {
            assert!(KEYS.contains(&name.as_str()), "{name}");
            let boxes: BTreeMap<Uuid, String> = serde_json::from_str(value).unwrap();
            let sealed = base64::engine::general_purpose::STANDARD
                .decode(&boxes[&runner])
                .unwrap();
            let opened = secret.unseal(&sealed).unwrap();
            assert_eq!(URL_SAFE.decode(&opened).unwrap().len(), 32, "a Fernet key");
        }
        assert_eq!(first.len(), 2);

        wanted.names = vec!["JWT_SIGNING_KEY".into(), "ANOTHER".into()];
        let refused = generate(&mut db, &hello, &wanted, &Actor::System, now).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.starts_with("JWT_SIGNING_KEY is set already"), "{said}");
        assert_eq!(stored(&mut db).await, first);

        wanted.replace = true;
        generate(&mut db, &hello, &wanted, &Actor::System, now)
            .await
            .unwrap();
        let after = stored(&mut db).await;
        assert_eq!(after.len(), 3);
        assert_ne!(after[1], first[0], "{:?}", after[1].0);
        assert_eq!(after[2], first[1]);
    }
}
