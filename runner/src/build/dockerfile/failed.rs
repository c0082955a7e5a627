//! Why an image could not be made, for people.

use serde_json::Value;

use super::stages::{Step, Work};
use crate::build::archive::MAX_ARCHIVE_BYTES;
use crate::build::container::Failure;
use crate::build::pipeline::{self, Stop};
use crate::diagnose::{self, Code, diagnosis};
use crate::limits;
use crate::protocol::Diagnosis;
use crate::runtime::Exit;

/// Most characters of an instruction in a sentence.
const SHOWN: usize = 80;
/// Most characters of a line of output in a sentence: installers list every package in one.
const LONGEST_LINE: usize = 160;
/// Most bytes that a step may take of the source: all that there may be, twice, since it may well
/// take a file again.
pub const MAX_COPIED_BYTES: u64 = 2 * MAX_ARCHIVE_BYTES;
/// What a step that takes more says.
pub const COPIED_TOO_MUCH: &str = "copied_too_much";
/// 128 + SIGKILL.
const KILLED: i64 = 137;

/// A step as people know it, in one line.
pub fn shown(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<&str>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    let cut: String = line.chars().take(most - 1).collect();
    format!("{cut}…")
}

/// From a step's failure to what is reported.
pub fn step(failure: Failure, file: &str, step: &Step, seconds: u64) -> Stop {
    pipeline::stop(failure, seconds, |failed| {
        let mut found = match failed {
            Ok(account) => said(&account, step),
            Err((exit, tail)) => ended(exit, &tail, step),
        };
        if step.line > 0 {
            found.location = Some(format!("{file}:{}", step.line));
        }
        found
    })
}

fn said(account: &Value, step: &Step) -> Diagnosis {
    let message = account["message"].as_str().unwrap_or_default();
    match account["code"].as_str() {
        Some("killed") => diagnose::build_out_of_memory(limits::BUILD_MEMORY_BYTES),
        Some("disk") => diagnose::build_too_large(limits::IMAGE_BYTES),
        Some("not_found") => diagnosis(
            Code::CopySourceMissing,
            format!(
                "`{}` copies what is not in that image: {message}.",
                shown(&step.text, SHOWN)
            ),
            "Correct the path, which begins at the root of the image it is copied from.",
        ),
        Some(COPIED_TOO_MUCH) => diagnosis(
            Code::DockerfileInvalid,
            format!(
                "`{}` takes more than {} MiB of the source, which has fewer: it takes files again by other paths or by links.",
                shown(&step.text, SHOWN),
                MAX_COPIED_BYTES >> 20
            ),
            "Copy a directory instead of the links in it, and each file once.",
        ),
        _ => failed(message, &tail(account), step),
    }
}

fn tail(account: &Value) -> Vec<String> {
    let lines = account["tail"].as_array().into_iter().flatten();
    lines
        .filter_map(|line| line.as_str().map(str::to_owned))
        .collect()
}

fn ended(exit: Exit, tail: &[String], step: &Step) -> Diagnosis {
    if exit.out_of_memory || exit.code == KILLED {
        return diagnose::build_out_of_memory(limits::BUILD_MEMORY_BYTES);
    }
    failed(&format!("It ended with status {}", exit.code), tail, step)
}

fn failed(message: &str, tail: &[String], step: &Step) -> Diagnosis {
    let mut why = message.trim_end_matches('.').to_owned();
    if let Some(first) = why.get(..1) {
        why.replace_range(..1, &first.to_lowercase());
    }
    let tail: Vec<String> = tail.iter().map(|line| shown(line, LONGEST_LINE)).collect();
    let last = diagnose::last_lines(&tail);
    if !last.is_empty() {
        why = format!("{why}; the last lines were: {}", last.trim_end_matches('.'));
    }
    let fix = match &step.work {
        Work::Run(_) => "Correct what the last lines name; the whole output is in the build's log.",
        Work::Copy(_) => "Correct the destination, or what an earlier step put there.",
    };
    diagnosis(
        Code::DockerfileStepFailed,
        format!("The step `{}` failed: {why}.", shown(&step.text, SHOWN)),
        fix,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::dockerfile::mount::Mounts;
    use crate::build::dockerfile::stages::Run;
    use serde_json::json;

    fn run(text: &str) -> Step {
        Step {
            line: 7,
            text: text.to_owned(),
            work: Work::Run(Run {
                command: Vec::new(),
                environment: std::collections::BTreeMap::new(),
                working_dir: "/".to_owned(),
                user: None,
                mounts: Mounts::default(),
            }),
        }
    }

    fn found(failure: Failure) -> Diagnosis {
        match step(failure, "Dockerfile", &run("RUN  pip install x"), 60) {
            Stop::Failed(found) => found,
            Stop::Canceled => panic!("it failed"),
        }
    }

    #[test]
    fn a_step_that_failed_is_named_with_its_last_lines() {
        let account = json!({"code": "command_failed", "message": "It ended with status 1", "tail": ["a", "ERROR: no x"]});
        let failed = found(Failure::Said(account));
        assert_eq!(failed.code, "dockerfile_step_failed");
        assert_eq!(failed.location.as_deref(), Some("Dockerfile:7"));
        assert_eq!(
            failed.cause,
            "The step `RUN pip install x` failed: it ended with status 1; the last lines were: a | ERROR: no x."
        );
    }

    #[test]
    fn bounds_have_their_own_names() {
        let exit = |code, out_of_memory| Exit {
            code,
            out_of_memory,
        };
        for (failure, code) in [
            (Failure::TooLarge(1 << 30), "build_disk_full"),
            (Failure::TimedOut, "build_timeout"),
            (
                Failure::Said(json!({"code": "killed"})),
                "build_out_of_memory",
            ),
            (Failure::Said(json!({"code": "disk"})), "build_disk_full"),
            (
                Failure::Said(json!({"code": COPIED_TOO_MUCH})),
                "dockerfile_invalid",
            ),
            (
                Failure::Said(json!({"code": "not_found", "message": "/x is not there"})),
                "copy_source_missing",
            ),
            (
                Failure::Ended(exit(1, true), Vec::new()),
                "build_out_of_memory",
            ),
            (
                Failure::Ended(exit(137, false), Vec::new()),
                "build_out_of_memory",
            ),
            (
                Failure::Ended(exit(3, false), Vec::new()),
                "dockerfile_step_failed",
            ),
        ] {
            assert_eq!(found(failure).code, code);
        }
    }
}
