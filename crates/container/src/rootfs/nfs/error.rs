//! Why an NFS export is not mounted, from error numbers of the kernel to words for people.
use std::io;
use std::time::Duration;

/// Why an NFS export is not mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NfsError {
    /// Server or path cannot be one.
    #[error("`{text}` cannot be mounted by NFS: {why}")]
    Bad {
        /// As written.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The kernel has no client, and no module with one.
    #[error("this machine's kernel has no NFS client (`nfs` module), so `{0}` cannot be mounted")]
    NoClient(String),
    /// An ordinary user asks, or root of a container.
    #[error(
        "`{0}` cannot be mounted: only root of the machine may mount NFS; run the server as root, or mount it on the machine and use `hostpath`"
    )]
    NotAllowed(String),
    /// The name of the server leads nowhere.
    #[error("`{url}` cannot be mounted: the name of the server has no address ({said})")]
    NoAddress {
        /// The export.
        url: String,
        /// In the system's words.
        said: String,
    },
    /// The server did not answer in time.
    #[error("`{url}` cannot be mounted: the server did not answer within {} s", within.as_secs())]
    TimedOut {
        /// The export.
        url: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// The server or the kernel refused.
    #[error("`{url}` cannot be mounted: {why}{}", quoted(said))]
    Refused {
        /// The export.
        url: String,
        /// The meaning of the error number.
        why: String,
        /// What else the kernel said.
        said: Vec<String>,
    },
    /// Something of this machine failed.
    #[error("`{url}` cannot be mounted: cannot {what}: {source}")]
    Os {
        /// The export.
        url: String,
        /// The step.
        what: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// The caller wanted no more.
    #[error("stopped")]
    Stopped,
}

fn quoted(said: &[String]) -> String {
    if said.is_empty() { String::new() } else { format!(" (the kernel says: {})", said.join("; ")) }
}

/// What an error number means when an export is mounted.
pub(super) fn meaning(errno: i32) -> String {
    let known = match errno {
        libc::EACCES => "the server does not export it to this machine, or not as it was asked for",
        libc::EPERM => "the machine or the server does not permit it",
        libc::ENOENT => "the server has no such directory",
        libc::ENOTDIR => "it is not a directory",
        libc::ECONNREFUSED => "nothing serves NFS there (port 2049)",
        libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::EHOSTDOWN => "the server cannot be reached",
        libc::ENETUNREACH => "there is no way to the server's network",
        libc::ECONNRESET | libc::EPIPE => "the server ended the connection",
        libc::EPROTONOSUPPORT | libc::EOPNOTSUPP => "the server speaks none of NFS 4.2, 4.1 and 4.0",
        libc::ESTALE => "the server has given the directory up",
        libc::EREMOTEIO | libc::EIO => "the server failed",
        libc::EINVAL => "the kernel refuses the options of the mount",
        libc::ENAMETOOLONG => "its path is too long",
        libc::ENOMEM => "this machine has no memory left",
        libc::EBUSY => "the kernel is still busy with a mount of it",
        _ => return io::Error::from_raw_os_error(errno).to_string(),
    };
    known.to_owned()
}

/// Words of the kernel about a mount: each line begins with `e`, `w` or `i` for its weight. Informative ones are left out, and what
/// says nothing.
pub(super) fn plain(line: &str) -> Option<String> {
    let words = line.trim().strip_prefix("e ").or(line.trim().strip_prefix("w "))?;
    let words: String = words.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    (!words.is_empty() && !words.contains(SAYS_NOTHING)).then_some(words)
}

/// What the client says about every mount that fails, whatever the reason.
const SAYS_NOTHING: &str = "Couldn't follow remote path";

/// Most characters of a line that are told.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_in_words() {
        let check = |errno: i32, said: &[&str], expected: &str| {
            let said = said.iter().filter_map(|line| plain(line)).collect();
            let error = NfsError::Refused { url: "nfs://h/x".into(), why: meaning(errno), said };
            assert_eq!(error.to_string(), format!("`nfs://h/x` cannot be mounted: {expected}"));
        };
        check(libc::EACCES, &[], "the server does not export it to this machine, or not as it was asked for");
        check(
            libc::ENOENT,
            &["i nfs4: trying\n", "e NFS4: Couldn't follow remote path\n"],
            "the server has no such directory",
        );
        check(
            libc::EINVAL,
            &["e nfs4: Bad value for 'vers'\n", "w nfs4: odd\u{1b}[1m"],
            "the kernel refuses the options of the mount (the kernel says: nfs4: Bad value for 'vers'; nfs4: odd[1m)",
        );
        check(libc::EXDEV, &["", "e "], "Invalid cross-device link (os error 18)");
        check(libc::EPROTONOSUPPORT, &[], "the server speaks none of NFS 4.2, 4.1 and 4.0");
    }
}
