//! What the process of a connection asks the server, a JSON line each way, over the socket that it was started with.
use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Longest line in bytes.
const LONGEST: u64 = 64 << 10;

/// Somebody has proved that a key is theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The user name, which names a run.
    pub user: String,
    /// Which key.
    pub fingerprint: String,
}

/// What the server says to that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "say")]
pub enum Answer {
    /// The run can be reached; this is its directory.
    Run {
        /// Directory of its attempt.
        dir: PathBuf,
    },
    /// The key is good, but there is no way into what was named.
    No {
        /// In words.
        why: String,
    },
    /// Nobody knows the key.
    Stranger,
}

/// Reads the next line; `None` at the end.
pub async fn receive<T: DeserializeOwned>(from: &mut UnixStream) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    BufReader::new(from.take(LONGEST)).read_until(b'\n', &mut line).await?;
    if line.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&line)?)) }
}

/// Writes a line. The other side sends nothing before it has read it.
pub async fn send(to: &mut UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_cross() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let question = Question { user: "train".to_owned(), fingerprint: "SHA256:x".to_owned() };
        send(&mut near, &question).await.unwrap();
        assert_eq!(receive(&mut far).await.unwrap(), Some(question));
        let answer = Answer::No { why: "no".to_owned() };
        send(&mut far, &answer).await.unwrap();
        assert_eq!(receive(&mut near).await.unwrap(), Some(answer));
        drop(far);
        assert_eq!(receive::<Answer>(&mut near).await.unwrap(), None);
    }
}
