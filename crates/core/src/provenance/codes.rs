//! Problems of a run that is made from another one: their stable codes.
use crate::problem::{Level, Problem, define_codes};

define_codes! {
    NotPinned, "not-pinned", "An exact re-run needs a version that is not known, or not there any more.", "Make the run without `--exact`: its names are looked up anew.";
    // accepted, with a note
    Live, "live", "An exact re-run uses something that has no versions, as it is now.", "Nothing is needed; a dataset or an artifact instead of a volume or a path has versions.";
    EarlierAttempt, "earlier-attempt", "An exact re-run takes the versions of an attempt before the last one, which did not get everything.", "Nothing is needed; `vessl run read ID --provenance` shows what each attempt used.";
    OtherAmounts, "other-amounts", "An exact re-run gets other amounts than the run that it is made from.", "Name a preset or amounts (`--preset`, `--cpu`, `--memory`, `--gpus`) to get the same.";
    SecretChanged, "secret-changed", "A stored secret was stored again since the run that an exact re-run is made from; the new run gets the value of now.", "Give the former value at submit if it matters: `-e KEY=VALUE`, which stays secret.";
}

/// A problem about the value at `path`.
pub(super) fn problem(code: Code, path: String, message: String) -> Problem {
    let level = if code == Code::NotPinned { Level::Error } else { Level::Note };
    code.problem(level, path, message)
}
