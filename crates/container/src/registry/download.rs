//! One blob into its part, continued where it stopped: after a cut connection at once, after a killed process by the next
//! pull if it was kept.
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use super::Registry;
use super::patience::Patience;
use crate::error::StoreError;
use crate::manifest::Descriptor;
use crate::part::{Fetched, Writer};

/// Bytes that must have come for the patience to begin anew.
const PROGRESS: u64 = 256 << 10;

impl Registry {
    /// Downloads what is missing of `blob`; bytes are counted into `fetched` as they come.
    pub(crate) async fn download(
        &self,
        blob: &Descriptor,
        part: &mut Writer,
        fetched: &Fetched,
    ) -> Result<(), StoreError> {
        let mut patience = Patience::new(&self.options);
        let mut moved_at = part.len();
        while part.len() < blob.size {
            let from = part.len();
            let response = self.get(&format!("blobs/{}", blob.digest), (from > 0).then_some(from)).await?;
            let skip = self.start(&response, from, blob)?;
            let Err(cut) = self.receive(response, skip, blob, (part, fetched)).await? else { continue };
            if part.len() >= moved_at + PROGRESS {
                moved_at = part.len();
                patience = Patience::new(&self.options);
            }
            patience.after_failure().await.map_err(|()| self.unreachable(cut))?;
        }
        Ok(())
    }

    /// How many bytes of the answer are already there: all before `from` if the registry does not know ranges.
    fn start(&self, response: &Response, from: u64, blob: &Descriptor) -> Result<u64, StoreError> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(from);
        }
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let begins = range.and_then(|r| r.strip_prefix("bytes ")?.split_once('-')?.0.parse::<u64>().ok());
        if begins == Some(from) {
            return Ok(0);
        }
        let reason = format!("it answers another range than was asked for blob `{}`", blob.digest);
        Err(self.unreachable(reason))
    }

    /// Receives one answer. The inner error is a passing one.
    async fn receive(
        &self,
        mut response: Response,
        mut skip: u64,
        blob: &Descriptor,
        (part, fetched): (&mut Writer, &Fetched),
    ) -> Result<Result<(), String>, StoreError> {
        loop {
            let mut chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if part.len() < blob.size => return Ok(Err("the connection was cut".into())),
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(self.failure(&error))),
            };
            let old = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= old as u64;
            bytes::Buf::advance(&mut chunk, old);
            if part.len() + chunk.len() as u64 > blob.size {
                let reason = format!("it is longer than the {} bytes that the manifest says", blob.size);
                return Err(StoreError::Corrupt { what: self.blob_name(blob), reason });
            }
            let done = part.append(&chunk).await;
            done.map_err(|e| StoreError::io("write a download in", fetched.store(), e))?;
            fetched.add(chunk.len() as u64);
        }
    }

    pub(crate) fn blob_name(&self, blob: &Descriptor) -> String {
        format!("blob `{}` of `{}`", blob.digest, self.named)
    }
}
