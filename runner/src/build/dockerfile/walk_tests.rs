use super::super::parse::parse;
use super::super::stages::{Copy, From, Run};
use super::*;
use crate::build::tree::FileTree;

const IMAGES: [&str; 2] = ["python:3.11", "node:22"];

fn stages(text: &str) -> Result<Stages, Diagnosis> {
    stages_unless(text, &Halt::default())
}

fn stages_unless(text: &str, halt: &Halt) -> Result<Stages, Diagnosis> {
    let images = IMAGES.map(str::to_owned);
    let tree = FileTree::from_files([
        ("requirements.txt", "fastmcp"),
        ("src/server.py", "x"),
        ("secret.key", "x"),
        (".dockerignore", "*.key\n"),
    ]);
    let context = Context::new(&tree, "Dockerfile", &Halt::default()).unwrap();
    let offer = Offer {
        images: &images,
        pull: &[],
    };
    let parsed = parse("Dockerfile", text)?;
    interpret("Dockerfile", &parsed, &context, &offer, &Known::new(), halt)
}

fn names(stage: &Stage) -> Vec<String> {
    match &copy_of(stage).from {
        From::Context(selected) => selected.iter().map(|found| found.name.clone()).collect(),
        From::Image(..) => panic!("it is of the source"),
    }
}

#[test]
fn what_is_named_again_is_copied_once_at_its_last_place() {
    let many = format!(
        "COPY src/server.py{} /d/",
        " src/server.py ./src/server.py".repeat(5_000)
    );
    assert_eq!(names(&stage(&many)), ["server.py"]);
    let found = stage("COPY src/server.py requirements.txt s*/s*.py /d/");
    assert_eq!(names(&found), ["requirements.txt", "server.py"]);
    let documents = stage("COPY <<A <<A /d/\none\nA\ntwo\nA");
    assert_eq!(names(&documents), ["A", "A"]);
}

#[test]
fn what_is_taken_of_a_source_has_bounds() {
    let text = "x".repeat(60 * 1024);
    // Each document names it more often than one may hold.
    let grows = format!("ENV A={text}\nCOPY <<B /b\n{}\nB", "$A".repeat(18));
    let found = refusal(&grows);
    assert!(
        found.cause.contains("more than 1024 KiB"),
        "{}",
        found.cause
    );
    let copy = format!("COPY{} /d/\n", " <<B".repeat(100));
    let documents = format!("{}\nB\n", "$A".repeat(15)).repeat(100);
    let found = refusal(&format!("ENV A={text}\n{copy}{documents}"));
    assert!(found.cause.contains("too many times"), "{}", found.cause);
}

#[test]
fn variables_have_bounds_together() {
    let text = "x".repeat(60 * 1024);
    let long = |many: usize| {
        let names: Vec<String> = (1..=many).map(|number| format!("A{number}=$A")).collect();
        format!("ENV A={text}\nENV {}\nRUN x", names.join(" "))
    };
    assert!(stages(&format!("FROM python:3.11\n{}", long(3))).is_ok());
    let found = refusal(&long(4));
    assert_eq!(found.code, "dockerfile_invalid");
    assert!(found.cause.contains("256 KiB together"), "{}", found.cause);
}

#[test]
fn a_build_that_has_ended_is_not_read_on() {
    let halt = Halt::default();
    halt.set();
    let found = stages_unless("FROM python:3.11\n", &halt).unwrap_err();
    assert!(found.cause.contains("has ended"), "{}", found.cause);
}

fn stage(rest: &str) -> Stage {
    let mut found = stages(&format!("FROM python:3.11\n{rest}")).expect("it is good");
    found.all.pop().unwrap()
}

fn refusal(rest: &str) -> Diagnosis {
    stages(&format!("FROM python:3.11\n{rest}")).expect_err(rest)
}

fn run_of(stage: &Stage) -> &Run {
    match &stage.steps.last().expect("a step").work {
        Work::Run(run) => run,
        Work::Copy(_) => panic!("it is a RUN"),
    }
}

fn copy_of(stage: &Stage) -> &Copy {
    match &stage.steps.last().expect("a step").work {
        Work::Copy(copy) => copy,
        Work::Run(_) => panic!("it is a COPY"),
    }
}

#[test]
fn variables_have_their_scopes() {
    let text = "ARG VERSION=3.11\nARG NAME\nFROM python:${VERSION}-slim AS base\nARG VERSION\nARG LEVEL=1 UNSET\nENV A=$VERSION B=\"x $LEVEL\" C=${NAME:-none}\nENV OLD form $A\nRUN x\nFROM base\nRUN y\n";
    let found = stages(text).unwrap();
    let first = run_of(&found.all[0]);
    let value = |name: &str| first.environment.get(name).map(String::as_str);
    assert_eq!(
        (
            value("A"),
            value("B"),
            value("C"),
            value("OLD"),
            value("UNSET")
        ),
        (
            Some("3.11"),
            Some("x 1"),
            Some("none"),
            Some("form 3.11"),
            None
        )
    );
    let second = run_of(&found.all[1]);
    assert_eq!(second.environment["A"], "3.11");
    assert!(
        !second.environment.contains_key("LEVEL"),
        "an ARG ends with its stage"
    );
    assert_eq!(found.all[1].base, Base::Stage(0));
    // Names of one line do not see each other.
    let stage = stage("ENV A=1\nENV A=2 B=$A\nRUN x\n");
    assert_eq!(run_of(&stage).environment["B"], "1");
}

#[test]
fn commands_run_as_they_are_written() {
    let found = stage("WORKDIR /app\nWORKDIR src\nUSER app:staff\nRUN echo \"$A\" && x\n");
    let run = run_of(&found);
    assert_eq!(run.command, ["/bin/sh", "-c", "echo \"$A\" && x"]);
    assert_eq!(
        (run.working_dir.as_str(), run.user.as_deref()),
        ("/app/src", Some("app:staff"))
    );
    assert_eq!(run_of(&stage("RUN [\"a\", \"$B\"]\n")).command, ["a", "$B"]);
    let shell = stage("SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN a | b\n");
    assert_eq!(
        run_of(&shell).command,
        ["/bin/bash", "-o", "pipefail", "-c", "a | b"]
    );
    let document = stage("RUN <<EOF\na\nb $X\nEOF\n");
    assert_eq!(run_of(&document).command[2], "a\nb $X\n");
    let read = stage("RUN python3 - <<'EOF'\nprint(1)\nEOF\n");
    assert_eq!(run_of(&read).command[2], "python3 - <<'EOF'\nprint(1)\nEOF");
    let script = stage("RUN <<EOF\n#!/usr/bin/env bash\nset -e\nEOF\n");
    assert_eq!(run_of(&script).command[..3], ["/usr/bin/env", "bash", "-c"]);
}

#[test]
fn destinations_are_absolute_and_stay_in_the_image() {
    for (written, to) in [
        ("COPY src .", "/app/"),
        ("COPY src ./", "/app/"),
        ("COPY src lib", "/app/lib"),
        ("COPY src /opt/x/", "/opt/x/"),
        ("COPY src requirements.txt /opt", "/opt/"),
        ("COPY src ../../../../etc/x", "/etc/x"),
        ("COPY [\"src\", \"with space\"]", "/app/with space"),
        ("ADD src /x", "/x"),
    ] {
        let stage = stage(&format!("WORKDIR /app\n{written}\n"));
        assert_eq!(copy_of(&stage).to, to, "{written}");
    }
    let owned = stage("ARG U=app\nCOPY --chown=$U:staff --chmod=0755 --link src /x\n");
    let copy = copy_of(&owned);
    assert_eq!(
        (copy.owner.as_deref(), copy.mode),
        (Some("app:staff"), Some(0o755))
    );
    // No set-user-id program comes by a copy.
    assert_eq!(
        copy_of(&stage("COPY --chmod=4755 src /x\n")).mode,
        Some(0o755)
    );
    let text = stage("ENV A=1\nCOPY <<EOF <<'B' /x/\n$A \"q\"\nEOF\n$A\nB\n");
    let From::Context(sources) = &copy_of(&text).from else {
        panic!("texts are the context's");
    };
    let texts: Vec<&str> = sources.iter().map(|source| source.text.as_str()).collect();
    assert_eq!(texts, ["1 \"q\"\n", "$A\n"]);
}

#[test]
fn what_is_not_in_the_source_is_not_copied() {
    for (line, part) in [
        ("COPY gone.txt /x", "which is not in the source"),
        ("COPY secret.key /x", ".dockerignore leaves out"),
        ("COPY ../../etc/passwd /x", "outside of the source"),
        ("COPY /etc/passwd /x", "which is not in the source"),
        ("COPY src/../../x /x", "outside of the source"),
        ("ADD gone /x", "which is not in the source"),
        (
            "RUN --mount=type=bind,source=gone,target=gone x",
            "which is not in the source",
        ),
    ] {
        let found = refusal(&format!("# one\n{line}\n"));
        assert_eq!(found.code, "copy_source_missing", "{line}");
        assert!(found.cause.contains(part), "{line}: {}", found.cause);
        assert_eq!(found.location.as_deref(), Some("Dockerfile:3"));
    }
}

#[test]
fn what_would_need_the_hosts_builder_is_refused_with_a_next_step() {
    for (line, fix) in [
        ("ADD https://example.com/x /x", "RUN curl"),
        ("ADD git@github.com:a/b /x", "RUN curl"),
        ("ADD src.tar.gz /x", "RUN tar"),
        (
            "RUN --mount=type=secret,id=x cat /run/secrets/x",
            "berth env",
        ),
        ("RUN --mount=type=ssh git clone x", "berth env"),
        (
            "RUN --mount=type=bind,from=node:22,source=/x,target=/x y",
            "COPY --from",
        ),
        ("RUN --network=host x", "Remove --network"),
        ("RUN --security=insecure x", "Remove --security"),
        ("RUN --device=x y", "Remove --device"),
        ("COPY --exclude=*.py src /x", "Remove --exclude"),
        ("ADD --checksum=x src /x", "Remove --checksum"),
        ("NONSENSE x", "Correct its name"),
        ("COPY src", "COPY file"),
        ("COPY --chmod=u+x src /x", "--chmod=755"),
        ("RUN", "Name one"),
        ("SHELL /bin/bash", "SHELL ["),
        ("FROM", "FROM python"),
        ("FROM a b", "FROM python"),
        ("ENV A=1 B", "Quote"),
        ("ENV A=${X//a/b}", "Correct"),
    ] {
        let found = refusal(&format!("{line}\n"));
        assert_eq!(found.code, "dockerfile_invalid", "{line}");
        assert!(found.fix.contains(fix), "{line}: {}", found.fix);
        assert_eq!(found.location.as_deref(), Some("Dockerfile:2"), "{line}");
    }
    for text in ["", "# only\n", "RUN x\nFROM python:3.11\n", "ARG A=1\n"] {
        assert_eq!(
            stages(text).unwrap_err().code,
            "dockerfile_invalid",
            "{text}"
        );
    }
}

#[test]
fn settings_of_an_image_are_accepted_and_without_effect() {
    let with = "VOLUME [\"/data\", \"/app\"]\nHEALTHCHECK --interval=1s CMD curl x\nSTOPSIGNAL SIGSTOP\nUSER 0\nLABEL berth.installation=x\nMAINTAINER me\nONBUILD RUN rm -rf /\nRUN x\n";
    let found = stages(&format!("FROM python:3.11\n{with}")).unwrap();
    let stage = &found.all[0];
    assert_eq!(stage.steps.len(), 1, "only RUN does something");
    assert_eq!(
        found.says.last().unwrap(),
        "Without effect on the instance: HEALTHCHECK, LABEL, MAINTAINER, ONBUILD, STOPSIGNAL, USER, VOLUME. How it is run, checked and stopped is the platform's."
    );
}

#[test]
fn only_the_stages_that_are_needed_are_made() {
    let text = "FROM python:3.11 AS One\nRUN a\nFROM node:22 AS unused\nRUN b\nFROM python:3.11 AS two\nCOPY --from=one /x /y\nFROM python:3.11\nCOPY --from=2 /a /b\n";
    let found = stages(text).unwrap();
    assert_eq!(found.needed, BTreeSet::from([0, 2, 3]));
    // A stage sees those before it, not itself and none that follows.
    let own = stages("FROM python:3.11 AS me\nCOPY --from=me /a /b\n").unwrap_err();
    assert_eq!(own.code, "base_image_unavailable");
}

#[test]
fn uv_comes_from_the_platforms_runtime() {
    let found =
        stages("FROM python:3.11-slim\nCOPY --from=ghcr.io/astral-sh/uv:latest /uv /uvx /bin/\n")
            .unwrap();
    let From::Image(base, paths) = &copy_of(&found.all[0]).from else {
        panic!("it is another image's");
    };
    assert_eq!(*base, Base::Runtime("python:3.11".into()));
    assert_eq!(paths, &["/usr/local/bin/uv", "/usr/local/bin/uvx"]);
    assert!(
        found
            .says
            .iter()
            .any(|says| says.contains("the uv of this platform's own runtime"))
    );
    // A mount of it is not needed, since it is there.
    let mounted = stages("FROM python:3.11-slim\nRUN --mount=from=ghcr.io/astral-sh/uv,source=/uv,target=/bin/uv uv sync\n").unwrap();
    assert!(run_of(&mounted.all[0]).mounts.binds.is_empty());
    // Where it is a stage of its own, it is refused: uv's bare image holds nothing to run with.
    let bare = stages("FROM ghcr.io/astral-sh/uv:0.5 AS uv\nFROM python:3.11\n").unwrap_err();
    assert_eq!(bare.code, "base_image_unavailable");
}

#[test]
fn many_steps_are_refused() {
    let many = "RUN x\n".repeat(MAX_STEPS);
    assert!(stages(&format!("FROM python:3.11\n{many}")).is_ok());
    let stacked = format!("FROM python:3.11 AS a\n{many}FROM a\nRUN y\n");
    assert_eq!(stages(&stacked).unwrap_err().code, "dockerfile_invalid");
}

#[test]
fn a_context_bind_is_found() {
    let found = stage(
        "WORKDIR /app\nRUN --mount=type=cache,target=/c --mount=type=bind,source=requirements.txt,target=r.txt pip\n",
    );
    let run = run_of(&found);
    assert_eq!(run.mounts.scratch, ["/c"]);
    assert_eq!(run.mounts.binds[0].target, "/app/r.txt");
}
