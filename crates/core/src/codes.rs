//! The registry of the codes that problems of a run file carry: those of the reading and those of the planning. It finds
//! no problem.
use crate::{plan, spec};

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

/// Every code that a problem can have.
pub fn all() -> impl Iterator<Item = &'static CodeInfo> {
    spec::codes().iter().chain(plan::codes())
}

/// Defines codes once: as an enum for the rules, and as the list `CODES`.
macro_rules! define_codes {
    ($($name:ident, $code:literal, $meaning:literal, $remedy:literal;)*) => {
        /// What kind of problem it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code { $($name),* }

        const CODES: &[CodeInfo] = &[$(CodeInfo { code: $code, meaning: $meaning, remedy: $remedy }),*];

        impl Code {
            /// The code as people see it.
            pub(super) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }
        }
    };
}

pub(crate) use define_codes;
