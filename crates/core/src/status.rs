//! The status of a run, in one word, and the code of why it ended. Which one a run has, and what may follow, is `run`'s to say.
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Defines an enum whose variants are plain words, with the list of them.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:tt,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word people see, as in JSON.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

words! {
    /// The status words of the hosted product.
    Status {
        /// Waits for capacity.
        Queued = "queued",
        /// Placed, being started.
        Pending = "pending",
        /// Image and imports.
        Initializing = "initializing",
        /// Commands run, or the session is up.
        Running = "running",
        /// Commands ended, kept by termination protection.
        Idle = "idle",
        /// Exports are written.
        Stopping = "stopping",
        /// Ended well.
        Completed = "completed",
        /// Ended badly; the reason says how.
        Failed = "failed",
        /// Ended by a person.
        Terminated = "terminated",
    }
}

impl EndReason {
    /// As it is stored: a word of a later version is [`EndReason::Unknown`].
    pub(crate) fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Ok(Self::ALL.iter().copied().find(|code| code.word() == word).unwrap_or_default())
    }
}

impl Status {
    /// Whether a run in this status never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Terminated)
    }
}

words! {
    /// Why a run ended, for programs; the reason says it for people.
    #[derive(Default)]
    EndReason {
        /// The commands ended with exit code 0, and the exports were written.
        Completed = "completed",
        /// A command ended with another exit code, or could not be run.
        CommandFailed = "command_failed",
        /// The kernel killed a process at the limit of memory.
        OutOfMemory = "out_of_memory",
        /// The run wrote more into its own file system than it may.
        ScratchLimit = "scratch_limit",
        /// The container was killed from outside.
        Killed = "killed",
        /// The image could not be fetched or used.
        ImageFailed = "image_failed",
        /// An import failed.
        ImportFailed = "import_failed",
        /// An import or an image is not the version any more that an exact re-run needs.
        VersionChanged = "version_changed",
        /// The container could not be made.
        SetupFailed = "setup_failed",
        /// An export failed.
        ExportFailed = "export_failed",
        /// A person ended it.
        Terminated = "terminated",
        /// The time of the session was over.
        TimeLimit = "time_limit",
        /// Nobody used the session for as long as it allows.
        IdleLimit = "idle_limit",
        /// It is proven that nobody works for it any more, and there is no record of its end.
        Lost = "lost",
        /// No node can ever hold it.
        NeverFits = "never_fits",
        /// The machine refused to start its agent.
        StartRefused = "start_refused",
        /// Stored before there were codes.
        #[default]
        Unknown = "unknown",
    }
}

words! {
    /// What a list of runs is sorted by.
    #[derive(Default)]
    RunSort {
        /// When it was submitted, newest first.
        #[default]
        Created = "created",
        /// Name, from A to Z.
        Name = "name",
        /// Status word, from A to Z.
        Status = "status",
        /// When its commands started, newest first.
        Started = "started",
        /// When it ended, newest first.
        Ended = "ended",
        /// Time from the start of its commands to its end, longest first; runs that have not ended come last.
        Time = "time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Verdict;

    #[test]
    fn a_code_of_a_later_version_hides_no_run() {
        let read = |code: &str| {
            let text = format!(
                r#"{{"status":"failed","reason_code":"{code}","reason":"x","exit_code":null,"cleanup":null}}"#
            );
            serde_json::from_str::<Verdict>(&text).map(|verdict| verdict.reason_code).unwrap()
        };
        assert_eq!(read("out_of_memory"), EndReason::OutOfMemory);
        assert_eq!(read("eaten_by_a_dog"), EndReason::Unknown);
    }
}
