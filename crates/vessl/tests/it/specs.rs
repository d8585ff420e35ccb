//! Run files that the tests submit.

/// A run of this machine's own root file system with one command.
pub(crate) fn host(command: &str) -> String {
    format!("{}{}", head("host://"), item(command))
}

/// Everything before the commands.
pub(crate) fn head(image: &str) -> String {
    format!("name: test\nimage: {image}\nresources:\n  requests: {{cpu: 250m, memory: 64Mi}}\n")
}

/// One command.
pub(crate) fn item(command: &str) -> String {
    format!("run:\n  - command: |\n      {}\n", command.replace('\n', "\n      "))
}

/// A run that says `ready` and goes on until it is ended, which it takes well.
pub(crate) fn endless() -> String {
    host("echo ready\nsleep 1000")
}
