//! A Dockerfile through the loop: what its steps and its instance are given, and what is kept.

use serde_json::Value;

use super::*;
use crate::build::dockerfile::steps;
use crate::protocol::{Variable, VariableValue};
use crate::runtime::{ContainerSpec, OWN_IMAGE_HOME};
use crate::store;

const DOCKERFILE: &str = "FROM python:3.11-slim AS made
RUN --mount=type=bind,source=list.txt,target=/list.txt make
FROM python:3.11-slim
ENV LEVEL=high LD_PRELOAD=/evil.so
COPY --from=made /out /out
COPY main.py /srv/
CMD [\"serve\"]
";

fn files(main: &str) -> [(&'static str, String); 3] {
    [
        ("Dockerfile", DOCKERFILE.to_owned()),
        ("main.py", main.to_owned()),
        ("list.txt", "x".to_owned()),
    ]
}

fn add(archives: &mut Archives, main: &str) -> Source {
    let files = files(main);
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    archives.add(&files)
}

fn by_dockerfile(deployment: Uuid, source: Source) -> DeploymentSpec {
    DeploymentSpec {
        build: BuildSettings {
            dockerfile: Some("Dockerfile".to_owned()),
            ..BuildSettings::default()
        },
        ..spec(deployment, source, Goal::Run)
    }
}

fn kinds(steps: &[(ContainerSpec, Value)]) -> Vec<&str> {
    let kinds = steps.iter().map(|(_, plan)| plan["kind"].as_str().unwrap());
    kinds.collect()
}

#[tokio::test]
async fn steps_are_done_once_and_again_where_something_changed() {
    let mut archives = Archives::default();
    let (one, two) = (add(&mut archives, "one"), add(&mut archives, "two"));
    let bench = Bench::new(archives);
    let mut runner = bench.run();
    runner.want(&[by_dockerfile(A, one.clone())]);
    let report = runner.reaches(A, Phase::Healthy).await;
    assert_eq!(report.plan.unwrap().dependencies, "Dockerfile");
    // The runtime, RUN, what is taken of it, the two copies, and what is opened at the end.
    let first = bench.runtime.steps();
    assert_eq!(
        kinds(&first),
        ["run", "run", "pack", "copy", "copy", "open"]
    );
    assert_eq!(first[1].1["binds"][0]["target"], "/list.txt");
    assert_eq!(first[4].1["to"], "/srv/");
    // Another version of a file: its copy and what follows.
    runner.want(&[by_dockerfile(A, one.clone()), by_dockerfile(B, two)]);
    runner.reaches(B, Phase::Healthy).await;
    assert_eq!(kinds(&bench.runtime.steps()[6..]), ["copy", "open"]);
    // Another project, with the very same.
    let other = DeploymentSpec {
        project: Uuid::from_u128(77),
        ..by_dockerfile(Uuid::from_u128(78), one)
    };
    runner.want(&[other]);
    runner.reaches(Uuid::from_u128(78), Phase::Healthy).await;
    assert_eq!(bench.runtime.steps().len(), 6 + 2 + 6);
    runner.end().await;
}

#[tokio::test]
async fn a_step_is_given_nothing_that_would_stay_in_the_image() {
    const VALUE: &str = "value-of-a-build";
    let mut archives = Archives::default();
    let source = add(&mut archives, "one");
    let bench = Bench::new(archives);
    let mut runner = bench.run();
    let variable = |name: &str, value: &str| Variable {
        name: name.to_owned(),
        value: VariableValue::Plain(value.to_owned()),
    };
    runner.want(&[DeploymentSpec {
        build_variables: vec![variable("TOKEN", VALUE)],
        variables: vec![variable("KEY", "value-of-an-instance")],
        ..by_dockerfile(A, source)
    }]);
    runner.reaches(A, Phase::Healthy).await;
    for (spec, plan) in bench.runtime.steps() {
        assert!(spec.environment.is_empty());
        assert_eq!(spec.role, Role::Step);
        let given = plan.to_string();
        assert!(!given.contains(VALUE) && !given.contains("value-of-an-instance"));
        let has_file = spec
            .mounts
            .iter()
            .any(|mount| mount.target.ends_with("build-variables.json"));
        // The platform's own step, and those that run nothing of the project, have none.
        assert_eq!(has_file, plan["command"][2] == "make", "{plan}");
        let writable = spec.mounts.iter().filter(|mount| !mount.read_only);
        let targets: Vec<&str> = writable.map(|mount| mount.target.as_str()).collect();
        let expected: &[&str] = if plan["kind"] == "pack" {
            &["/out"]
        } else {
            &[]
        };
        assert_eq!(targets, expected);
    }
    runner.end().await;
}

#[tokio::test]
async fn an_instance_of_it_has_only_what_the_image_has() {
    let mut archives = Archives::default();
    let source = add(&mut archives, "one");
    let bench = Bench::new(archives);
    let mut runner = bench.run();
    runner.want(&[by_dockerfile(A, source)]);
    runner.reaches(A, Phase::Healthy).await;
    let instance = bench.runtime.instance();
    let mut targets: Vec<&str> = instance.mounts.iter().map(|m| m.target.as_str()).collect();
    targets.sort_unstable();
    assert_eq!(
        targets,
        ["/data", "/run/berth/variables.json", "/run/bridge"]
    );
    assert_eq!(instance.home, OWN_IMAGE_HOME);
    assert_eq!(instance.environment["HOME"], OWN_IMAGE_HOME);
    assert!(!instance.environment.contains_key("LD_PRELOAD"));
    assert!(crate::launcher::is_guarded(&instance.command));
    assert!(!instance.command.iter().any(|word| word.contains("python")));
    let file = instance
        .mounts
        .iter()
        .find(|m| m.target.ends_with("variables.json"));
    let variables = std::fs::read_to_string(&file.unwrap().source).unwrap();
    assert!(variables.contains("\"LEVEL\":\"high\""), "{variables}");
    runner.end().await;
}

#[tokio::test]
async fn what_grows_too_large_is_ended() {
    let mut archives = Archives::default();
    let source = add(&mut archives, "one");
    let bench = Bench::new(archives);
    bench.runtime.writes(crate::limits::IMAGE_BYTES + 1);
    let mut runner = bench.run();
    runner.want(&[by_dockerfile(A, source)]);
    let found = runner.reaches(A, Phase::Failed).await.diagnosis.unwrap();
    assert_eq!(found.code, "build_disk_full");
    assert!(found.cause.contains("4096 MiB"), "{}", found.cause);
    assert!(
        bench.runtime.images_made().is_empty(),
        "nothing of it is kept"
    );
    runner.end().await;
}

#[tokio::test]
async fn a_link_in_place_of_packed_files_reaches_no_file_of_the_host() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut archives = Archives::default();
    let source = add(&mut archives, "one");
    let bench = Bench::new(archives);
    let secret = tempfile::NamedTempFile::new().unwrap();
    bench.runtime.packs_link(secret.path().to_owned());
    let mut runner = bench.run();
    runner.want(&[by_dockerfile(A, source)]);
    let found = runner.reaches(A, Phase::Failed).await.diagnosis.unwrap();
    assert_eq!(found.code, "platform_failure");
    let steps = bench.runtime.steps();
    assert_eq!(kinds(&steps), ["run", "run", "pack"], "nothing is mounted");
    let mode = secret.path().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    runner.end().await;
}

#[tokio::test]
async fn a_base_that_may_be_pulled_and_cannot_says_so() {
    let mut archives = Archives::default();
    let source = archives.add(&[("Dockerfile", "FROM alpine:3\nRUN x\n")]);
    let mut bench = Bench::new(archives);
    bench.pull_images = vec!["alpine:*".to_owned()];
    let mut runner = bench.run();
    runner.want(&[by_dockerfile(A, source)]);
    let found = runner.reaches(A, Phase::Failed).await.diagnosis.unwrap();
    assert_eq!(found.code, "base_image_unavailable");
    assert!(
        found.cause.contains("could not be pulled"),
        "{}",
        found.cause
    );
    runner.end().await;
}

#[tokio::test]
async fn an_image_goes_with_its_entry() {
    let mut archives = Archives::default();
    let source = add(&mut archives, "one");
    let bench = Bench::new(archives);
    let mut runner = bench.run();
    runner.want(&[by_dockerfile(A, source)]);
    runner.reaches(A, Phase::Healthy).await;
    let made = bench.runtime.images_made();
    assert_eq!(made.len(), 5);
    let directory = &runner.agent.directory;
    let used = runner.agent.in_use().unwrap();
    // Long unused: all but the one that the instance runs in.
    for entry in std::fs::read_dir(directory.join("steps")).unwrap() {
        let entry = std::fs::File::open(entry.unwrap().path()).unwrap();
        entry
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    }
    store::clean(directory, &used).unwrap();
    steps::clean(directory, &bench.runtime, bench.installation).await;
    assert_eq!(
        bench.runtime.images_made(),
        [bench.runtime.instance().image]
    );
    runner.end().await;
}
