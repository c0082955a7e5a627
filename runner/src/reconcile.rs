//! Desired − observed → actions. Pure: it looks at no clock, no engine and no disk, and it may be
//! asked at any time, because what it finds in progress it leaves in progress.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use uuid::Uuid;

use crate::protocol::{DeploymentSpec, Goal, Phase};
use crate::runtime::{Container, Network, Role, State};

/// What the runner is doing about a deployment at the moment. One thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Fetching, planning, installing.
    Build,
    /// Starting an instance and checking it; or checking one that was found.
    Start,
    /// Stopping the instance and removing it.
    Stop,
}

/// What the runner knows of one deployment beside its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Its project; known as soon as anything is.
    pub project: Uuid,
    /// What it last reported.
    pub phase: Option<Phase>,
    /// Whether its source and environment are there.
    pub built: bool,
    /// Whether it was healthy before: its instance is then brought back, not given up.
    pub was_live: bool,
    /// Where its running instance was checked by this process.
    pub checked: Option<IpAddr>,
    /// What is being done about it.
    pub work: Option<Work>,
}

/// Everything the runner sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The deployments it knows.
    pub deployments: BTreeMap<Uuid, Seen>,
    /// The containers of this installation.
    pub containers: Vec<Container>,
    /// The networks of this installation.
    pub networks: Vec<Network>,
    /// The projects of which persistent files are there.
    pub volumes: BTreeSet<Uuid>,
    /// The projects whose Redis is being started or stopped.
    pub redis_work: BTreeSet<Uuid>,
}

/// One step towards what is desired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Fetch the source, plan, and see to the environment.
    StartBuild(Uuid),
    /// Take over what was built for another deployment.
    ReuseBuild {
        /// The deployment.
        deployment: Uuid,
        /// The one it was built for.
        from: Uuid,
    },
    /// Start an instance of what is built, and check it.
    StartInstance(Uuid),
    /// An instance that was live is gone: start it again, after a while.
    RestartInstance(Uuid),
    /// A running instance was found: check it, and take it over.
    AdoptInstance {
        /// The deployment.
        deployment: Uuid,
        /// The engine's name for the instance.
        container: String,
    },
    /// Stop the instance gracefully and remove it.
    StopInstance(Container),
    /// Call off what is being done.
    Cancel(Uuid),
    /// Nothing of it is left: report it stopped.
    MarkStopped(Uuid),
    /// Remove a container nobody wants.
    RemoveContainer(String),
    /// Start the Redis of a project.
    StartRedis(Uuid),
    /// Stop a Redis that no deployment wants.
    StopRedis(Container),
    /// Remove the persistent files of a project that was deleted.
    RemoveVolumes(Uuid),
    /// Remove a network nobody uses.
    RemoveNetwork(String),
    /// Forget a deployment that is no longer wanted and of which nothing is left.
    Forget(Uuid),
}

/// The steps to take now, in order. `removed` are projects that were deleted; `build_slots` bounds
/// the builds in progress.
pub fn reconcile(
    desired: &[DeploymentSpec],
    removed: &[Uuid],
    observed: &Observed,
    build_slots: usize,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let building = observed
        .deployments
        .values()
        .filter(|seen| seen.work == Some(Work::Build))
        .count();
    let mut free_slots = build_slots.saturating_sub(building);

    // Oldest first: deployment ids are UUIDv7 and sort by time.
    let mut wanted: Vec<&DeploymentSpec> = desired.iter().collect();
    wanted.sort_by_key(|spec| spec.deployment);
    for spec in &wanted {
        let seen = observed
            .deployments
            .get(&spec.deployment)
            .copied()
            .unwrap_or_default();
        let instance = instance_of(observed, spec.deployment);
        let action = match spec.goal {
            Goal::Run => towards_running(spec.deployment, reusable(spec, observed), seen, instance),
            Goal::Stop => towards_stopped(spec.deployment, seen, instance),
        };
        match action {
            Some(Action::StartBuild(_)) if free_slots == 0 => {}
            Some(action) => {
                if matches!(action, Action::StartBuild(_)) {
                    free_slots -= 1;
                }
                actions.push(action);
            }
            None => {}
        }
    }
    let wanted: BTreeSet<Uuid> = wanted.iter().map(|spec| spec.deployment).collect();
    actions.extend(unwanted(&wanted, observed));
    actions.extend(redis(desired, observed));
    actions.extend(idle_networks(desired, observed));
    actions.extend(orphaned_volumes(desired, removed, observed));
    actions
}

fn instance_of(observed: &Observed, deployment: Uuid) -> Option<&Container> {
    observed
        .containers
        .iter()
        .find(|container| container.role == Role::Instance && container.deployment == deployment)
}

/// The deployment that was built what this one is to run.
fn reusable(spec: &DeploymentSpec, observed: &Observed) -> Option<Uuid> {
    let is_built = |from: &Uuid| {
        observed
            .deployments
            .get(from)
            .is_some_and(|seen| seen.built)
    };
    spec.reuse.filter(is_built)
}

fn towards_running(
    deployment: Uuid,
    reusable: Option<Uuid>,
    seen: Seen,
    instance: Option<&Container>,
) -> Option<Action> {
    if seen.work.is_some() {
        return None;
    }
    if seen.phase == Some(Phase::Failed) {
        // Not tried again by itself; nothing of it may stay.
        return instance.map(|container| Action::RemoveContainer(container.id.clone()));
    }
    match instance {
        Some(container) if matches!(container.state, State::Running | State::Frozen) => {
            // One that somebody restarted behind our back may have moved.
            let moved = container.address.is_some() && container.address != seen.checked;
            (seen.checked.is_none() || moved).then(|| Action::AdoptInstance {
                deployment,
                container: container.id.clone(),
            })
        }
        _ if !seen.built => Some(match reusable {
            Some(from) => Action::ReuseBuild { deployment, from },
            None => Action::StartBuild(deployment),
        }),
        _ if seen.was_live => Some(Action::RestartInstance(deployment)),
        _ => Some(Action::StartInstance(deployment)),
    }
}

fn towards_stopped(deployment: Uuid, seen: Seen, instance: Option<&Container>) -> Option<Action> {
    match (seen.work, instance) {
        (Some(Work::Stop), _) => None,
        (Some(_), _) => Some(Action::Cancel(deployment)),
        (None, Some(container)) => Some(Action::StopInstance(container.clone())),
        (None, None) => (!matches!(seen.phase, Some(Phase::Stopped | Phase::Failed)))
            .then_some(Action::MarkStopped(deployment)),
    }
}

/// What is there and should not be.
fn unwanted(wanted: &BTreeSet<Uuid>, observed: &Observed) -> Vec<Action> {
    let mut actions = Vec::new();
    let work_on = |deployment| {
        observed
            .deployments
            .get(&deployment)
            .and_then(|seen| seen.work)
    };
    for container in &observed.containers {
        let work = work_on(container.deployment);
        match container.role {
            // A build's container belongs to the build in progress, or to one that was cut off.
            Role::Build | Role::Step | Role::Wheels if work != Some(Work::Build) => {
                actions.push(Action::RemoveContainer(container.id.clone()));
            }
            Role::Instance if !wanted.contains(&container.deployment) && work.is_none() => {
                actions.push(Action::StopInstance(container.clone()));
            }
            _ => {}
        }
    }
    for (deployment, seen) in &observed.deployments {
        if wanted.contains(deployment) {
            continue;
        }
        match seen.work {
            Some(Work::Stop) => {}
            Some(_) => actions.push(Action::Cancel(*deployment)),
            None if instance_of(observed, *deployment).is_none() => {
                actions.push(Action::Forget(*deployment));
            }
            None => {}
        }
    }
    actions
}

/// A project's Redis is there while a deployment is to run with it.
fn redis(desired: &[DeploymentSpec], observed: &Observed) -> Vec<Action> {
    let wanted: BTreeSet<Uuid> = desired
        .iter()
        .filter(|spec| spec.redis && is_to_run(spec, observed))
        .map(|spec| spec.project)
        .collect();
    let there = || observed.containers.iter().filter(|c| c.role == Role::Redis);
    let is_running = |project: &Uuid| {
        there().any(|container| container.project == *project && container.state == State::Running)
    };
    let starts = wanted
        .iter()
        .filter(|project| !is_running(project))
        .map(|project| (*project, Action::StartRedis(*project)));
    let stops = there()
        .filter(|container| !wanted.contains(&container.project))
        .map(|container| (container.project, Action::StopRedis(container.clone())));
    starts
        .chain(stops)
        .filter(|(project, _)| !observed.redis_work.contains(project))
        .map(|(_, action)| action)
        .collect()
}

fn is_to_run(spec: &DeploymentSpec, observed: &Observed) -> bool {
    let seen = observed.deployments.get(&spec.deployment);
    spec.goal == Goal::Run && seen.is_none_or(|seen| seen.phase != Some(Phase::Failed))
}

/// Persistent files of deleted projects, once nothing can use them any more.
fn orphaned_volumes(
    desired: &[DeploymentSpec],
    removed: &[Uuid],
    observed: &Observed,
) -> Vec<Action> {
    let is_in_use = |project: &Uuid| {
        let works = observed.deployments.values();
        desired.iter().any(|spec| spec.project == *project)
            || observed.containers.iter().any(|c| c.project == *project)
            || works
                .into_iter()
                .any(|seen| seen.project == *project && seen.work.is_some())
            || observed.redis_work.contains(project)
    };
    removed
        .iter()
        .filter(|project| observed.volumes.contains(project) && !is_in_use(project))
        .map(|project| Action::RemoveVolumes(*project))
        .collect()
}

/// Networks of projects that have nothing left and want nothing.
fn idle_networks(desired: &[DeploymentSpec], observed: &Observed) -> Vec<Action> {
    let mut in_use: BTreeSet<Uuid> = observed.containers.iter().map(|c| c.project).collect();
    in_use.extend(&observed.redis_work);
    in_use.extend(
        observed
            .deployments
            .values()
            .filter(|seen| seen.work.is_some())
            .map(|seen| seen.project),
    );
    in_use.extend(
        desired
            .iter()
            .filter(|spec| is_to_run(spec, observed))
            .map(|spec| spec.project),
    );
    observed
        .networks
        .iter()
        .filter(|network| !in_use.contains(&network.project))
        .map(|network| Action::RemoveNetwork(network.id.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Limits, Source};

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);
    const PROJECT: Uuid = Uuid::from_u128(100);
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn spec(deployment: Uuid, goal: Goal) -> DeploymentSpec {
        DeploymentSpec {
            deployment,
            project: PROJECT,
            project_name: "p".into(),
            organization: Uuid::nil(),
            goal,
            source: Source::Upload { sha256: "0".into() },
            entrypoint: None,
            build: crate::protocol::BuildSettings::default(),
            build_variables: Vec::new(),
            public_url: "http://p.localhost/mcp".into(),
            own_sign_in: false,
            variables: Vec::new(),
            redis: false,
            reuse: None,
            limits: Limits {
                memory_bytes: 1,
                cpu_millis: 1,
                pids: 1,
                build_seconds: 1,
                start_seconds: 1,
                data_bytes: 1,
            },
        }
    }

    fn seen(phase: Phase) -> Seen {
        Seen {
            project: PROJECT,
            phase: Some(phase),
            ..Seen::default()
        }
    }

    fn live() -> Seen {
        Seen {
            built: true,
            was_live: true,
            checked: Some(HERE),
            ..seen(Phase::Healthy)
        }
    }

    fn container(deployment: Uuid, role: Role, state: State) -> Container {
        Container {
            id: format!("{}-{}", role.as_str(), deployment.as_u128()),
            role,
            project: PROJECT,
            deployment,
            state,
            address: (state == State::Running).then_some(HERE),
        }
    }

    #[derive(Default)]
    struct World(Observed);

    impl World {
        fn knows(mut self, deployment: Uuid, seen: Seen) -> Self {
            self.0.deployments.insert(deployment, seen);
            self
        }
        fn has(mut self, deployment: Uuid, role: Role, state: State) -> Self {
            self.0.containers.push(container(deployment, role, state));
            self
        }
        fn network(mut self) -> Self {
            self.0.networks.push(Network {
                id: "net".into(),
                project: PROJECT,
            });
            self
        }
        fn wants(&self, desired: &[DeploymentSpec]) -> Vec<Action> {
            reconcile(desired, &[], &self.0, 1)
        }
    }

    fn run(deployment: Uuid) -> [DeploymentSpec; 1] {
        [spec(deployment, Goal::Run)]
    }

    fn stop(deployment: Uuid) -> [DeploymentSpec; 1] {
        [spec(deployment, Goal::Stop)]
    }

    #[test]
    fn nothing_wanted_and_nothing_there_is_nothing_to_do() {
        assert_eq!(World::default().wants(&[]), []);
    }

    #[test]
    fn a_new_deployment_is_built() {
        assert_eq!(World::default().wants(&run(A)), [Action::StartBuild(A)]);
    }

    #[test]
    fn a_redis_runs_while_a_deployment_is_to_run_with_it() {
        let mut with = spec(A, Goal::Run);
        with.redis = true;
        let live_with = || {
            World::default()
                .knows(A, live())
                .has(A, Role::Instance, State::Running)
        };
        let start = [Action::StartRedis(PROJECT)];
        assert_eq!(live_with().wants(&[with.clone()]), start);
        let ended = live_with().has(PROJECT, Role::Redis, State::Exited);
        assert_eq!(ended.wants(&[with.clone()]), start);
        let mut busy = live_with();
        busy.0.redis_work.insert(PROJECT);
        assert_eq!(busy.wants(&[with.clone()]), []);
        let running = live_with().has(PROJECT, Role::Redis, State::Running);
        assert_eq!(running.wants(&[with.clone()]), []);
        let stop = [Action::StopRedis(container(
            PROJECT,
            Role::Redis,
            State::Running,
        ))];
        assert_eq!(running.wants(&run(A)), stop);
        let failed = World::default().knows(A, seen(Phase::Failed)).has(
            PROJECT,
            Role::Redis,
            State::Running,
        );
        assert_eq!(failed.wants(&[with]), stop);
    }

    #[test]
    fn files_go_with_a_deleted_project_and_only_once_nothing_uses_them() {
        let mut world = World::default();
        world.0.volumes.insert(PROJECT);
        let removed = [PROJECT, Uuid::from_u128(9)];
        let removes = |world: &World, desired: &[DeploymentSpec]| {
            reconcile(desired, &removed, &world.0, 1).contains(&Action::RemoveVolumes(PROJECT))
        };
        assert_eq!(world.wants(&[]), [], "what nobody deleted stays");
        assert!(removes(&world, &[]));
        assert!(!removes(&world, &run(A)));
        let used = world.has(A, Role::Instance, State::Exited);
        assert!(!removes(&used, &[]));
    }

    #[test]
    fn builds_wait_for_a_slot_oldest_first() {
        let desired = [spec(B, Goal::Run), spec(A, Goal::Run)];
        assert_eq!(World::default().wants(&desired), [Action::StartBuild(A)]);
        let world = World::default().knows(
            A,
            Seen {
                work: Some(Work::Build),
                ..seen(Phase::Building)
            },
        );
        assert_eq!(world.wants(&desired), []);
        assert_eq!(
            reconcile(&desired, &[], &world.0, 2),
            [Action::StartBuild(B)]
        );
    }

    #[test]
    fn a_full_slot_does_not_hold_up_what_is_built() {
        let world = World::default()
            .knows(
                A,
                Seen {
                    work: Some(Work::Build),
                    ..seen(Phase::Building)
                },
            )
            .knows(
                B,
                Seen {
                    built: true,
                    ..seen(Phase::Starting)
                },
            );
        let desired = [spec(A, Goal::Run), spec(B, Goal::Run)];
        assert_eq!(world.wants(&desired), [Action::StartInstance(B)]);
    }

    #[test]
    fn a_build_that_is_there_is_used_again_without_a_slot() {
        let mut again = spec(B, Goal::Run);
        again.reuse = Some(A);
        let busy = Seen {
            work: Some(Work::Build),
            ..seen(Phase::Building)
        };
        let other = Uuid::from_u128(9);
        let world = World::default()
            .knows(A, live())
            .has(A, Role::Instance, State::Running)
            .knows(other, busy);
        let desired = [spec(A, Goal::Run), again.clone(), spec(other, Goal::Run)];
        let reused = Action::ReuseBuild {
            deployment: B,
            from: A,
        };
        assert_eq!(world.wants(&desired), [reused]);
        // What is not there any more is built again.
        assert_eq!(World::default().wants(&[again]), [Action::StartBuild(B)]);
    }

    #[test]
    fn what_is_being_done_is_left_alone() {
        for work in [Work::Build, Work::Start, Work::Stop] {
            let world = World::default()
                .knows(
                    A,
                    Seen {
                        work: Some(work),
                        built: true,
                        ..seen(Phase::Checking)
                    },
                )
                .has(A, Role::Instance, State::Running);
            assert_eq!(world.wants(&run(A)), [], "{work:?}");
        }
    }

    #[test]
    fn a_build_cut_off_by_a_restart_begins_again() {
        let world =
            World::default()
                .knows(A, seen(Phase::Building))
                .has(A, Role::Build, State::Running);
        assert_eq!(
            world.wants(&run(A)),
            [
                Action::StartBuild(A),
                Action::RemoveContainer("build-1".into())
            ]
        );
    }

    #[test]
    fn an_instance_cut_off_while_starting_is_taken_over_or_started_again() {
        let half = Seen {
            built: true,
            ..seen(Phase::Checking)
        };
        let running = World::default()
            .knows(A, half)
            .has(A, Role::Instance, State::Running);
        assert_eq!(
            running.wants(&run(A)),
            [Action::AdoptInstance {
                deployment: A,
                container: "instance-1".into()
            }]
        );
        for state in [State::Created, State::Exited] {
            let world = World::default()
                .knows(A, half)
                .has(A, Role::Instance, state);
            assert_eq!(
                world.wants(&run(A)),
                [Action::StartInstance(A)],
                "{state:?}"
            );
        }
    }

    #[test]
    fn a_live_instance_found_after_a_restart_is_checked_once() {
        let unchecked = Seen {
            checked: None,
            ..live()
        };
        for state in [State::Running, State::Frozen] {
            let world = World::default()
                .knows(A, unchecked)
                .has(A, Role::Instance, state);
            assert_eq!(
                world.wants(&run(A)),
                [Action::AdoptInstance {
                    deployment: A,
                    container: "instance-1".into()
                }]
            );
        }
        let world = World::default()
            .knows(A, live())
            .has(A, Role::Instance, State::Running);
        assert_eq!(world.wants(&run(A)), []);
    }

    #[test]
    fn an_instance_that_moved_is_checked_again() {
        let elsewhere = Seen {
            checked: Some([10, 0, 0, 3].into()),
            ..live()
        };
        let world = World::default()
            .knows(A, elsewhere)
            .has(A, Role::Instance, State::Running);
        assert_eq!(
            world.wants(&run(A)),
            [Action::AdoptInstance {
                deployment: A,
                container: "instance-1".into()
            }]
        );
    }

    #[test]
    fn an_instance_whose_record_is_lost_is_taken_over() {
        let world = World::default().has(A, Role::Instance, State::Running);
        assert_eq!(
            world.wants(&run(A)),
            [Action::AdoptInstance {
                deployment: A,
                container: "instance-1".into()
            }]
        );
    }

    #[test]
    fn a_live_instance_that_died_or_vanished_comes_back() {
        let died = World::default()
            .knows(A, live())
            .has(A, Role::Instance, State::Exited);
        assert_eq!(died.wants(&run(A)), [Action::RestartInstance(A)]);
        let vanished = World::default().knows(A, live());
        assert_eq!(vanished.wants(&run(A)), [Action::RestartInstance(A)]);
        let rebuilt = World::default().knows(
            A,
            Seen {
                built: false,
                ..live()
            },
        );
        assert_eq!(rebuilt.wants(&run(A)), [Action::StartBuild(A)]);
    }

    #[test]
    fn a_failed_deployment_is_not_tried_again_and_leaves_nothing() {
        let world = World::default().knows(A, seen(Phase::Failed));
        assert_eq!(world.wants(&run(A)), []);
        let world = world.has(A, Role::Instance, State::Exited);
        assert_eq!(
            world.wants(&run(A)),
            [Action::RemoveContainer("instance-1".into())]
        );
    }

    #[test]
    fn a_stopped_deployment_starts_again_from_what_is_built() {
        let world = World::default().knows(
            A,
            Seen {
                built: true,
                ..seen(Phase::Stopped)
            },
        );
        assert_eq!(world.wants(&run(A)), [Action::StartInstance(A)]);
    }

    #[test]
    fn stopping_stops_then_says_so_once() {
        let world = World::default()
            .knows(A, live())
            .has(A, Role::Instance, State::Running);
        assert_eq!(
            world.wants(&stop(A)),
            [Action::StopInstance(container(
                A,
                Role::Instance,
                State::Running
            ))]
        );
        let gone = World::default().knows(A, live());
        assert_eq!(gone.wants(&stop(A)), [Action::MarkStopped(A)]);
        for phase in [Phase::Stopped, Phase::Failed] {
            let done = World::default().knows(A, seen(phase));
            assert_eq!(done.wants(&stop(A)), [], "{phase:?}");
        }
    }

    #[test]
    fn stopping_calls_off_what_is_being_done() {
        for work in [Work::Build, Work::Start] {
            let world = World::default().knows(
                A,
                Seen {
                    work: Some(work),
                    ..seen(Phase::Building)
                },
            );
            assert_eq!(world.wants(&stop(A)), [Action::Cancel(A)]);
            assert_eq!(world.wants(&[]), [Action::Cancel(A)]);
        }
        let stopping = World::default()
            .knows(
                A,
                Seen {
                    work: Some(Work::Stop),
                    ..live()
                },
            )
            .has(A, Role::Instance, State::Running);
        assert_eq!(stopping.wants(&stop(A)), []);
        assert_eq!(stopping.wants(&[]), []);
    }

    #[test]
    fn a_deployment_never_begun_is_stopped_at_once() {
        assert_eq!(World::default().wants(&stop(A)), [Action::MarkStopped(A)]);
    }

    #[test]
    fn orphans_go_known_or_not() {
        let unknown = World::default().has(A, Role::Instance, State::Running).has(
            B,
            Role::Build,
            State::Exited,
        );
        assert_eq!(
            unknown.wants(&[]),
            [
                Action::StopInstance(container(A, Role::Instance, State::Running)),
                Action::RemoveContainer("build-2".into())
            ]
        );
        let known = World::default()
            .knows(A, live())
            .has(A, Role::Instance, State::Running);
        assert_eq!(
            known.wants(&[]),
            [Action::StopInstance(container(
                A,
                Role::Instance,
                State::Running
            ))]
        );
        let gone = World::default().knows(A, live());
        assert_eq!(gone.wants(&[]), [Action::Forget(A)]);
    }

    #[test]
    fn a_network_goes_with_the_last_thing_of_its_project() {
        let remove = Action::RemoveNetwork("net".into());
        assert_eq!(
            World::default().network().wants(&[]),
            std::slice::from_ref(&remove)
        );
        let running = World::default()
            .knows(A, live())
            .has(A, Role::Instance, State::Running)
            .network();
        assert_eq!(running.wants(&run(A)), []);
        assert!(
            !running.wants(&[]).contains(&remove),
            "not before the instance"
        );
        assert!(!World::default().network().wants(&run(A)).contains(&remove));
        let working = World::default()
            .knows(
                A,
                Seen {
                    work: Some(Work::Build),
                    ..seen(Phase::Building)
                },
            )
            .network();
        assert_eq!(working.wants(&stop(A)), [Action::Cancel(A)]);
        let failed = World::default().knows(A, seen(Phase::Failed)).network();
        assert_eq!(failed.wants(&run(A)), std::slice::from_ref(&remove));
        let stopped = World::default().knows(A, seen(Phase::Stopped)).network();
        assert_eq!(stopped.wants(&stop(A)), [remove]);
    }

    #[test]
    fn an_old_and_a_new_deployment_of_a_project_live_side_by_side() {
        let world = World::default()
            .knows(A, live())
            .has(A, Role::Instance, State::Running)
            .network();
        let desired = [spec(A, Goal::Run), spec(B, Goal::Run)];
        assert_eq!(world.wants(&desired), [Action::StartBuild(B)]);
    }
}
