//! What ends a connection from outside: its key is good no more, or the run has ended.
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use vessl_core::record::{Control, ControlReply};
use vessl_reach::agent;

use crate::keys::Place;

/// How often is looked whether the agent of a run is there: one that is killed leaves no word.
const LOOK: Duration = Duration::from_secs(15);
/// So many looks in a row that found nobody are believed.
const LOOKS: u32 = 2;

/// Waits until one of both is so, and says which.
pub(crate) async fn over(keys: &Place, fingerprint: &str, dir: &Path) -> String {
    let over = tokio::select! {
        over = until_over(keys, fingerprint, dir) => over,
        () = until_lost(dir) => return "the run cannot be reached any more".to_owned(),
    };
    match over {
        Ok(why) => why,
        // Whoever cannot be told of the end of a right does not keep it.
        Err(error) => format!("the files of the server cannot be watched: {error}"),
    }
}

async fn until_lost(dir: &Path) {
    let mut missed = 0;
    while missed < LOOKS {
        tokio::time::sleep(LOOK).await;
        let answer: io::Result<ControlReply> = agent::ask(dir, &Control::Ping).await;
        let nobody = answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        missed = if nobody { missed + 1 } else { 0 };
    }
}

/// Waits until the client at the other end of a connection has gone. Somebody who waits for a program that does not read sees nothing of
/// that; the kernel does.
pub(crate) async fn gone(connection: OwnedFd) {
    let mut missed = 0;
    while missed < LOOKS {
        tokio::time::sleep(LOOK).await;
        let mut fds = [PollFd::new(&connection, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_gone = poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0);
        missed = if is_gone { missed + 1 } else { 0 };
    }
}

async fn until_over(keys: &Place, fingerprint: &str, dir: &Path) -> io::Result<String> {
    let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    add_watch(&watch, keys.dir(), WatchFlags::MOVED_TO | WatchFlags::DELETE)?;
    let of_run = WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::DELETE_SELF;
    add_watch(&watch, dir, of_run)?;
    let changes = changes(watch)?;
    loop {
        if !keys.is_good(fingerprint) {
            return Ok("the key was deleted on the server".to_owned());
        }
        if dir.join("exit.json").exists() || !dir.exists() {
            return Ok("the run has ended".to_owned());
        }
        let mut ready = changes.readable().await?;
        let mut bytes = [0; 4096];
        loop {
            match rustix::io::read(changes.get_ref(), &mut bytes) {
                Ok(1..) | Err(Errno::INTR) => {}
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        ready.clear_ready();
    }
}

#[expect(
    deprecated,
    reason = "a descriptor keeps its number for its life, which is what the unsafe constructor asks for"
)]
fn changes(watch: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(watch)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    async fn until(waiting: impl Future<Output = String>, work: impl FnOnce()) -> String {
        let waited = async {
            tokio::pin!(waiting);
            tokio::select! {
                biased;
                why = &mut waiting => panic!("too early: {why}"),
                () = tokio::time::sleep(Duration::from_millis(20)) => work(),
            }
            waiting.await
        };
        tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap()
    }

    #[tokio::test]
    async fn a_key_that_is_deleted_and_a_run_that_ends_end_a_connection() {
        let (keys, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = Place::new(keys.path());
        place.make().unwrap();
        let good = |all: &[&str]| place.set_good(all.iter().copied()).unwrap();
        good(&["a", "b"]);
        let why = until(over(&place, "a", dir.path()), || good(&["b"])).await;
        assert_eq!(why, "the key was deleted on the server");
        assert_eq!(over(&place, "a", dir.path()).await, why);
        let end = || {
            std::fs::write(dir.path().join("new"), "{}").unwrap();
            std::fs::rename(dir.path().join("new"), dir.path().join("exit.json")).unwrap();
        };
        assert_eq!(until(over(&place, "b", dir.path()), end).await, "the run has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_gone_is_seen_whatever_lies_in_between() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        (&client).write_all(b"not read").unwrap();
        let waiting = gone(ours.into());
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(LOOK * 10, &mut waiting).await.is_err(), "it is there");
        drop(client);
        tokio::time::timeout(LOOK * 10, waiting).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_was_killed_leaves_a_socket_that_nobody_has() {
        let dir = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("control.sock")).unwrap());
        tokio::time::timeout(LOOK * 10, until_lost(dir.path())).await.unwrap();
    }
}
