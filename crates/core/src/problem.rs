//! A problem of a run file, and the list that explains its code. Data only.
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One problem of a run file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable code that can be looked up, e.g. `unknown-key`.
    pub code: String,
    /// `error` or `warning`.
    pub level: Level,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// Path inside the file, e.g. `resources.requests.cpu`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// The source line.
    pub source: String,
}

/// How many problems there are, in words: `the run file has 2 problems and 1 warning`. What is no error is no problem.
pub fn in_words(problems: &[Problem]) -> String {
    let count = |level| problems.iter().filter(|problem| problem.level == level).count();
    let errors = match count(Level::Error) {
        1 => "a problem".to_owned(),
        n => format!("{n} problems"),
    };
    match count(Level::Warning) {
        0 => format!("the run file has {errors}"),
        1 => format!("the run file has {errors} and a warning"),
        n => format!("the run file has {errors} and {n} warnings"),
    }
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The file is refused.
    #[default]
    Error,
    /// The file is accepted, but perhaps not as its author meant it.
    Warning,
    /// The file is accepted, and something was settled that it left open.
    Note,
}

/// A stable code of a problem, for looking it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// The code, kebab-case; it never changes its meaning.
    pub code: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Defines codes once: as an enum for the rules, whose problems they make, and as a list for people.
macro_rules! define_codes {
    ($($name:ident, $code:literal, $meaning:literal, $remedy:literal;)*) => {
        /// What kind of problem it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code { $($name),* }

        /// Every code that such a problem can have, in the order of the reference.
        pub fn codes() -> &'static [$crate::problem::CodeInfo] {
            use $crate::problem::CodeInfo;
            const CODES: &[CodeInfo] = &[$(CodeInfo { code: $code, meaning: $meaning, remedy: $remedy }),*];
            CODES
        }

        impl Code {
            /// The code as people see it.
            pub(super) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// A problem of this kind about the value at `path`.
            pub(super) fn problem(
                self,
                level: $crate::problem::Level,
                path: impl Into<String>,
                message: impl Into<String>,
            ) -> $crate::problem::Problem {
                let (code, path, message) = (self.as_str().to_owned(), path.into(), message.into());
                $crate::problem::Problem { code, level, path, message, ..Default::default() }
            }
        }
    };
}

pub(crate) use define_codes;
