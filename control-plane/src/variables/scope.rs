//! For which deployments a variable is.

use crate::error::{Result, invalid};

/// Longest branch name; Git hosts refuse longer ones (255).
const MAX_BRANCH: usize = 255;

/// For which deployments a variable is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Scope {
    /// Those that serve the project's URL.
    #[default]
    Production,
    /// Previews.
    Preview,
    /// Previews of one branch; goes before [`Scope::Preview`].
    Branch(String),
}

impl Scope {
    /// From its name and the branch that goes with it. A branch alone means its scope; neither
    /// means production.
    pub fn parse(name: Option<&str>, branch: Option<&str>) -> Result<Self> {
        let present = |text: Option<&str>| {
            text.map(str::trim)
                .filter(|t| !t.is_empty())
                .map(str::to_owned)
        };
        let branch = present(branch);
        match (present(name).as_deref(), branch) {
            (None | Some("production"), None) => Ok(Self::Production),
            (Some("preview"), None) => Ok(Self::Preview),
            (None | Some("branch"), Some(branch)) => check_branch(branch),
            (Some("branch"), None) => Err(invalid(
                "branch",
                "Name the branch whose previews the variable is for.",
            )),
            (Some("production" | "preview"), Some(_)) => Err(invalid(
                "branch",
                "A branch goes with the scope “branch”; leave it out otherwise.",
            )),
            (Some(_), _) => Err(invalid(
                "scope",
                "There are three scopes: production, preview and branch.",
            )),
        }
    }

    /// `production`, `preview` or `branch`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Preview => "preview",
            Self::Branch(_) => "branch",
        }
    }

    /// The branch, or nothing: as it stands in the database.
    pub fn branch(&self) -> &str {
        match self {
            Self::Branch(branch) => branch,
            _ => "",
        }
    }
}

fn check_branch(branch: String) -> Result<Scope> {
    if branch.len() > MAX_BRANCH || branch.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(invalid(
            "branch",
            "The branch name is not one Git allows; check its spelling.",
        ));
    }
    Ok(Scope::Branch(branch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_goes_with_its_scope_only() {
        let parse = |name, branch| Scope::parse(name, branch).map_err(|error| error.to_string());
        assert_eq!(parse(None, None), Ok(Scope::Production));
        assert_eq!(parse(Some(""), Some(" ")), Ok(Scope::Production));
        assert_eq!(parse(Some("preview"), None), Ok(Scope::Preview));
        for name in [None, Some("branch")] {
            let scope = parse(name, Some("fix/a")).unwrap();
            assert_eq!((scope.name(), scope.branch()), ("branch", "fix/a"));
        }
        for (name, branch) in [
            (Some("branch"), None),
            (Some("preview"), Some("main")),
            (Some("staging"), None),
            (None, Some("a b")),
        ] {
            assert!(parse(name, branch).is_err(), "{name:?} {branch:?}");
        }
    }
}
