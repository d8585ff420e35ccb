//! The log of a run as the server sends it.
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::log::{Next, Records};

/// Records of one log, in order.
#[derive(Debug)]
pub(crate) struct Logs {
    body: Incoming,
    bytes: Records,
}

impl Logs {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, bytes: Records::default() }
    }

    /// What comes next; `Err` with words when the stream was cut off.
    pub(crate) async fn next(&mut self) -> Result<Next, String> {
        loop {
            if let Some(next) = self.bytes.next()? {
                return Ok(next);
            }
            match self.body.frame().await {
                None => return Ok(Next::NoMore),
                Some(Err(e)) => return Err(super::http::words(&e)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.bytes.feed(data);
                    }
                }
            }
        }
    }
}
