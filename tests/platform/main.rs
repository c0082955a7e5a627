//! Every integration test, in one binary. `cargo test -p tests -- NAME` runs those whose name
//! holds NAME.

mod architecture;
mod bad_input;
mod clients;
mod conformance;
mod database_away;
mod deploy;
mod dockerfile;
mod errors;
mod fastmcp;
mod features;
mod fixtures;
mod github;
mod kill;
mod login;
mod node;
mod redeploy;
mod requirements;
mod secrets;
mod servers;
mod starters;
mod state;
mod surface;
mod variables;
mod wheels;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

/// A named test.
type Test = (&'static str, fn() -> Result<()>);

fn main() {
    let mut arguments = Arguments::from_args();
    // Two cores: more at once only makes every start slower.
    arguments.test_threads.get_or_insert(2);
    let usual = [
        architecture::TESTS,
        servers::TESTS,
        clients::TESTS,
        features::TESTS,
        fastmcp::TESTS,
        conformance::TESTS,
        bad_input::TESTS,
        redeploy::TESTS,
        variables::TESTS,
        wheels::TESTS,
        state::TESTS,
        surface::TESTS,
        database_away::TESTS,
        secrets::TESTS,
        kill::TESTS,
        deploy::TESTS,
        login::TESTS,
        node::TESTS,
        dockerfile::TESTS,
        github::TESTS,
        starters::TESTS,
    ]
    .into_iter()
    .chain(github::JOURNEYS)
    .flatten()
    .chain(requirements::tests())
    .map(trial);
    // Run with `--include-ignored`, which is what `tests/run --long` says.
    let long = requirements::long_tests()
        .iter()
        .chain(node::LONG)
        .map(|test| trial(test).with_ignored_flag(true));
    let trials = usual.chain(long).chain(errors::trials()).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    tests::platform::stop_shared();
    bad_input::stop();
    errors::stop();
    clients::print_matrix();
    fastmcp::print_table();
    conclusion.exit();
}

fn trial(&(name, test): &Test) -> Trial {
    Trial::test(name, move || {
        test().map_err(|e| Failed::from(format!("{e:#}")))
    })
}
