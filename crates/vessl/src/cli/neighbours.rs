//! What people type who know other tools, and what does it here. It knows no rule and prints nothing.

/// A command, what people give it that it does not take, and what does it.
type Neighbours = [(&'static str, &'static [&'static str], &'static str)];

const FLAGS: &Neighbours = &[
    (
        "vessl run create",
        &["-d", "--detach", "--detached", "--background", "--no-wait", "--async"],
        "`vessl run create` returns at once and leaves the run running; `--watch` and `--wait` stay with it",
    ),
    (
        "vessl run create",
        &["--follow", "--attach", "-a", "--logs"],
        "`--watch` shows what happens and the log until the run has ended",
    ),
    (
        "vessl run create",
        &["--rm"],
        "the container always goes with its run; `vessl run delete ID` removes the record and the files too",
    ),
    (
        "vessl run create",
        &["-v", "--volume", "--mount", "--bind", "-B"],
        "directories of the machine stand in the file: `mount: {/data: hostpath:///srv/data}`",
    ),
    (
        "vessl run create",
        &["-p", "--publish", "--port", "--ports", "--expose"],
        "ports stand in the file: `ports: [8000]`",
    ),
    (
        "vessl run create",
        &["--workdir", "--cwd", "--chdir", "--pwd"],
        "the directory stands in the file, in an item of `run`: `{command: python train.py, workdir: /code}`",
    ),
    (
        "vessl run create",
        &["-c", "--command", "--cmd", "--entrypoint", "--wrap"],
        "the commands stand in the file: `run: [python train.py]`",
    ),
    (
        "vessl run create",
        &["-i", "-it", "--interactive", "--tty", "--pty"],
        "`vessl run shell ID` opens a shell in a run that runs; `--watch` shows its log",
    ),
    (
        "vessl run create",
        &["--gpu", "--cpus", "-m", "--mem", "--resources", "--requests"],
        "`--cpu N`, `--memory SIZE` and `--gpus N` say the size, or `resources: {requests: …}` in the file",
    ),
    (
        "vessl run create",
        &["-t", "--time", "--timeout", "--time-limit"],
        "`--max-runtime TIME` ends the run, with its exports, when its commands have run so long",
    ),
    (
        "vessl run create",
        &["--retry", "--restart", "--requeue", "--max-retries"],
        "`--retries N` tries the run again when it fails or is lost",
    ),
    (
        "vessl run create",
        &["-n", "--dry-run", "--dryrun", "--check", "--validate"],
        "`vessl run validate FILE` checks a file and submits nothing",
    ),
    (
        "vessl run create",
        &["--network", "--net"],
        "a run shares the network of its machine; there is nothing to set",
    ),
    ("vessl run create", &["--image"], "the image stands in the file: `image: python:3.12-slim`"),
    ("vessl run create", &["-l", "--label"], "`--tag TAG` adds a tag to find the run by"),
    ("vessl run logs", &["-n", "--lines"], "`--tail N` begins N lines before the end"),
    ("vessl run terminate", &["-f", "--force", "-9", "--kill", "--now"], "`--grace 0` kills at once"),
    ("vessl run terminate", &["-t", "--time", "--timeout"], "`--grace TIME` is how long it may take"),
    (
        "vessl dataset create",
        &["-e", "--external-path", "--aws-role-arn"],
        "a dataset keeps its files itself; a run imports a bucket as it is: `import: {/data: s3://BUCKET/PREFIX}`",
    ),
    ("vessl dataset create", &["--enable-versioning", "--version-path"], "every dataset has versions"),
    (
        "vessl dataset create",
        &["--is-public"],
        "a dataset belongs to its organization; nothing here is public",
    ),
    (
        "vessl storage create",
        &["--cluster-name"],
        "a storage is there for every cluster of this server: leave it out",
    ),
    (
        "vessl model create",
        &["--experiment-id"],
        "a run makes a model by itself: `export: {/output: vessl-model://ORGANIZATION/REPOSITORY}`",
    ),
    ("vessl run delete", &["-f", "--force"], "end a run first: `vessl run terminate ID`"),
];

const COMMANDS: &Neighbours = &[
    ("vessl run", &["stop", "kill", "cancel", "abort", "end"], "`vessl run terminate ID`"),
    ("vessl run", &["rm", "remove"], "`vessl run delete ID`"),
    ("vessl run", &["ls", "ps"], "`vessl run list`"),
    ("vessl run", &["show", "get", "describe", "inspect", "status", "info"], "`vessl run read ID`"),
    ("vessl run", &["submit", "start", "new", "launch", "run"], "`vessl run create -f FILE`"),
    ("vessl run", &["log", "tail", "follow", "attach", "watch"], "`vessl run logs -f ID`"),
    ("vessl run", &["retry", "rerun", "requeue", "resume"], "`vessl run restart ID`"),
    ("vessl run", &["pull"], "`vessl run download ID`"),
    ("vessl run", &["check", "lint"], "`vessl run validate FILE`"),
    ("vessl run", &["sh", "bash", "terminal", "console"], "`vessl run shell ID`"),
    ("vessl run", &["forward", "proxy", "tunnel", "expose"], "`vessl run port-forward ID PORT`"),
    ("vessl run", &["copy", "scp"], "`vessl run cp ID:PATH DEST`"),
    ("vessl dataset", &["ls"], "`vessl dataset list`, and `vessl dataset list-files NAME` for its files"),
    ("vessl dataset", &["push", "add", "put"], "`vessl dataset upload NAME SOURCE DEST`"),
    ("vessl dataset", &["pull", "get", "fetch"], "`vessl dataset download NAME SOURCE DEST`"),
    (
        "vessl dataset",
        &["cp"],
        "`vessl dataset copy NAME SOURCE DEST`; `upload` and `download` bring files in and out",
    ),
    (
        "vessl dataset",
        &["rm", "remove"],
        "`vessl dataset delete-file NAME PATH`, or `vessl dataset delete NAME`",
    ),
    ("vessl dataset", &["show", "describe", "inspect", "info"], "`vessl dataset read NAME`"),
    ("vessl model", &["register"], "`vessl model create REPOSITORY --source DIR`"),
    ("vessl model", &["ls"], "`vessl model list REPOSITORY`"),
    (
        "vessl model",
        &["serve", "launch"],
        "this version serves no models; a run can: `vessl run create -f FILE`",
    ),
    ("vessl storage", &["cp", "copy", "upload", "download"], "`vessl storage copy-file SOURCE DEST`"),
    ("vessl storage", &["ls"], "`vessl storage list`, `list-volumes --storage-name NAME`, `list-files PATH`"),
    ("vessl storage", &["rm"], "`vessl storage delete-file PATH`"),
    (
        "vessl",
        &["volume", "volumes"],
        "volumes belong to a storage: `vessl storage list-volumes --storage-name NAME`",
    ),
    ("vessl", &["datasets"], "`vessl dataset list`"),
    ("vessl", &["models"], "`vessl model-repository list`"),
    ("vessl", &["create", "submit", "start", "launch"], "`vessl run create -f FILE`"),
    ("vessl", &["ls", "ps", "list"], "`vessl run list`"),
    ("vessl", &["log", "logs", "attach"], "`vessl run logs -f ID`"),
    ("vessl", &["stop", "kill", "cancel", "terminate"], "`vessl run terminate ID`"),
    ("vessl", &["restart", "retry", "rerun"], "`vessl run restart ID`"),
    ("vessl", &["rm", "delete"], "`vessl run delete ID`"),
    ("vessl", &["get", "describe", "inspect", "status", "read", "show"], "`vessl run read ID`"),
    ("vessl", &["validate", "check"], "`vessl run validate FILE`"),
    ("vessl", &["download", "cp"], "`vessl run download ID`"),
    ("vessl", &["files", "explain", "update"], "this belongs behind `vessl run`"),
    ("vessl", &["pull"], "`vessl image pull REFERENCE`"),
    ("vessl", &["images"], "`vessl image list`"),
    (
        "vessl",
        &["login", "config"],
        "`vessl configure`; a login of a registry: `vessl credential create NAME`",
    ),
    (
        "vessl server",
        &["start", "up"],
        "the server starts by itself when a command needs it; `vessl server run` runs it in the foreground",
    ),
    ("vessl server", &["down", "kill"], "`vessl server stop`"),
];

/// What does here what the flag `word` does elsewhere; `usage` is of the command that it was given to.
pub(super) fn of_flag(usage: &str, word: &str) -> Option<&'static str> {
    let bare = word.split('=').next().unwrap_or_default();
    FLAGS.iter().find(|(of, words, _)| usage.contains(of) && words.contains(&bare)).map(|(.., tip)| *tip)
}

/// The same for a command.
pub(super) fn of_command(usage: &str, word: &str) -> Option<&'static str> {
    let path = path(usage).collect::<Vec<_>>().join(" ");
    COMMANDS.iter().find(|(of, words, _)| path == *of && words.contains(&word)).map(|(.., tip)| *tip)
}

/// The words of the command that a usage is of, from `vessl` on.
pub(super) fn path(usage: &str) -> impl Iterator<Item = &str> {
    let words = usage.split_whitespace().skip_while(|part| *part != "vessl");
    words.take_while(|part| !part.starts_with(['[', '<', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word that has a meaning here needs no neighbour.
    #[test]
    fn nothing_here_is_a_word_of_another_tool() {
        let mut all = crate::cli::definition();
        all.build();
        for (of, words, _) in FLAGS {
            let command = of.split(' ').skip(1).fold(&all, |at, name| at.find_subcommand(name).unwrap());
            for arg in command.get_arguments() {
                let long = arg.get_long().map(|long| format!("--{long}"));
                let short = arg.get_short().map(|short| format!("-{short}"));
                let flag = long.iter().chain(&short).find(|flag| words.contains(&flag.as_str()));
                assert_eq!(flag, None, "is a flag of `{of}`");
            }
        }
        for (of, words, _) in COMMANDS {
            let command = of.split(' ').skip(1).fold(&all, |at, name| at.find_subcommand(name).unwrap());
            for word in *words {
                assert!(command.find_subcommand(word).is_none(), "`{of} {word}` is a command");
            }
        }
    }

    #[test]
    fn the_command_is_read_from_its_usage() {
        let check =
            |usage, word, expected: Option<&str>| assert_eq!(of_command(usage, word), expected, "{usage}");
        check("Usage: vessl run [OPTIONS] <COMMAND>", "ps", Some("`vessl run list`"));
        check("Usage: vessl [OPTIONS] <COMMAND>", "pull", Some("`vessl image pull REFERENCE`"));
        check("Usage: vessl image [OPTIONS] <COMMAND>", "pull", None);
        check("Usage: vessl run [OPTIONS] <COMMAND>", "sing", None);
        assert!(of_flag("Usage: vessl run create --file <FILE>", "--detach").is_some());
        assert!(of_flag("Usage: vessl run list", "--detach").is_none());
    }
}
