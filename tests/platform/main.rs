//! Every integration test, in one binary. `cargo test -p tests -- NAME` runs those whose name
//! holds NAME.

mod architecture;
mod bad_input;
mod clients;
mod conformance;
mod database_away;
mod deploy;
mod features;
mod fixtures;
mod kill;
mod login;
mod node;
mod redeploy;
mod requirements;
mod secrets;
mod servers;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

/// A named test.
type Test = (&'static str, fn() -> Result<()>);

fn main() {
    let mut arguments = Arguments::from_args();
    // Two cores: more at once only makes every start slower.
    arguments.test_threads.get_or_insert(2);
    let trials = [
        architecture::TESTS,
        servers::TESTS,
        clients::TESTS,
        features::TESTS,
        conformance::TESTS,
        bad_input::TESTS,
        redeploy::TESTS,
        database_away::TESTS,
        secrets::TESTS,
        kill::TESTS,
        deploy::TESTS,
        login::TESTS,
        node::TESTS,
    ]
    .into_iter()
    .flatten()
    .chain(requirements::tests())
    .map(|test| trial(test, false))
    .chain(node::LONG.iter().map(|test| trial(test, true)))
    .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    tests::platform::stop_shared();
    bad_input::stop();
    clients::print_matrix();
    conclusion.exit();
}

/// A test that is `long` runs with `--include-ignored` alone, as `tests/run --long` gives it.
fn trial(&(name, test): &Test, long: bool) -> Trial {
    Trial::test(name, move || {
        test().map_err(|e| Failed::from(format!("{e:#}")))
    })
    .with_ignored_flag(long)
}
