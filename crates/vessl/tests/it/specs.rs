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

/// Commands that fill a directory with 32 MiB under 2 to the power of `doublings` names: little to make, and much to export,
/// because each name becomes a file of its own. Holes would not do.
pub(crate) fn much(dir: &str, doublings: usize) -> String {
    let names: Vec<String> = (0..doublings).map(|n| format!("more-{n}")).collect();
    format!(
        "mkdir -p {dir}/first && cd {dir} && head -c 33554432 /dev/urandom > first/x\n\
         for d in {}; do set -- *; mkdir $d; cp -al \"$@\" $d; done",
        names.join(" ")
    )
}
