use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{Signal, kill_process};

use super::*;

/// A data directory that any user can enter, whatever our umask is.
fn data() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
    directory
}

async fn count_kept(server: &PrivatePostgres) -> i64 {
    let mut connection = PgConnection::connect_with(&server.options()).await.unwrap();
    sqlx::raw_sql("create table if not exists kept (n int); insert into kept values (1)")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query_scalar("select count(*) from kept")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

fn pid(server: &PrivatePostgres) -> Pid {
    server.location.running().unwrap().pid
}

#[tokio::test]
async fn it_starts_is_adopted_survives_kills_and_stops() {
    let data = data();
    let server = PrivatePostgres::start(data.path()).await.unwrap();
    assert_eq!(count_kept(&server).await, 1);

    // As after a `kill -9` of berth: the handle is gone, the server goes on and is adopted.
    let first = pid(&server);
    drop(server);
    let mut server = PrivatePostgres::start(data.path()).await.unwrap();
    assert_eq!(pid(&server), first);
    assert_eq!(count_kept(&server).await, 2);

    // A killed server is started again, with what was committed.
    kill_process(first, Signal::KILL).unwrap();
    while server.is_running() {
        sleep(LOOK_AGAIN).await;
    }
    drop(server);
    let server = PrivatePostgres::start(data.path()).await.unwrap();
    assert_ne!(pid(&server), first);
    assert_eq!(count_kept(&server).await, 3);

    let found = PrivatePostgres::find_running(data.path()).unwrap().unwrap();
    found.stop().await.unwrap();
    assert!(
        PrivatePostgres::find_running(data.path())
            .unwrap()
            .is_none()
    );
    drop(server);
}

#[tokio::test]
async fn two_starts_at_once_end_with_one_server() {
    let data = data();
    let first = PrivatePostgres::start(data.path()).await.unwrap();
    first.stop().await.unwrap();
    // The second comes as if the first had been killed before its lock file was there.
    let (one, two) = tokio::join!(
        PrivatePostgres::start(data.path()),
        PrivatePostgres::start(data.path())
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(pid(&one), pid(&two));
    one.stop().await.unwrap();
}

#[tokio::test]
async fn half_made_clusters_are_cleared_away() {
    let data = data();
    let half = data.path().join("postgres.new-half");
    fs::create_dir(&half).unwrap();
    let server = PrivatePostgres::start(data.path()).await.unwrap();
    assert!(!half.exists());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_long_path_gets_a_short_socket() {
    let data = data();
    let deep = data.path().join("d".repeat(100));
    fs::create_dir(&deep).unwrap();
    let server = PrivatePostgres::start(&deep).await.unwrap();
    assert!(!server.socket.starts_with(&deep));
    assert_eq!(count_kept(&server).await, 1);
    let socket = server.socket.clone();
    server.stop().await.unwrap();
    fs::remove_dir_all(socket).unwrap();
}

#[tokio::test]
async fn a_closed_data_directory_is_left_alone() {
    if unprivileged::user().unwrap().is_none() {
        // Not root: Postgres runs as ourselves and can enter what is ours.
        return;
    }
    let data = tempfile::tempdir().unwrap();
    fs::set_permissions(data.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let server = PrivatePostgres::start(data.path()).await.unwrap();
    assert!(!server.directory().starts_with(data.path()));
    assert_eq!(count_kept(&server).await, 1);
    let elsewhere = server.directory().parent().unwrap().to_owned();
    server.stop().await.unwrap();
    fs::remove_dir_all(elsewhere).unwrap();
}

#[tokio::test]
async fn data_of_another_version_is_refused_with_the_way_out() {
    let data = data();
    fs::create_dir(data.path().join("postgres")).unwrap();
    fs::write(data.path().join("postgres/PG_VERSION"), "9\n").unwrap();
    let error = PrivatePostgres::start(data.path())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("made by Postgres 9"), "{error}");
}
