//! Where wheels come from: a directory of the machine, or a package index (PEP 691, or the older PEP 503). What comes is checked against the
//! lock, so neither has to be trusted.
use std::io;
use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use vessl_core::jupyter::{DEFAULT_INDEX, INDEX_VARIABLE, WHEELS_VARIABLE};
use vessl_data::fetch::{Client, FetchError, Proxy, RetryPolicy, Sink};

use crate::lock::Wheel;

/// Both kinds of answers, the newer one first.
const ACCEPT: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";
/// Largest list of files of one package in bytes.
const LARGEST_LIST: u64 = 32 << 20;

/// Why a wheel is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WheelError {
    /// The directory lacks it.
    #[error(
        "`{file}` is not in `{}` (`jupyter_wheels`); `vessl jupyter requirements` says which wheels are needed",
        dir.display()
    )]
    NotThere {
        /// Its name.
        file: &'static str,
        /// The directory.
        dir: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The index does not have it.
    #[error("the package index {index} does not have `{file}`{}", status.map(|status| format!(" (status {status})")).unwrap_or_default())]
    Unknown {
        /// Address of the index.
        index: String,
        /// Its name.
        file: &'static str,
        /// What the index answered.
        status: Option<u16>,
    },
    /// The index cannot be asked.
    #[error("cannot fetch `{file}` from {index}: {source}")]
    Fetch {
        /// Address of the index.
        index: String,
        /// Its name.
        file: &'static str,
        /// Why.
        source: FetchError,
    },
    /// Its bytes are others.
    #[error(
        "`{file}` from {from} is not the file of the lock: its digest is another one. Nothing of it was used"
    )]
    Digest {
        /// Its name.
        file: &'static str,
        /// Where it is from.
        from: String,
    },
}

impl WheelError {
    /// Whether another try, a while later, may go well without anybody doing anything.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Fetch { .. } | Self::Unknown { .. })
    }
}

/// Where wheels come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A directory.
    Dir(PathBuf),
    /// An index.
    Index {
        /// Its address, without a `/` at its end.
        url: String,
        /// Who asks.
        http: Client,
    },
}

impl Source {
    /// As the server's settings say.
    pub(crate) fn of_settings() -> Result<Self, FetchError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(dir) = set(WHEELS_VARIABLE) {
            return Ok(Self::Dir(dir.into()));
        }
        let url = set(INDEX_VARIABLE).and_then(|url| url.into_string().ok());
        let url = url.unwrap_or_else(|| DEFAULT_INDEX.to_owned()).trim_end_matches('/').to_owned();
        let is_here =
            ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|at| url.starts_with(at));
        let proxy = if is_here { Proxy::None } else { Proxy::Environment };
        Ok(Self::Index { url, http: Client::new(&RetryPolicy::default(), proxy)? })
    }

    /// The bytes of a wheel, which are those of the lock.
    pub(crate) async fn wheel(&self, wheel: &Wheel) -> Result<Vec<u8>, WheelError> {
        let (bytes, from) = match self {
            Self::Dir(dir) => {
                let path = dir.join(wheel.file);
                let bytes = tokio::fs::read(&path).await.map_err(|source| match source.kind() {
                    io::ErrorKind::NotFound => WheelError::NotThere { file: wheel.file, dir: dir.clone() },
                    _ => WheelError::Read { path, source },
                })?;
                (bytes, format!("`{}`", dir.display()))
            }
            Self::Index { url, http } => (fetch(http, url, wheel).await?, url.clone()),
        };
        let digest = Sha256::digest(&bytes);
        let digest = digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let is_it = digest == wheel.sha256;
        if is_it { Ok(bytes) } else { Err(WheelError::Digest { file: wheel.file, from }) }
    }
}

async fn fetch(http: &Client, index: &str, wheel: &Wheel) -> Result<Vec<u8>, WheelError> {
    let file = wheel.file;
    let failed = |source| WheelError::Fetch { index: index.to_owned(), file, source };
    let unknown = |status| WheelError::Unknown { index: index.to_owned(), file, status };
    let url = format!("{index}/{}/", wheel.package);
    let answer = http.ask(|| http.get(&url).header("accept", ACCEPT)).await.map_err(failed)?;
    if !answer.status().is_success() {
        return Err(unknown(Some(answer.status().as_u16())));
    }
    let base = answer.url().clone();
    let list = http.body(answer, LARGEST_LIST).await.map_err(failed)?;
    let place = place(&list, file).ok_or_else(|| unknown(None))?;
    let at = base.join(&place).map_err(|_| unknown(None))?;
    let mut memory = Memory(Vec::new());
    let ask = async |from: Option<u64>| {
        let request = || {
            let request = http.get(at.clone());
            match from {
                Some(from) => request.header("range", format!("bytes={from}-")),
                None => request,
            }
        };
        let answer = http.ask(request).await.map_err(failed)?;
        if answer.status().is_success() { Ok(answer) } else { Err(unknown(Some(answer.status().as_u16()))) }
    };
    http.download(wheel.size, &mut memory, ask, failed).await?;
    Ok(memory.0)
}

struct Memory(Vec<u8>);

impl Sink for Memory {
    fn received(&self) -> u64 {
        self.0.len() as u64
    }

    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Where a list of the files of a package says that one of them is.
fn place(list: &[u8], file: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Page {
        files: Vec<File>,
    }
    #[derive(Deserialize)]
    struct File {
        filename: String,
        url: String,
    }
    if let Ok(page) = serde_json::from_slice::<Page>(list) {
        return page.files.into_iter().find(|one| one.filename == file).map(|one| one.url);
    }
    // The older form is a page of links; only what stands in them matters.
    let page = String::from_utf8_lossy(list);
    let link = |part: &str| {
        let quote = part.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let link = part[1..].split(quote).next()?.replace("&amp;", "&");
        let bare = link.split(['#', '?']).next()?;
        let name = bare.rsplit('/').next()?.replace("%2B", "+").replace("%2b", "+");
        (name == file).then_some(link)
    };
    page.split("href=").skip(1).find_map(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_in_both_kinds_of_lists() {
        let json = br#"{"files": [{"filename": "a-1.whl", "url": "../../a-1.whl"}, {"filename": "a-2.whl", "url": "x"}]}"#;
        assert_eq!(place(json, "a-1.whl").as_deref(), Some("../../a-1.whl"));
        assert_eq!(place(json, "a-3.whl"), None);
        let html = br#"<html><a href="https://h/p/a-1.whl#sha256=00" data-x="y">a-1.whl</a>
            <a href='a-2%2B1.whl?k=1&amp;s=2'>a-2+1.whl</a></html>"#;
        assert_eq!(place(html, "a-1.whl").as_deref(), Some("https://h/p/a-1.whl#sha256=00"));
        assert_eq!(place(html, "a-2+1.whl").as_deref(), Some("a-2%2B1.whl?k=1&s=2"));
        assert_eq!(place(b"<a href=>", "a"), None);
    }
}
