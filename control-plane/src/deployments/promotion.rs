//! From healthy to live: at once, or once a member says so, if the project wants that of what pushes
//! bring or of what would break callers.

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use runner::protocol::Surface;

use super::set_state;
use super::state::{State, transition};
use crate::audit::{self, Actor};
use crate::db::{Changed, bump, version};
use crate::error::Result;
use crate::surface;

/// Held: it would break callers of the live one.
pub const HELD_FOR_BREAKING: &str = "breaking";

/// Held: the project has what pushes bring wait for a member.
pub const HELD_FOR_PROMOTION: &str = "promotion";

/// A promotion in one environment of a project, whose row the caller has locked.
pub(super) struct Promotion<'a> {
    pub(super) project: Uuid,
    /// The preview; `None` for production.
    pub(super) preview: Option<Uuid>,
    pub(super) organization: Uuid,
    /// Whether what breaks callers waits for a member.
    pub(super) hold_breaking: bool,
    /// Whether what a push brought waits for none.
    pub(super) auto_promote: bool,
    /// How long the replaced instance keeps serving at the most.
    pub(super) drain: std::time::Duration,
    pub(super) actor: &'a Actor,
    pub(super) now: OffsetDateTime,
}

/// What is to be promoted.
struct This {
    number: i32,
    origin: String,
    surface: Option<Value>,
}

/// What it would replace.
struct Replaced {
    id: Uuid,
    number: i32,
    surface: Option<Value>,
}

impl Promotion<'_> {
    /// Its runner says that it answers. It goes live, waits if it is to be held, or, if a newer one
    /// went live meanwhile, is canceled. Says whether anything changed.
    pub(super) async fn when_healthy(
        &self,
        db: &mut PgConnection,
        deployment: Uuid,
    ) -> Result<bool> {
        let Some((state, this)) = self.reachable(db, deployment).await? else {
            return Ok(false);
        };
        // Once held, only a member moves it on.
        if state == State::Held || transition(state, State::Live).is_none() {
            return Ok(false);
        }
        let live = self.find_live(db).await?;
        if live.as_ref().is_some_and(|live| live.number > this.number) {
            return set_state(db, deployment, State::Canceled, self.now).await;
        }
        if let Some(why) = self.reason_to_hold(&this, live.as_ref()) {
            return self.hold(db, deployment, &this, why).await;
        }
        self.make_live(db, deployment, &this, live).await?;
        Ok(true)
    }

    /// A member promotes one that is held. Says whether it is live now.
    pub(super) async fn of_held(&self, db: &mut PgConnection, deployment: Uuid) -> Result<bool> {
        let Some((State::Held, this)) = self.reachable(db, deployment).await? else {
            return Ok(false);
        };
        let live = self.find_live(db).await?;
        self.make_live(db, deployment, &this, live).await?;
        Ok(true)
    }

    /// Its state and what is known of it, if its instance has an address.
    async fn reachable(
        &self,
        db: &mut PgConnection,
        deployment: Uuid,
    ) -> Result<Option<(State, This)>> {
        let row = sqlx::query!(
            r#"select number, state, origin, surface,
                 (upstream is not null and commit_id is not null) as "reachable!"
             from deployments where id = $1 for update"#,
            deployment
        )
        .fetch_one(db)
        .await?;
        if !row.reachable {
            return Ok(None);
        }
        let this = This {
            number: row.number,
            origin: row.origin,
            surface: row.surface,
        };
        Ok(Some((State::parse(&row.state)?, this)))
    }

    async fn find_live(&self, db: &mut PgConnection) -> sqlx::Result<Option<Replaced>> {
        sqlx::query_as!(
            Replaced,
            "select id, number, surface from deployments
             where project_id = $1 and preview_id is not distinct from $2 and state = 'live' for update",
            self.project,
            self.preview,
        )
        .fetch_optional(db)
        .await
    }

    /// Why it waits for a member, if it does. Whoever promotes or rolls back has decided already, and
    /// whoever deploys by hand means it to go live. A preview is there to be tried, and nobody depends
    /// on it.
    fn reason_to_hold(&self, this: &This, live: Option<&Replaced>) -> Option<&'static str> {
        let origin = this.origin.as_str();
        let breaks = self.hold_breaking
            && self.preview.is_none()
            && !matches!(origin, "promote" | "rollback")
            && live.is_some_and(|live| breaks(live.surface.as_ref(), this.surface.as_ref()));
        if breaks {
            return Some(HELD_FOR_BREAKING);
        }
        (!self.auto_promote && origin == "push").then_some(HELD_FOR_PROMOTION)
    }

    async fn hold(
        &self,
        db: &mut PgConnection,
        deployment: Uuid,
        this: &This,
        why: &'static str,
    ) -> Result<bool> {
        self.cancel_held(db, this.number).await?;
        let held = set_state(db, deployment, State::Held, self.now).await?;
        sqlx::query!(
            "update deployments set held_for = $2 where id = $1",
            deployment,
            why,
        )
        .execute(&mut *db)
        .await?;
        self.record(
            db,
            "deployment.hold",
            json!({ "deployment": deployment, "number": this.number, "for": why }),
        )
        .await?;
        Ok(held)
    }

    /// The new one live, the old one draining, the routes changed and the audit row written, all in
    /// the caller's transaction.
    async fn make_live(
        &self,
        db: &mut PgConnection,
        deployment: Uuid,
        this: &This,
        live: Option<Replaced>,
    ) -> Result<()> {
        if let Some(live) = &live {
            set_state(db, live.id, State::Draining, self.now).await?;
            sqlx::query!(
                "update deployments set draining_at = $2, drain_until = $3 where id = $1",
                live.id,
                self.now,
                self.now + self.drain
            )
            .execute(&mut *db)
            .await?;
        }
        // A restart of what was live says nothing about what is held.
        if this.origin != "variables" {
            self.cancel_held(db, this.number).await?;
        }
        set_state(db, deployment, State::Live, self.now).await?;
        bump(db, Changed::Routes).await?;
        sqlx::query!(
            "update deployments set live_at = $2, route_version = $3 where id = $1",
            deployment,
            self.now,
            version(db, Changed::Routes).await?,
        )
        .execute(&mut *db)
        .await?;
        let subject = json!({
            "deployment": deployment, "number": this.number, "replaced": live.map(|live| live.number),
        });
        self.record(db, "deployment.live", subject).await
    }

    /// Ends older ones that are held: a newer one has taken their turn.
    async fn cancel_held(&self, db: &mut PgConnection, number: i32) -> Result<()> {
        let held = sqlx::query_scalar!(
            "select id from deployments where project_id = $1 and preview_id is not distinct from $3 and state = 'held' and number < $2",
            self.project,
            number,
            self.preview,
        )
        .fetch_all(&mut *db)
        .await?;
        for id in held {
            set_state(db, id, State::Canceled, self.now).await?;
        }
        Ok(())
    }

    async fn record(
        &self,
        db: &mut PgConnection,
        action: &'static str,
        subject: Value,
    ) -> Result<()> {
        audit::record(
            db,
            audit::Entry {
                at: self.now,
                actor: self.actor,
                action,
                organization: Some(self.organization),
                project: Some(self.project),
                subject,
            },
        )
        .await
        .map_err(Into::into)
    }
}

/// Whether the second surface lacks what callers of the first may use. Unknown ones break nothing.
fn breaks(old: Option<&Value>, new: Option<&Value>) -> bool {
    let read = |surface: Option<&Value>| -> Option<Surface> {
        serde_json::from_value(surface?.clone()).ok()
    };
    read(old)
        .zip(read(new))
        .is_some_and(|(old, new)| surface::breaks(&surface::diff(&old, &new)))
}
