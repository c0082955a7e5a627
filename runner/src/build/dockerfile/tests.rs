use super::*;

fn planned(dockerfile: &str, settings: &BuildSettings) -> Result<DockerfilePlan, Diagnosis> {
    let images = ["python:3.11", "node:22"].map(str::to_owned);
    let files = [
        ("Dockerfile", dockerfile),
        ("server.py", "x"),
        (".env", "KEY=1"),
    ];
    let view = FileTree::from_files(files);
    let asked = Asked {
        root: "",
        view: &view,
        settings,
        offer: Offer {
            images: &images,
            pull: &[],
        },
        halt: &Halt::default(),
    };
    plan(&asked, "Dockerfile", "Because.".to_owned())
}

fn plan_of(rest: &str) -> DockerfilePlan {
    planned(
        &format!("FROM python:3.11-slim\n{rest}"),
        &BuildSettings::default(),
    )
    .expect("a plan")
}

fn started(rest: &str) -> (Vec<String>, u16) {
    let plan = plan_of(rest);
    let config = &plan.stages.all.last().unwrap().config;
    let start = start_command("Dockerfile", config, &plan.settings).unwrap();
    (start.command, port(config))
}

#[test]
fn the_plan_says_what_was_chosen() {
    let plan = plan_of("COPY server.py .\nUSER nobody\nVOLUME /data\nLABEL a=b\nEXPOSE 9000\nCMD [\"python\", \"server.py\"]\n").plan;
    assert_eq!(
        (plan.runtime.as_str(), plan.dependencies.as_str()),
        ("python:3.11", "Dockerfile")
    );
    assert_eq!(plan.reasons[0], "Because.");
    let all = plan.reasons.join("\n");
    for part in [
        "python:3.11-slim is answered by this platform's own python:3.11.",
        "Without effect on the instance: LABEL, USER, VOLUME.",
        "port 9000: EXPOSE says so",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
}

#[test]
fn what_is_started_is_entrypoint_and_command() {
    assert_eq!(started("CMD [\"a\", \"b c\"]").0, ["a", "b c"]);
    assert_eq!(started("ENTRYPOINT [\"a\"]\nCMD [\"b\"]").0, ["a", "b"]);
    assert_eq!(started("CMD [\"b\"]\nENTRYPOINT [\"a\"]").0, ["a"]);
    assert_eq!(
        started("CMD a --port $PORT").0,
        ["/bin/sh", "-c", "a --port $PORT"]
    );
    assert_eq!(
        started("SHELL [\"/bin/bash\", \"-c\"]\nCMD a").0,
        ["/bin/bash", "-c", "a"]
    );
}

#[test]
fn the_port_is_what_the_image_says() {
    assert_eq!(started("CMD a").1, 8080);
    assert_eq!(started("EXPOSE 8000\nCMD a").1, 8000);
    assert_eq!(started("EXPOSE 8000/tcp 53/udp\nCMD a").1, 8000);
    assert_eq!(started("EXPOSE 8000 9000\nCMD a").1, 8080);
    assert_eq!(started("EXPOSE 8000\nENV PORT=9000\nCMD a").1, 9000);
    assert_eq!(started("ARG P=7000\nEXPOSE $P\nCMD a").1, 7000);
    assert_eq!(started("EXPOSE 0\nENV PORT=x\nCMD a").1, 8080);
}

#[test]
fn a_start_command_comes_before_cmd() {
    let settings = BuildSettings {
        start_command: ["serve", "--port", "$PORT"].map(str::to_owned).to_vec(),
        ..BuildSettings::default()
    };
    let plan = planned("FROM python:3.11\nEXPOSE 9000\n", &settings).expect("it needs no CMD");
    let config = &plan.stages.all.last().unwrap().config;
    let start = start_command("Dockerfile", config, &settings).unwrap();
    assert_eq!(start.command, ["serve", "--port", "9000"]);
    for rest in ["", "CMD []\n", "ENTRYPOINT []\n"] {
        let found = planned(
            &format!("FROM python:3.11\n{rest}"),
            &BuildSettings::default(),
        );
        assert_eq!(
            found.unwrap_err().code,
            "dockerfile_nothing_to_start",
            "{rest}"
        );
    }
}

#[test]
fn settings_of_other_builds_are_refused() {
    for settings in [
        BuildSettings {
            dependency_file: Some("requirements.txt".into()),
            ..BuildSettings::default()
        },
        BuildSettings {
            build_command: vec!["make".into()],
            ..BuildSettings::default()
        },
        BuildSettings {
            system_packages: vec!["jq".into()],
            ..BuildSettings::default()
        },
    ] {
        let found = planned("FROM python:3.11\nCMD a\n", &settings).unwrap_err();
        assert_eq!(found.code, "configuration_invalid");
    }
}

#[test]
fn the_environment_of_the_server_is_env_without_what_the_platform_decides() {
    let plan = plan_of(
        "ENV A=1 PORT=9000 HOST=127.0.0.1 HOME=/x LD_PRELOAD=/evil.so\nENV PATH=/opt/bin:$PATH\nCMD a\n",
    );
    let found = environment(&plan.stages.all.last().unwrap().config);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["A", "LD_PRELOAD", "PATH"]);
    assert!(
        found["PATH"].starts_with("/opt/bin:/usr/local/"),
        "{found:?}"
    );
}
