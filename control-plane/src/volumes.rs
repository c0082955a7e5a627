//! What is known of projects' persistent files. They lie on runners, which report them.

use runner::protocol::{VolumeKind, VolumeReport};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// One volume as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Volume {
    /// `data`, which servers find at `/data`, or `redis`.
    pub kind: String,
    /// What is in it, bytes; `None` until it was seen.
    pub used_bytes: Option<i64>,
    /// What it holds at the most, bytes; `None` where nothing enforces it.
    pub size_bytes: Option<i64>,
    /// Why its size is only watched and not limited, if so.
    pub watched: Option<String>,
    /// When its runner last said so.
    #[serde(with = "time::serde::rfc3339")]
    pub reported_at: OffsetDateTime,
}

fn name(kind: VolumeKind) -> &'static str {
    match kind {
        VolumeKind::Data => "data",
        VolumeKind::Redis => "redis",
    }
}

/// An amount of data as people read it.
pub fn amount(bytes: i64) -> String {
    const KIB: i64 = 1024;
    const MIB: i64 = 1024 * KIB;
    const GIB: i64 = 1024 * MIB;
    let unit = |unit: i64, name| format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        ..KIB => format!("{bytes} B"),
        KIB..MIB => unit(KIB, "KiB"),
        MIB..GIB => unit(MIB, "MiB"),
        _ => unit(GIB, "GiB"),
    }
}

/// Takes over what a runner has: all of it. What is new of a project that is not there is not
/// taken, and so never asked to be removed. A preview has files of its own, under its own id.
pub async fn take_reports(
    db: &mut PgConnection,
    runner: Uuid,
    reports: &[VolumeReport],
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    let signed = |bytes: Option<u64>| bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let projects: Vec<Uuid> = reports.iter().map(|it| it.project).collect();
    let kinds: Vec<String> = reports.iter().map(|it| name(it.kind).to_owned()).collect();
    let used: Vec<Option<i64>> = reports.iter().map(|it| signed(it.used_bytes)).collect();
    let sizes: Vec<Option<i64>> = reports.iter().map(|it| signed(it.size_bytes)).collect();
    let watched: Vec<Option<String>> = reports
        .iter()
        .map(|it| it.watched.as_ref().map(|text| text.replace('\0', "")))
        .collect();
    sqlx::query!(
        "insert into volumes (runner_id, project_id, kind, used_bytes, size_bytes, watched, reported_at)
         select $1, r.project_id, r.kind, r.used, r.size, r.watched, $7
         from unnest($2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])
             as r (project_id, kind, used, size, watched)
         where exists (select from projects p where p.id = r.project_id)
            or exists (select from previews w where w.id = r.project_id)
            or exists (select from volumes v
                       where v.runner_id = $1 and v.project_id = r.project_id and v.kind = r.kind)
         on conflict (project_id, kind, runner_id) do update
         set used_bytes = coalesce(excluded.used_bytes, volumes.used_bytes),
             size_bytes = case when excluded.watched is null
                 then coalesce(excluded.size_bytes, volumes.size_bytes) end,
             watched = excluded.watched, reported_at = excluded.reported_at",
        runner,
        &projects,
        &kinds,
        &used as _,
        &sizes as _,
        &watched as _,
        now,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "delete from volumes v where v.runner_id = $1 and not exists (
             select from unnest($2::uuid[], $3::text[]) as r (project_id, kind)
             where r.project_id = v.project_id and r.kind = v.kind)",
        runner,
        &projects,
        &kinds,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The deleted projects and closed previews of which a runner still has files.
pub async fn list_removed(db: &mut PgConnection, runner: Uuid) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "select distinct project_id from volumes v
         where runner_id = $1 and not exists (select from projects p where p.id = v.project_id)
           and not exists (select from previews w where w.id = v.project_id and w.state <> 'closed')
         order by project_id",
        runner,
    )
    .fetch_all(db)
    .await
}

/// A project's, or a preview's: `/data` first.
pub async fn list(db: &mut PgConnection, project: Uuid) -> sqlx::Result<Vec<Volume>> {
    sqlx::query_as!(
        Volume,
        "select kind, used_bytes, size_bytes, watched, reported_at
         from volumes where project_id = $1 order by kind, reported_at desc",
        project,
    )
    .fetch_all(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Actor;
    use crate::testing::{app, project};
    use crate::{projects, runners};

    fn report(project: Uuid, used_bytes: Option<u64>) -> VolumeReport {
        VolumeReport {
            project,
            kind: VolumeKind::Data,
            used_bytes,
            size_bytes: used_bytes.map(|_| 100),
            watched: None,
        }
    }

    #[tokio::test]
    async fn files_are_removed_only_for_a_project_whose_files_were_known_and_that_is_deleted() {
        let app = app().await;
        let hello = project(&app, "hello").await;
        let mut db = app.db.acquire().await.unwrap();
        let (runner, now) = (Uuid::from_u128(1), app.clock.now());
        let presence = runners::Presence {
            id: runner,
            sequence: 1,
            name: "r",
            public_key: "",
            images: &[],
        };
        runners::saw(&mut db, &presence, now).await.unwrap();
        let stranger = Uuid::from_u128(99);
        let both = [report(hello.id, Some(7)), report(stranger, Some(1))];
        take_reports(&mut db, runner, &both, now).await.unwrap();
        let removed = list_removed(&mut db, runner).await.unwrap();
        assert!(removed.is_empty(), "of none that was never known");

        // What cannot be seen at the moment is as it was.
        take_reports(&mut db, runner, &[report(hello.id, None)], now)
            .await
            .unwrap();
        let known = &list(&mut db, hello.id).await.unwrap()[0];
        assert_eq!((known.used_bytes, known.size_bytes), (Some(7), Some(100)));
        let watched = VolumeReport {
            watched: Some("no loop devices".into()),
            ..report(hello.id, Some(8))
        };
        take_reports(&mut db, runner, &[watched], now)
            .await
            .unwrap();
        let known = &list(&mut db, hello.id).await.unwrap()[0];
        assert_eq!((known.used_bytes, known.size_bytes), (Some(8), None));

        projects::delete(&mut db, &hello, &Actor::System, now)
            .await
            .unwrap();
        assert_eq!(list_removed(&mut db, runner).await.unwrap(), [hello.id]);
        take_reports(&mut db, runner, &[report(hello.id, Some(8))], now)
            .await
            .unwrap();
        assert_eq!(list_removed(&mut db, runner).await.unwrap(), [hello.id]);
        take_reports(&mut db, runner, &[], now).await.unwrap();
        assert!(list_removed(&mut db, runner).await.unwrap().is_empty());
    }
}
