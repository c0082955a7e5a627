//! How every container and network of ours is made, decided in this one place.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Ipam,
    IpamConfig, Mount as EngineMount, MountType, NetworkCreateRequest, NetworkingConfig,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use uuid::Uuid;

use crate::launcher;
use crate::limits;
use crate::network::{self, Subnet};
use crate::redis;
use crate::runtime::{
    ContainerSpec, LABEL_DEPLOYMENT, LABEL_INSTALLATION, LABEL_PROJECT, LABEL_ROLE, Owner, Role,
};

/// User and group of everything of a project that runs in a container; the runtime images have it too.
pub const CONTAINER_USER: u32 = 10_001;

/// User and group of what installs the wheels that projects share, and owner of those: nothing of a
/// project may run as it.
pub const WHEELS_USER: u32 = 10_002;

/// The repository of the runtime images.
pub const IMAGE_PREFIX: &str = "berth/";

/// The container's name: a second attempt collides with what the first left, and replaces it.
pub fn container_name(owner: &Owner, role: Role) -> String {
    format!("berth-{}-{}", role.as_str(), owner.deployment.simple())
}

fn labels(owner: &Owner, role: Role) -> HashMap<String, String> {
    HashMap::from([
        (
            LABEL_INSTALLATION.to_owned(),
            owner.installation.to_string(),
        ),
        (LABEL_PROJECT.to_owned(), owner.project.to_string()),
        (LABEL_DEPLOYMENT.to_owned(), owner.deployment.to_string()),
        (LABEL_ROLE.to_owned(), role.as_str().to_owned()),
    ])
}

/// The whole create request of a container: every container of ours is confined here, and only
/// here. A test pins the result word for word.
pub fn create_body(spec: &ContainerSpec) -> ContainerCreateBody {
    let (program, arguments) = spec
        .command
        .split_first()
        .expect("a container spec names a program");
    ContainerCreateBody {
        image: Some(format!("{IMAGE_PREFIX}{}", spec.image)),
        // Both are set so that nothing the image declares is run.
        entrypoint: Some(vec![program.clone()]),
        cmd: Some(arguments.to_vec()),
        env: Some(
            spec.environment
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        ),
        working_dir: Some(spec.working_dir.clone()),
        user: Some(format!("{0}:{0}", user(spec.role))),
        hostname: Some(spec.role.as_str().to_owned()),
        labels: Some(labels(&spec.owner, spec.role)),
        stop_signal: Some("SIGTERM".to_owned()),
        // An image's health check would have the engine start a process every interval.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host_config(spec)),
        networking_config: found_by_name(spec),
        ..ContainerCreateBody::default()
    }
}

/// Who runs in a container.
fn user(role: Role) -> u32 {
    match role {
        Role::Step => ROOT,
        Role::Wheels => WHEELS_USER,
        Role::Instance | Role::Build | Role::Redis => CONTAINER_USER,
    }
}

/// Instances are found by the address of each; the project's Redis has a name on its network.
fn found_by_name(spec: &ContainerSpec) -> Option<NetworkingConfig> {
    let endpoint = EndpointSettings {
        aliases: Some(vec![redis::HOST.to_owned()]),
        ..EndpointSettings::default()
    };
    (spec.role == Role::Redis).then(|| NetworkingConfig {
        endpoints_config: Some(HashMap::from([(spec.network.clone(), endpoint)])),
    })
}

/// The create request of a container that is never started: only its files are looked at.
pub fn bare_body(owner: &Owner, image: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(format!("{IMAGE_PREFIX}{image}")),
        labels: Some(labels(owner, Role::Build)),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// The user of a step of a Dockerfile, inside its container.
const ROOT: u32 = 0;

/// What root in a step's container may do that any other user may not, and nothing else: package
/// managers set owners and modes of files, write where only root may, and become users of their own.
const STEP_CAPABILITIES: [&str; 5] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"];

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let bounds = &spec.bounds;
    let ulimit = |name: &str, value: i64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(value),
        hard: Some(value),
    };
    let is_step = spec.role == Role::Step;
    let mut ulimits = vec![ulimit("nofile", limits::OPEN_FILES), ulimit("core", 0)];
    if matches!(spec.role, Role::Step | Role::Build) {
        // What it writes altogether is watched; a single file ends by itself.
        ulimits.push(ulimit("fsize", limits::BUILD_FILE_BYTES));
    }
    HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: is_step.then(|| STEP_CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        // The files that a step leaves are what it is run for.
        readonly_rootfs: Some(!is_step),
        privileged: Some(false),
        tmpfs: (!is_step).then(|| tmpfs(spec)),
        shm_size: Some(limits::SHM_BYTES),
        memory: Some(bounds.memory_bytes),
        // The same figure as memory: no swap.
        memory_swap: Some(bounds.memory_bytes),
        nano_cpus: Some(bounds.cpu_millis * 1_000_000),
        pids_limit: Some(bounds.pids),
        ulimits: Some(ulimits),
        // When memory of the whole host ends, a tenant ends before the platform.
        oom_score_adj: Some(500),
        // The guard must be the first process: from any other, its output could be reached.
        init: Some(!launcher::is_guarded(&spec.command)),
        ipc_mode: Some("private".to_owned()),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "1m".to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        network_mode: Some(spec.network.clone()),
        publish_all_ports: Some(false),
        dns: (!spec.dns.is_empty()).then(|| spec.dns.iter().map(IpAddr::to_string).collect()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        mounts: Some(
            spec.mounts
                .iter()
                .map(|mount| EngineMount {
                    target: Some(mount.target.clone()),
                    source: Some(mount.source.to_string_lossy().into_owned()),
                    typ: Some(MountType::BIND),
                    read_only: Some(mount.read_only),
                    ..EngineMount::default()
                })
                .collect(),
        ),
        ..HostConfig::default()
    }
}

/// Where a container can write beside its volumes: in memory, and bounded.
fn tmpfs(spec: &ContainerSpec) -> HashMap<String, String> {
    // Source distributions are built below it, some with programs of their own.
    let programs = match spec.role {
        Role::Build => "exec",
        Role::Instance | Role::Wheels | Role::Redis | Role::Step => "noexec",
    };
    HashMap::from([
        (
            "/tmp".to_owned(),
            format!(
                "rw,{programs},nosuid,nodev,size={},mode=1777",
                spec.bounds.tmp_bytes
            ),
        ),
        (
            spec.home.to_owned(),
            format!(
                "rw,noexec,nosuid,nodev,size={},mode=0700,uid={CONTAINER_USER},gid={CONTAINER_USER}",
                limits::HOME_BYTES
            ),
        ),
    ])
}

/// The whole create request of a project's network.
pub fn network_body(installation: Uuid, project: Uuid, subnet: Subnet) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: network::network_name(project),
        driver: Some("bridge".to_owned()),
        enable_ipv6: Some(false),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(subnet.to_string()),
                ..IpamConfig::default()
            }]),
            ..Ipam::default()
        }),
        options: Some(HashMap::from([(
            "com.docker.network.bridge.name".to_owned(),
            network::bridge_name(project),
        )])),
        labels: Some(HashMap::from([
            (LABEL_INSTALLATION.to_owned(), installation.to_string()),
            (LABEL_PROJECT.to_owned(), project.to_string()),
        ])),
        ..NetworkCreateRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::limits::{Bounds, MIB};
    use crate::runtime::{HOME, Mount, OWN_IMAGE_HOME};

    fn spec(role: Role) -> ContainerSpec {
        ContainerSpec {
            owner: Owner {
                installation: Uuid::from_u128(1),
                project: Uuid::from_u128(2),
                deployment: Uuid::from_u128(3),
            },
            role,
            image: "python:3.11".into(),
            command: [
                &launcher::GUARDED[..],
                &["/env/bin/python", "/berth/serve.py"],
            ]
            .concat()
            .into_iter()
            .map(String::from)
            .collect(),
            environment: BTreeMap::from([("PORT".into(), "8080".into())]),
            working_dir: "/app".into(),
            home: HOME,
            mounts: vec![Mount {
                source: PathBuf::from("/data/x"),
                target: "/app".into(),
                read_only: true,
            }],
            network: "net".into(),
            dns: vec!["192.0.2.53".parse().unwrap()],
            bounds: Bounds {
                memory_bytes: 256 * MIB,
                cpu_millis: 500,
                pids: 128,
                tmp_bytes: 64 * MIB,
            },
        }
    }

    /// Every word of this is a promise: whoever changes it says why in the change.
    #[test]
    fn an_instance_is_confined_like_this() {
        let body = serde_json::to_value(create_body(&spec(Role::Instance))).unwrap();
        let expected = json!({
            "Image": "berth/python:3.11",
            "Entrypoint": ["/usr/bin/python3"],
            "Cmd": [
                "-IS",
                "/berth/berth_launcher/guard.py",
                "/env/bin/python",
                "/berth/serve.py",
            ],
            "Env": ["PORT=8080"],
            "WorkingDir": "/app",
            "User": "10001:10001",
            "Hostname": "instance",
            "Labels": {
                "berth.installation": "00000000-0000-0000-0000-000000000001",
                "berth.project": "00000000-0000-0000-0000-000000000002",
                "berth.deployment": "00000000-0000-0000-0000-000000000003",
                "berth.role": "instance",
            },
            "StopSignal": "SIGTERM",
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "ReadonlyRootfs": true,
                "Privileged": false,
                "Tmpfs": {
                    "/tmp": "rw,noexec,nosuid,nodev,size=67108864,mode=1777",
                    "/home/app":
                        "rw,noexec,nosuid,nodev,size=67108864,mode=0700,uid=10001,gid=10001",
                },
                "ShmSize": 16_777_216,
                "Memory": 268_435_456,
                "MemorySwap": 268_435_456,
                "NanoCpus": 500_000_000,
                "PidsLimit": 128,
                "Ulimits": [
                    {"Name": "nofile", "Soft": 4096, "Hard": 4096},
                    {"Name": "core", "Soft": 0, "Hard": 0},
                ],
                "OomScoreAdj": 500,
                "Init": false,
                "IpcMode": "private",
                "LogConfig": {"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}},
                "NetworkMode": "net",
                "PublishAllPorts": false,
                "Dns": ["192.0.2.53"],
                "RestartPolicy": {"Name": "no"},
                "AutoRemove": false,
                "Mounts": [
                    {"Type": "bind", "Source": "/data/x", "Target": "/app", "ReadOnly": true},
                ],
            },
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_build_may_run_what_it_unpacks_and_writes_no_endless_file_and_differs_in_nothing_else() {
        let mut build = serde_json::to_value(create_body(&spec(Role::Build))).unwrap();
        let mut instance = serde_json::to_value(create_body(&spec(Role::Instance))).unwrap();
        assert_eq!(
            build["HostConfig"]["Tmpfs"]["/tmp"],
            "rw,exec,nosuid,nodev,size=67108864,mode=1777"
        );
        let limits = build["HostConfig"]["Ulimits"].as_array_mut().unwrap();
        let largest = limits.pop().unwrap();
        assert_eq!(
            largest,
            json!({"Name": "fsize", "Soft": 4_294_967_296_u64, "Hard": 4_294_967_296_u64})
        );
        for body in [&mut build, &mut instance] {
            body["HostConfig"]["Tmpfs"]["/tmp"].take();
            body["Labels"]["berth.role"].take();
            body["Hostname"].take();
        }
        assert_eq!(build, instance);
    }

    /// Every word of this is a promise too.
    #[test]
    fn a_step_of_a_dockerfile_is_root_with_five_capabilities_in_files_of_its_own() {
        let mut step = serde_json::to_value(create_body(&spec(Role::Step))).unwrap();
        let mut build = serde_json::to_value(create_body(&spec(Role::Build))).unwrap();
        assert_eq!(step["User"], "0:0");
        let host = &step["HostConfig"];
        assert_eq!(host["CapDrop"], json!(["ALL"]));
        assert_eq!(
            host["CapAdd"],
            json!(["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"])
        );
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
        assert_eq!(host["ReadonlyRootfs"], false);
        assert!(host["Tmpfs"].is_null());
        assert_eq!(
            host["Ulimits"],
            json!([
                {"Name": "nofile", "Soft": 4096, "Hard": 4096},
                {"Name": "core", "Soft": 0, "Hard": 0},
                {"Name": "fsize", "Soft": 4_294_967_296_u64, "Hard": 4_294_967_296_u64},
            ])
        );
        for body in [&mut step, &mut build] {
            body["Labels"]["berth.role"].take();
            for name in ["Hostname", "User"] {
                body[name].take();
            }
            let host = body["HostConfig"].as_object_mut().unwrap();
            for name in ["CapAdd", "ReadonlyRootfs", "Tmpfs", "Ulimits"] {
                host.remove(name);
            }
        }
        assert_eq!(step, build, "everything else is a build's");
    }

    #[test]
    fn an_instance_of_an_own_image_differs_only_in_its_home() {
        let own = ContainerSpec {
            home: OWN_IMAGE_HOME,
            ..spec(Role::Instance)
        };
        let mut own = serde_json::to_value(create_body(&own)).unwrap();
        let mut instance = serde_json::to_value(create_body(&spec(Role::Instance))).unwrap();
        let tmpfs = own["HostConfig"]["Tmpfs"].as_object_mut().unwrap();
        let home = tmpfs.remove(OWN_IMAGE_HOME).unwrap();
        let tmpfs = instance["HostConfig"]["Tmpfs"].as_object_mut().unwrap();
        assert_eq!(tmpfs.remove(HOME).unwrap(), home);
        assert_eq!(own, instance);
    }

    #[test]
    fn what_installs_shared_wheels_differs_only_in_its_user() {
        let mut wheels = serde_json::to_value(create_body(&spec(Role::Wheels))).unwrap();
        let mut instance = serde_json::to_value(create_body(&spec(Role::Instance))).unwrap();
        assert_eq!(wheels["User"].take(), "10002:10002");
        assert_eq!(instance["User"].take(), "10001:10001");
        for body in [&mut wheels, &mut instance] {
            body["Labels"]["berth.role"].take();
            body["Hostname"].take();
        }
        assert_eq!(wheels, instance);
    }

    #[test]
    fn a_redis_is_an_instance_with_a_name_on_its_network() {
        let mut redis = serde_json::to_value(create_body(&spec(Role::Redis))).unwrap();
        let mut instance = serde_json::to_value(create_body(&spec(Role::Instance))).unwrap();
        assert_eq!(
            redis["NetworkingConfig"].take(),
            json!({"EndpointsConfig": {"net": {"Aliases": ["redis"]}}})
        );
        for body in [&mut redis, &mut instance] {
            body.as_object_mut().unwrap().remove("NetworkingConfig");
            body["Labels"]["berth.role"].take();
            body["Hostname"].take();
        }
        assert_eq!(redis, instance);
    }

    #[test]
    fn a_network_is_a_bridge_of_its_own() {
        let body = network_body(
            Uuid::from_u128(1),
            Uuid::from_u128(2),
            "10.0.0.16/28".parse().unwrap(),
        );
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            json!({
                "Name": "berth-000000000002",
                "Driver": "bridge",
                "EnableIPv6": false,
                "IPAM": {"Config": [{"Subnet": "10.0.0.16/28"}]},
                "Options": {"com.docker.network.bridge.name": "bth000000000002"},
                "Labels": {
                    "berth.installation": "00000000-0000-0000-0000-000000000001",
                    "berth.project": "00000000-0000-0000-0000-000000000002",
                },
            })
        );
    }
}
