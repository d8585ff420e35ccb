//! Server-sent events: bytes of a `text/event-stream` to values. It opens no connection.
use http_body_util::BodyExt;
use hyper::body::Incoming;
use vessl_core::wire::RunEvent;

/// Largest event.
const LARGEST: usize = 16 << 20;

/// Events of one run, in order.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    lines: Lines,
}

impl Events {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, lines: Lines::default() }
    }

    /// The next event; `Ok(None)` when the server ended the stream, `Err` with words when it was cut off.
    pub(crate) async fn next(&mut self) -> Result<Option<RunEvent>, String> {
        loop {
            if let Some(data) = self.lines.next() {
                return serde_json::from_str(&data)
                    .map(Some)
                    .map_err(|e| format!("an event makes no sense: {e}"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(super::http::words(&e)),
                Some(Ok(frame)) => self.lines.feed(frame.data_ref().map_or(&[][..], |data| data))?,
            }
        }
    }
}

/// Splits the stream into the data of its events. Comments and fields other than `data` are skipped: every event
/// carries its own number.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    seen: usize,
    data: String,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.bytes.drain(..self.seen);
        self.seen = 0;
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() + self.data.len() > LARGEST {
            Err("an event is too large".to_owned())
        } else {
            Ok(())
        }
    }

    /// The data of the next whole event.
    fn next(&mut self) -> Option<String> {
        loop {
            let rest = &self.bytes[self.seen..];
            let end = rest.iter().position(|&b| b == b'\n')?;
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            self.seen += end + 1;
            let line = line.trim_end_matches('\r');
            if let Some(value) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value.strip_prefix(' ').unwrap_or(value));
            } else if line.is_empty() && !self.data.is_empty() {
                return Some(std::mem::take(&mut self.data));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_arrive_whole_however_the_bytes_are_cut() {
        let stream = b": hello\n\nid: 1\ndata: {\"a\":1}\n\nid: 2\r\ndata:x\r\ndata: y\r\n\r\ndata: half";
        for size in 1..stream.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for part in stream.chunks(size) {
                lines.feed(part).unwrap();
                got.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(got, ["{\"a\":1}", "x\ny"], "in pieces of {size}");
        }
    }
}
