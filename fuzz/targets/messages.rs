//! Messages between processes and records on disk: any bytes are a document or an error, and a document survives writing.
#![no_main]
use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use vessl_core::frame::{Frames, encode};
use vessl_core::logwire::{HEADER, Header};
use vessl_core::record::{Event, ExitRecord, InitAsk, InitReport, Marks};
use vessl_core::wire::Problem;

fuzz_target!(|bytes: &[u8]| {
    if let Some(header) = bytes.get(..HEADER).and_then(Header::decode) {
        assert_eq!(Header::decode(&header.encode()), Some(header));
    }
    Marks::new(u32::MAX).feed(bytes);
    frames(bytes);
    record::<Event>(bytes);
    record::<ExitRecord>(bytes);
    record::<InitAsk>(bytes);
    record::<InitReport>(bytes);
    record::<Problem>(bytes);
});

/// The same documents come out, however the bytes are cut.
fn frames(bytes: &[u8]) {
    let read = |size: usize| {
        let (mut frames, mut got) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(size.max(1)) {
            frames.push(piece);
            loop {
                match frames.pop::<InitReport>() {
                    Ok(Some(report)) => got.push(report),
                    Ok(None) => break,
                    Err(_) => return got,
                }
            }
        }
        got
    };
    let whole = read(bytes.len());
    assert_eq!(read(3), whole);
    for report in whole {
        let mut frames = Frames::default();
        frames.push(&encode(&report).expect("what was read can be written"));
        assert_eq!(frames.pop::<InitReport>().ok().flatten(), Some(report));
    }
}

fn record<T: serde::Serialize + serde::de::DeserializeOwned + Debug>(bytes: &[u8]) {
    let Ok(document) = serde_json::from_slice::<T>(bytes) else { return };
    let text = serde_json::to_string(&document).expect("what was read can be written");
    let again: T = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(format!("{again:?}"), format!("{document:?}"));
}
