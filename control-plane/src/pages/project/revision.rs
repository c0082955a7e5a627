//! Which of its variables' values a server has, in words.

use crate::variables::{Live, Next, Standing};

/// A notice about a project's variables.
#[derive(Debug, PartialEq, Eq)]
pub struct Revision {
    /// The notice's class: nothing, `busy` or `bad`.
    pub kind: &'static str,
    /// What is.
    pub title: String,
    /// What follows from it.
    pub text: String,
    /// The deployment to look at.
    pub deployment: Option<i32>,
    /// Whether it is about to change.
    pub pending: bool,
}

const HOW: &str =
    "A change restarts the server with the same build: nothing is built and no call is dropped.";

impl Revision {
    /// For people.
    pub fn of(standing: &Standing) -> Self {
        let calm = |title: String, text: &str| Self {
            kind: "",
            title,
            text: text.to_owned(),
            deployment: None,
            pending: false,
        };
        match (&standing.live, &standing.next) {
            (None, _) => calm(
                "Nothing is live.".into(),
                "The next deployment starts with these.",
            ),
            (Some(live), Some(next)) if standing.is_behind() => {
                behind(standing.revision, live, next)
            }
            (Some(live), _) if live.revision == 0 => calm("Changes apply at once.".into(), HOW),
            (Some(live), _) => calm(format!("Running with revision {}.", live.revision), HOW),
        }
    }

    /// Differs when anything that is shown differs.
    pub fn mark(&self) -> String {
        format!("{}{}", self.title, self.text)
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect()
    }
}

fn behind(revision: i32, live: &Live, next: &Next) -> Revision {
    let (number, serving, has) = (next.deployment, live.deployment, live.revision);
    let (kind, title, text) = match next.state.as_str() {
        "failed" => (
            "bad",
            format!("Revision {revision} did not start."),
            format!(
                "#{serving} keeps serving with revision {has}. See why #{number} failed, then change the values or deploy."
            ),
        ),
        "canceled" => (
            "busy",
            format!("Revision {revision} is not in use."),
            format!(
                "#{number} was canceled and #{serving} keeps serving with revision {has}. Deploy, or change a value, to bring it."
            ),
        ),
        _ => (
            "busy",
            format!("Revision {revision} is on its way."),
            format!("#{serving} serves with revision {has} until #{number} answers."),
        ),
    };
    Revision {
        kind,
        title,
        text,
        deployment: Some(number),
        pending: !matches!(next.state.as_str(), "failed" | "canceled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_and_what_is_to_run_is_said() {
        let standing = |live: Option<i32>, next: Option<&str>| Standing {
            revision: 4,
            live: live.map(|revision| Live {
                deployment: 7,
                revision,
            }),
            next: next.map(|state| Next {
                deployment: 8,
                state: state.into(),
            }),
        };
        let title = |live, next| Revision::of(&standing(live, next)).title;
        assert_eq!(title(None, None), "Nothing is live.");
        assert_eq!(title(Some(4), None), "Running with revision 4.");
        assert_eq!(
            title(Some(3), Some("starting")),
            "Revision 4 is on its way."
        );
        assert_eq!(title(Some(3), Some("failed")), "Revision 4 did not start.");
        assert_eq!(
            title(Some(3), Some("canceled")),
            "Revision 4 is not in use."
        );
        let failed = Revision::of(&standing(Some(3), Some("failed")));
        assert!(failed.text.contains("#7 keeps serving with revision 3"));
        assert_eq!((failed.deployment, failed.pending), (Some(8), false));
    }
}
