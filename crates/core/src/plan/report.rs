//! Problems of planning: their stable codes, and the list that one planning collects. It knows no rule.
use crate::wire::{Level, Problem};

/// Candidates named in one hint; more are counted.
const NAMED: usize = 20;
/// More slips than these are another name.
const MOST_SLIPS: usize = 4;

/// A stable code of a planning problem, for looking it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// The code, kebab-case; it never changes its meaning.
    pub code: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// Defines the codes once: as an enum for the rules, and as the list of [`codes`].
macro_rules! define_codes {
    ($($name:ident, $code:literal, $meaning:literal;)*) => {
        /// What kind of problem it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code { $($name),* }

        const CODES: &[CodeInfo] = &[$(CodeInfo { code: $code, meaning: $meaning }),*];

        impl Code {
            fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }
        }
    };
}

define_codes! {
    UnknownCluster, "unknown-cluster", "The cluster does not exist, or none is named and there is no default.";
    UnknownNode, "unknown-node", "The cluster has no node of this name.";
    UnknownPreset, "unknown-preset", "The cluster has no preset of this name.";
    NoDefaultPreset, "no-default-preset", "Neither preset nor requests are given, and the cluster has no default preset.";
    RequestOverPreset, "request-over-preset", "The requests do not fit into the preset.";
    NoPresetFits, "no-preset-fits", "No preset of the cluster is large enough for the requests.";
    NoNodeFits, "no-node-fits", "No node could ever hold the run.";
    NotAllowed, "not-allowed", "The administrator of the cluster does not allow this.";
    LocalOnly, "local-only", "A path of the machine is used on a cluster that is not the server's own machine.";
    UnknownCredential, "unknown-credential", "No credential of this name is stored.";
    WrongCredential, "wrong-credential", "The stored credential is of another kind.";
    UnknownArtifact, "unknown-artifact", "The artifact does not exist, or you may not read it.";
    UnknownProject, "unknown-project", "The project does not exist, or you may not write to it.";
    SameTarget, "same-target", "Two paths are exported to the same place.";
    UnknownSecret, "unknown-secret", "No secret of this name is stored.";
    MissingInject, "missing-inject", "A variable must be given at submit and was not.";
    BadInject, "bad-inject", "A variable given at submit cannot be used.";
    EnvTooLong, "env-too-long", "A variable is longer than a program can be given.";
    NoCommand, "no-command", "There is nothing to run.";
    Unsupported, "unsupported", "This version does not do that.";
    // accepted, with a note
    PresetChosen, "preset-chosen", "The smallest preset that holds the requests was chosen.";
    SecretUse, "secret-use", "Says whether a value marked as secret is the name of a stored secret or the secret itself.";
    NoEffect, "no-effect", "The value has no effect here.";
    HostPorts, "host-ports", "Ports of the run are ports of the machine.";
}

/// Every code that a problem of planning can have.
pub fn codes() -> &'static [CodeInfo] {
    CODES
}

/// The problems of one planning.
#[derive(Default)]
pub(super) struct Report {
    found: Vec<Problem>,
    refused: bool,
}

/// A problem that was just added and may still get a hint.
pub(super) struct Added<'a>(&'a mut Problem);

impl Added<'_> {
    /// Says what to do.
    pub(super) fn hint(self, hint: impl Into<String>) {
        self.0.hint = Some(hint.into());
    }

    /// Says which names there are, and which of them is nearest to `name`.
    pub(super) fn candidates<'n>(self, name: &str, what: &str, names: impl IntoIterator<Item = &'n str>) {
        let names: Vec<&str> = names.into_iter().collect();
        self.hint(candidates(name, what, &names));
    }
}

/// Which names there are, and which of them is nearest to `name`, in words.
pub(super) fn candidates(name: &str, what: &str, names: &[&str]) -> String {
    let list =
        listed(names).map_or_else(|| format!("there is no {what} yet"), |list| format!("there is {list}"));
    let nearest = nearest(name, names).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    format!("{nearest}{list}")
}

impl Report {
    /// Adds a reason why the run cannot be planned; `path` says which value it is about.
    pub(super) fn error(
        &mut self,
        code: Code,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Added<'_> {
        self.refused = true;
        self.add(Level::Error, code, path.into(), message.into())
    }

    /// Adds something that the file left open and the plan settled.
    pub(super) fn note(&mut self, code: Code, path: impl Into<String>, message: impl Into<String>) {
        self.add(Level::Note, code, path.into(), message.into());
    }

    /// Adds something that the submitter should look at.
    pub(super) fn warn(
        &mut self,
        code: Code,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Added<'_> {
        self.add(Level::Warning, code, path.into(), message.into())
    }

    fn add(&mut self, level: Level, code: Code, path: String, message: String) -> Added<'_> {
        let code = code.as_str().to_owned();
        let index = self.found.len();
        self.found.push(Problem {
            code,
            level,
            line: 0,
            column: 0,
            path,
            message,
            hint: None,
            source: String::new(),
        });
        Added(&mut self.found[index])
    }

    /// The notes, or everything if there was an error.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Vec<Problem>> {
        if self.refused { Err(self.found) } else { Ok(self.found) }
    }
}

/// Names in backticks, `None` without any.
pub(super) fn listed(names: &[&str]) -> Option<String> {
    let shown: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    (!shown.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
}

/// The first of the `names` that are fewest slips of the keyboard away, if that is at most a third of the name (of its last
/// part, where it has several).
fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    let slips = names.iter().map(|known| (strsim::damerau_levenshtein(name, known), *known));
    let (count, known) = slips.min_by_key(|(count, _)| *count)?;
    let own = name.rsplit('/').next().unwrap_or_default();
    (count <= (own.len() / 3).clamp(1, MOST_SLIPS)).then_some(known)
}
