//! The keys of every map of the run file, and the nearest key to a wrong one.
//!
//! The JSON Schema has the same keys; a test holds the two together.

/// One kind of map: what it is called in messages and the keys it may have, in the order people write them.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) what: &'static str,
    pub(super) known: &'static [&'static str],
    /// Other keys that are read as well, or refused with words of their own, but never suggested.
    pub(super) old: &'static [&'static str],
}

const fn keys(what: &'static str, known: &'static [&'static str]) -> Keys {
    Keys { what, known, old: &[] }
}

pub(super) static RUN: Keys = Keys {
    what: "a run",
    known: &[
        "name",
        "description",
        "tags",
        "resources",
        "image",
        "import",
        "mount",
        "export",
        "run",
        "interactive",
        "ports",
        "env",
        "service_account_name",
        "termination_protection",
    ],
    old: &["volumes"],
};
pub(super) static RESOURCES: Keys = Keys {
    what: "`resources`",
    known: &["cluster", "node_names", "preset", "requests", "spot"],
    old: &["accelerators", "cpu", "memory", "disk"],
};
pub(super) static REQUESTS: Keys =
    keys("`requests`", &["cpu", "memory", "disk", "nvidia.com/gpu", "nvidia.com/mig"]);
pub(super) static GPU: Keys = keys("a GPU request", &["device_type", "quantity", "mig_resource_type"]);
pub(super) static IMAGE: Keys = keys("`image`", &["url", "credential_name"]);
pub(super) static IMPORT: Keys = Keys {
    what: "an import",
    known: &["git", "dataset", "model", "artifact", "s3", "gs", "hf", "volume"],
    old: &["hostpath", "nfs"],
};
pub(super) static MOUNT: Keys = Keys {
    what: "a mount",
    known: &["dataset", "hostpath", "nfs", "volume", "readonly"],
    old: &["options", "git", "model", "artifact", "s3", "gs", "hf"],
};
pub(super) static EXPORT: Keys = Keys {
    what: "an export",
    known: &["artifact", "dataset", "model", "s3", "gs", "volume"],
    old: &["git", "hf", "hostpath", "nfs"],
};
pub(super) static OPTIONS: Keys = keys("`options`", &["readonly"]);
pub(super) static OLD_VOLUME: Keys = keys(
    "an entry of `volumes`",
    &[
        "artifact", "import", "export", "ref", "git", "dataset", "model", "s3", "gs", "hf", "volume",
        "hostpath", "nfs", "readonly",
    ],
);
pub(super) static GIT: Keys = keys("`git`", &["url", "ref", "credential_name", "submodules", "lfs"]);
pub(super) static DATASET: Keys =
    Keys { what: "`dataset`", known: &["organization_name", "dataset_name"], old: &["readonly"] };
pub(super) static MODEL: Keys =
    keys("`model`", &["organization_name", "model_repository_name", "model_number"]);
pub(super) static ARTIFACT: Keys = Keys {
    what: "`artifact`",
    known: &["organization_name", "project_name", "name"],
    old: &["artifact_name"],
};
pub(super) static S3: Keys = keys("`s3`", &["bucket", "prefix", "endpoint", "region", "credential_name"]);
pub(super) static GS: Keys = keys("`gs`", &["bucket", "prefix", "endpoint", "credential_name"]);
pub(super) static HF: Keys = keys("`hf`", &["url", "ref", "credential_name"]);
pub(super) static VOLUME: Keys =
    Keys { what: "`volume`", known: &["storage_name", "volume_name"], old: &["readonly"] };
pub(super) static HOSTPATH: Keys = Keys { what: "`hostpath`", known: &["path"], old: &["readonly"] };
pub(super) static NFS: Keys = Keys { what: "`nfs`", known: &["server", "path"], old: &["readonly"] };
pub(super) static ITEM: Keys = keys("an item of `run`", &["command", "workdir", "wait"]);
pub(super) static INTERACTIVE: Keys = Keys {
    what: "`interactive`",
    known: &["max_runtime", "jupyter"],
    old: &["idle_timeout", "runtime", "ports"],
};
pub(super) static JUPYTER: Keys = keys("`jupyter`", &["idle_timeout"]);
pub(super) static PORT: Keys = keys("a port", &["name", "type", "port"]);
pub(super) static ENV: Keys = keys("a variable", &["value", "secret", "source"]);

/// Places that a misplaced key may belong to.
static PLACES: [(&str, &Keys); 6] = [
    ("at the top of the file", &RUN),
    ("under `resources`", &RESOURCES),
    ("in an item of `run`", &ITEM),
    ("under `interactive`", &INTERACTIVE),
    ("under `interactive.jupyter`", &JUPYTER),
    ("under `resources.requests`", &REQUESTS),
];

/// How GPUs are asked for.
const GPU_FORM: &str = "{nvidia.com/gpu: {quantity: 1}}";

/// What other programs call our keys.
static SYNONYMS: [(&str, &str); 7] = [
    ("branch", "ref"),
    ("tag", "ref"),
    ("commit", "ref"),
    ("revision", "ref"),
    ("cmd", "command"),
    ("cwd", "workdir"),
    ("working_dir", "workdir"),
];

/// What files of other tools have at their top, and what does it here.
static TRIED: [(&[&str], &str); 11] = [
    (
        &["retries", "retry", "max_retries", "retry_limit", "restart", "restart_policy", "backoff_limit"],
        "how often a run is tried again is said at submit: `vessl run create --retries N`",
    ),
    (
        &["max_runtime", "timeout", "time_limit"],
        "a time limit is given at the submit: `vessl run create --max-runtime 24h`; under `interactive`, `max_runtime` is that of a session",
    ),
    (&["strict"], "that is said at submit: `vessl run create --strict`"),
    (&["detach", "watch"], "`vessl run create` returns at once; `--watch` and `--wait` stay with the run"),
    (
        &["script", "scripts", "commands", "cmd", "entrypoint", "args", "setup"],
        "did you mean `run`? its items run one after the other: `run: [pip install -r requirements.txt, python train.py]`",
    ),
    (&["working_dir", "work_dir", "cwd"], "`workdir` belongs in an item of `run`"),
    (
        &["inputs", "input", "data", "datasets", "file_mounts", "code", "source"],
        "did you mean `import`, which copies in, or `mount`, which shows a directory of the machine?",
    ),
    (&["outputs", "output", "artifacts", "results"], "did you mean `export`?"),
    (&["labels", "label"], "did you mean `tags`?"),
    (&["variables", "vars"], "did you mean `env`?"),
    (&["secrets", "secret"], "did you mean `env: {NAME: {secret: stored-name}}`?"),
];

impl Keys {
    /// Whether `key` has a meaning here, old spellings included.
    pub(super) fn has(&self, key: &str) -> bool {
        self.known.contains(&key) || self.old.contains(&key)
    }

    /// What `key`, which has no meaning here, probably was meant to be.
    pub(super) fn advice(&self, key: &str) -> String {
        let is_top = self.what == RUN.what;
        if let Some((_, advice)) = TRIED.iter().find(|(words, _)| is_top && words.contains(&key)) {
            return (*advice).to_owned();
        }
        if let Some((place, _)) = PLACES.iter().find(|(_, keys)| keys.known.contains(&key)) {
            return format!("`{key}` belongs {place}");
        }
        if matches!(key, "gpu" | "gpus" | "num_gpus") || is_top && key == "accelerators" {
            match self.what {
                "`resources`" => return format!("did you mean `requests: {GPU_FORM}`?"),
                "a run" => return format!("did you mean `resources: {{requests: {GPU_FORM}}}`?"),
                _ => {}
            }
        }
        let synonym = SYNONYMS.iter().find(|(word, own)| *word == key && self.known.contains(own));
        match synonym.map(|(_, own)| *own).or_else(|| nearest(key, self.known)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if key.contains(' ') => "quote the whole text if the `:` belongs to it".to_owned(),
            None => format!("{} can have {}", self.what, list(self.known)),
        }
    }
}

/// Whether any map of the file has such a key.
pub(super) fn is_known(key: &str) -> bool {
    let more = [&GIT, &GPU, &IMAGE, &PORT, &ENV, &IMPORT, &MOUNT];
    PLACES.iter().map(|(_, keys)| *keys).chain(more).any(|keys| keys.has(key))
}

/// The one of `known` that is spelled most like `word`, if any is.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace(['-', ' '], "_");
    let alike = |key: &str| {
        // Similarity of beginnings says little about short words: there one slip of the keyboard decides.
        let slip = word.len() > 2 && strsim::osa_distance(&word, key) == 1;
        strsim::jaro_winkler(&word, key).max(if slip { 0.9 } else { 0.0 })
    };
    // `gpu` is meant for `nvidia.com/gpu`, `dataset` for `vessl-dataset`.
    let score = |key: &str| alike(key).max(alike(key.rsplit(['/', '-']).next().unwrap_or_default()));
    let scored = known.iter().map(|key| (score(key), *key));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score >= 0.78).map(|(_, key)| key)
}

/// `a`, `b` and `c`.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(|word| format!("`{word}`")).collect();
            format!("{} and `{last}`", most.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &Keys, wrong: &str, expected: &str) {
        assert_eq!(keys.advice(wrong), expected, "{wrong:?}");
    }

    #[test]
    fn advice() {
        check(&RUN, "imge", "did you mean `image`?");
        check(&RUN, "rnu", "did you mean `run`?");
        check(&RUN, "nmae", "did you mean `name`?");
        check(&RUN, "evn", "did you mean `env`?");
        check(&REQUESTS, "gpu", "did you mean `nvidia.com/gpu`?");
        check(&RESOURCES, "gpu", "did you mean `requests: {nvidia.com/gpu: {quantity: 1}}`?");
        check(&RUN, "gpus", "did you mean `resources: {requests: {nvidia.com/gpu: {quantity: 1}}}`?");
        check(&RUN, "exports", "did you mean `export`?");
        check(&RUN, "Name", "did you mean `name`?");
        check(&RUN, "termination-protection", "did you mean `termination_protection`?");
        check(
            &RUN,
            "script",
            "did you mean `run`? its items run one after the other: `run: [pip install -r requirements.txt, python train.py]`",
        );
        check(&RUN, "accelerators", "did you mean `resources: {requests: {nvidia.com/gpu: {quantity: 1}}}`?");
        check(&RUN, "outputs", "did you mean `export`?");
        check(&ITEM, "script", "an item of `run` can have `command`, `workdir` and `wait`");
        check(&RUN, "workdir", "`workdir` belongs in an item of `run`");
        check(&RUN, "cluster", "`cluster` belongs under `resources`");
        check(&RUN, "idle_timeout", "`idle_timeout` belongs under `interactive.jupyter`");
        check(&ITEM, "comand", "did you mean `command`?");
        check(&GIT, "branch", "did you mean `ref`?");
        check(
            &RUN,
            "commit",
            "a run can have `name`, `description`, `tags`, `resources`, `image`, `import`, `mount`, `export`, `run`, `interactive`, `ports`, `env`, `service_account_name` and `termination_protection`",
        );
        check(&ITEM, "echo a", "quote the whole text if the `:` belongs to it");
        check(&JUPYTER, "zzz", "`jupyter` can have `idle_timeout`");
        check(&IMAGE, "zzz", "`image` can have `url` and `credential_name`");
    }
}
