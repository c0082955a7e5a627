//! What an entry of the catalogue says: how it is recognised, what it means, what mends it.

use super::code::Code;

/// How far a deployment had come, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The source is fetched or unpacked.
    Fetch,
    /// What to start and what to install is read from the source.
    Plan,
    /// Dependencies are resolved and installed.
    Install,
    /// The project's code is imported.
    Import,
    /// The server object is looked up or made.
    Object,
    /// The server starts and opens its port.
    Serve,
    /// It is asked what a client would ask.
    Check,
    /// It was live.
    Live,
    /// Any of these.
    Any,
}

impl Phase {
    /// A heading for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Fetch => "Fetching the source",
            Self::Plan => "Planning the build",
            Self::Install => "Installing the dependencies",
            Self::Import => "Importing the code",
            Self::Object => "Finding the server",
            Self::Serve => "Starting the server",
            Self::Check => "Asking the server",
            Self::Live => "While it is live",
            Self::Any => "At any time",
        }
    }
}

/// One thing that can go wrong. Texts hold `{holes}`: what a pattern's holes matched, and what
/// [`super::evidence::Evidence`] knows besides.
#[derive(Debug)]
pub struct Entry {
    /// The stable name.
    pub code: Code,
    /// How far the deployment had come.
    pub phase: Phase,
    /// A short title for people.
    pub title: &'static str,
    /// How it is recognised; any of them. The first entry of the catalogue that matches counts.
    pub matches: &'static [Match],
    /// One sentence: what is wrong.
    pub cause: &'static str,
    /// One sentence: the next step.
    pub fix: &'static str,
    /// The lines to change, where they can be known.
    pub change: Change,
    /// The releases in which the text was seen and the fix seen to work; empty for what does not
    /// depend on a package.
    pub verified: &'static [&'static str],
    /// Names of the well-known error that this is, in the list that the tests follow.
    pub rows: &'static [&'static str],
}

/// How an entry is recognised. Texts are patterns, see [`super::pattern`].
#[derive(Debug)]
pub enum Match {
    /// The runner finds it itself, without any text; the sentence says when.
    Found(&'static str),
    /// An exception of the project's code or its packages.
    Exception(Exception),
    /// What the launcher found itself: the phase it names, and a text of its message.
    Finding(&'static str, &'static str),
    /// What the build program found: its stable code, and a text of the installer's message.
    Build(&'static str, &'static str),
}

/// An exception, by class and text.
#[derive(Debug)]
pub struct Exception {
    /// Its class, any of them; empty for every class.
    pub classes: &'static [&'static str],
    /// Its text, any of them; empty for every text.
    pub texts: &'static [&'static str],
    /// What the failing line of the source begins with, any of them; empty for every line.
    pub line: &'static [&'static str],
    /// A package that is installed besides.
    pub with: Option<&'static str>,
}

/// An exception of any text of these classes.
pub const fn class(classes: &'static [&'static str]) -> Match {
    Match::Exception(Exception {
        classes,
        texts: &[],
        line: &[],
        with: None,
    })
}

/// An exception of one of these classes with one of these texts.
pub const fn raised(classes: &'static [&'static str], texts: &'static [&'static str]) -> Match {
    Match::Exception(Exception {
        classes,
        texts,
        line: &[],
        with: None,
    })
}

/// Which lines of the source are to change, and how.
#[derive(Debug)]
pub enum Change {
    /// Not a line, or one that cannot be known.
    None,
    /// In the failing statement: the first pair whose left side stands in it.
    Replace(&'static [(&'static str, &'static str)]),
    /// In the failing statement: these named arguments go.
    Drop(&'static [&'static str]),
    /// The dependency file asks for this, instead of what it says of the same package.
    Require(&'static str),
    /// The dependency file asks for this extra of this package, in the version it names.
    Extra(&'static str, &'static str),
    /// The dependency file names no version of this package.
    Unpin(&'static str),
    /// The dependency file does not ask for this package.
    Forgo(&'static str),
    /// The dependency file asks for the second package of the pair whose first one `{package}` is.
    Swap(&'static [(&'static str, &'static str)]),
    /// In the failing statement: the missing `{path}` is written as it is in the source.
    PathInSource,
    /// In the failing statement: `{path}` is below `/data`.
    PathInData,
}
