//! Many pushes at once.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::journey::{Setting, files, says, server};
use crate::Test;

pub const TESTS: &[Test] = &[(
    "github::platform_fifty_pushes_in_a_minute_are_few_builds_and_the_last_one_is_live",
    fifty_pushes,
)];

const PUSHES: usize = 50;

/// In which they are made.
const WITHIN: Duration = Duration::from_mins(1);

/// What GitHub is promised for its answers while builds run.
const ANSWERED: Duration = Duration::from_secs(1);

/// Counts, at each commit that changes deployments, how many of `demo` are being built and wait.
const WATCH: &str = "
    create table watched (building bigint, waiting bigint);
    create function watch() returns trigger language plpgsql as $$
    begin
        insert into watched
        select count(*) filter (where state in ('building', 'starting', 'checking')),
               count(*) filter (where state = 'queued')
        from deployments where project_id = new.project_id;
        return null;
    end $$;
    create constraint trigger watch after insert or update of state on deployments
        deferrable initially deferred for each row execute function watch();";

fn fifty_pushes() -> Result<()> {
    let mut setting = Setting::new(3_600)?;
    setting.deploy()?;
    let installation = setting.github.installations()[0].id;
    let minted = setting.github.tokens_minted(installation);
    setting.platform.sql(WATCH)?;

    let began = Instant::now();
    let mut last = String::new();
    for number in 0..PUSHES {
        // Something new to install each time, so that builds take long enough to be in the way.
        let mut requirements = String::from("fastmcp==4.1.2\n");
        writeln!(requirements, "idna!=0.{number}")?;
        let code = server(&format!("tool{number}"));
        let mut changed = files(&code);
        changed[1].1 = &requirements;
        let message = format!("Push {number}");
        last = setting.repo.push("main", &changed, &message)?;
    }
    setting.github.settle()?;
    let took = began.elapsed();
    ensure!(took < WITHIN, "the pushes took {took:?}");
    setting.wait_live(&last)?;
    setting.wait_worked()?;
    let served = says(&setting.platform, &format!("tool{}", PUSHES - 1))?;
    ensure!(served == last, "{served} is served, {last} was pushed last");

    let most = setting
        .platform
        .sql("select max(building) || ' ' || max(waiting) from watched")?;
    ensure!(most.trim() == "1 1", "built and waiting at once: {most}");
    let again = setting.platform.sql(
        "select count(*) from (select source->>'commit' from deployments
         group by 1 having count(*) > 1) twice",
    )?;
    ensure!(again.trim() == "0", "{again} commits were deployed twice");
    let minted = setting.github.tokens_minted(installation) - minted;
    ensure!(minted <= 1, "{minted} tokens");
    let built = setting
        .platform
        .sql("select count(*) from deployments where state in ('live', 'draining', 'stopped')")?;

    let mut answers: Vec<Duration> = setting
        .github
        .deliveries()
        .iter()
        .filter(|one| one.event == "push" && one.status_code == 202)
        .map(|one| one.duration)
        .collect();
    answers.sort();
    ensure!(answers.len() >= PUSHES, "{} answers", answers.len());
    let rank = (answers.len() * 99).div_ceil(100) - 1;
    let (median, p99) = (answers[answers.len() / 2], answers[rank]);
    println!(
        "{PUSHES} pushes in {took:.1?}: {} builds with the first; webhooks answered in {median:.1?} (median), {p99:.1?} (p99)",
        built.trim()
    );
    ensure!(p99 < ANSWERED, "webhooks were answered in {p99:?} (p99)");
    setting.github.finish().context("GitHub")
}
