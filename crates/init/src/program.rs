//! A program on its way to `execve`: where it is, what a process undoes before it, and how a failure is told. What else a process
//! does before is its caller's.
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

use crate::refusal::Refusal;

/// What the shell says when a program is not there.
const NOT_FOUND: i32 = 127;

/// What to execute, made before the fork.
pub(crate) struct Program {
    /// File and arguments, tried in this order.
    pub(crate) candidates: Vec<(CString, Vec<CString>)>,
    pub(crate) env: Vec<CString>,
    /// Said when no candidate exists.
    pub(crate) missing: String,
}

impl Program {
    /// The program that is the first of `argv`, searched in the `PATH` of `env` if it has no slash.
    pub(crate) fn of(argv: &[String], env: &[String]) -> Result<Self, Refusal> {
        let name = argv.first().ok_or_else(|| Refusal::new("there is no program to run".to_owned()))?;
        let argv = c_strings(argv)?;
        let files = c_strings(&search(name, env))?;
        Ok(Self {
            candidates: files.into_iter().map(|file| (file, argv.clone())).collect(),
            env: c_strings(env)?,
            missing: format!("no program `{name}` in the image"),
        })
    }
}

/// Where a program may be: itself if it has a slash, else each directory of `PATH`.
fn search(name: &str, env: &[String]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
    path.split(':').map(|dir| format!("{}/{name}", if dir.is_empty() { "." } else { dir })).collect()
}

pub(crate) fn c_strings(texts: &[String]) -> Result<Vec<CString>, Refusal> {
    let convert = |text: &String| CString::new(text.as_bytes());
    texts.iter().map(convert).collect::<Result<_, _>>().map_err(|_| {
        Refusal::new(
            "a variable or an argument holds a NUL character, which no program can be given".to_owned(),
        )
    })
}

/// Undoes what the Rust runtime, init and whoever started the agent changed.
pub(crate) fn default_signals() -> nix::Result<()> {
    for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of ours.
        #[allow(unsafe_code)]
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    SigSet::empty().thread_set_mask()
}

/// Makes `to` another name of `from`, which a program keeps over `execve`.
pub(crate) fn duplicate(from: &OwnedFd, to: i32) -> nix::Result<()> {
    if from.as_raw_fd() == to {
        // The kernel would do nothing, and `execve` would close it.
        return fcntl(from, FcntlArg::F_SETFD(FdFlag::empty())).map(drop);
    }
    // SAFETY: plain numbers; `to` is not owned by any object of this process.
    #[allow(unsafe_code)]
    let result = unsafe { libc::dup2(from.as_raw_fd(), to) };
    Errno::result(result).map(drop)
}

/// Becomes it; returns only if that was not possible.
pub(crate) fn execute(program: &Program) -> Refusal {
    let mut last = None;
    for (file, argv) in &program.candidates {
        let Err(error) = nix::unistd::execve(file, argv, &program.env);
        if !matches!(error, Errno::ENOENT | Errno::ENOTDIR) {
            last = Some((file, error));
        }
    }
    let Some((file, error)) = last else {
        return Refusal { why: program.missing.clone(), exit_code: NOT_FOUND };
    };
    Refusal::os(&format!("run `{}`", file.to_string_lossy()), error)
}

/// Sends a refusal from the child to its parent: the exit code as one byte, then the words.
pub(crate) fn report(pipe: OwnedFd, refusal: &Refusal) {
    let mut bytes = vec![u8::try_from(refusal.exit_code).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(refusal.why.as_bytes());
    // If it cannot be told, the exit code still says that it failed.
    let _ = File::from(pipe).write_all(&bytes);
}

/// Waits until the child has executed its program (the pipe closes) or has told why not.
pub(crate) fn receive(pipe: OwnedFd) -> Option<Refusal> {
    let mut bytes = Vec::new();
    File::from(pipe).read_to_end(&mut bytes).ok()?;
    parse(&bytes)
}

/// What [`report`] wrote, if anything.
pub(crate) fn parse(bytes: &[u8]) -> Option<Refusal> {
    let (code, why) = bytes.split_first()?;
    Some(Refusal { why: String::from_utf8_lossy(why).into_owned(), exit_code: i32::from(*code) })
}

#[cfg(test)]
mod tests {
    use nix::fcntl::OFlag;

    use super::*;

    fn check(name: &str, env: &[&str], expected: &[&str]) {
        let env: Vec<String> = env.iter().map(ToString::to_string).collect();
        assert_eq!(search(name, &env), expected);
    }

    #[test]
    fn programs_are_searched_in_the_path() {
        check("/bin/x", &["PATH=/a"], &["/bin/x"]);
        check("./x", &["PATH=/a"], &["./x"]);
        check("x", &["PATH=/a:/b"], &["/a/x", "/b/x"]);
        check("x", &["PATH=/a", "PATH=/b"], &["/b/x"]);
        check("x", &["PATH=:/b"], &["./x", "/b/x"]);
    }

    #[test]
    fn text_with_nul_is_refused() {
        assert!(c_strings(&["a\0b".to_owned()]).is_err());
    }

    #[test]
    fn a_refusal_crosses_the_pipe() {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let refusal = Refusal { why: "no".to_owned(), exit_code: NOT_FOUND };
        report(write, &refusal);
        assert_eq!(receive(read), Some(refusal));
    }
}
