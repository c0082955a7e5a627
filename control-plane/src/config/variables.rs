//! A misspelt variable must not be silently without effect.

use std::collections::BTreeSet;
use std::ffi::OsString;

use anyhow::bail;

/// What all our variables begin with.
const PREFIX: &str = "BERTH_";

/// Names this alike are taken for a misspelling (Jaro-Winkler, 1 = the same).
const ALIKE: f64 = 0.8;

/// Fails when the environment holds a `BERTH_…` variable that no command of `program` reads,
/// naming it and the known one most like it.
pub fn refuse_unknown_variables(program: &clap::Command) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is where settings are read")]
    let present = std::env::vars_os().map(|(name, _)| name);
    refuse_unknown(&known(program), present)
}

/// The variables that `program` and its subcommands read.
pub fn known(program: &clap::Command) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = program
        .get_arguments()
        .filter_map(clap::Arg::get_env)
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    for command in program.get_subcommands() {
        names.extend(known(command));
    }
    names
}

fn refuse_unknown(
    known: &BTreeSet<String>,
    present: impl Iterator<Item = OsString>,
) -> anyhow::Result<()> {
    for name in present.map(|name| name.to_string_lossy().into_owned()) {
        if !name.starts_with(PREFIX) || known.contains(&name) {
            continue;
        }
        let nearest = known
            .iter()
            .map(|candidate| (strsim::jaro_winkler(&name, candidate), candidate))
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .filter(|(likeness, _)| *likeness >= ALIKE);
        match nearest {
            Some((_, candidate)) => {
                bail!("the variable {name} is not known; did you mean {candidate}?")
            }
            None => bail!("the variable {name} is not known; unset it, or see `berth all --help`"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(present: &[&str]) -> Result<(), String> {
        let known = ["BERTH_DATA", "BERTH_DATABASE_URL", "BERTH_URL"];
        let known = known.iter().map(|&name| name.to_owned()).collect();
        refuse_unknown(&known, present.iter().map(OsString::from)).map_err(|e| e.to_string())
    }

    #[test]
    fn known_and_foreign_variables_pass() {
        check(&["BERTH_DATA", "PATH", "BERTHOLD"]).unwrap();
    }

    #[test]
    fn a_misspelt_variable_is_named_with_the_nearest_known_one() {
        insta::assert_snapshot!(
            check(&["BERTH_DATABSE_URL"]).unwrap_err(),
            @"the variable BERTH_DATABSE_URL is not known; did you mean BERTH_DATABASE_URL?"
        );
    }

    #[test]
    fn every_command_is_asked_for_its_variables() {
        let program = clap::Command::new("a")
            .subcommand(clap::Command::new("b").arg(clap::Arg::new("c").long("c").env("BERTH_C")));
        assert!(known(&program).contains("BERTH_C"));
    }
}
