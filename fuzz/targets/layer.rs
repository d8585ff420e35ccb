//! Any bytes are unpacked as a layer, or refused; nothing is written beside its directory.
#![no_main]
use libfuzzer_sys::fuzz_target;
use vessl_container::unpack::{Limits, layer};

const LIMITS: Limits = Limits { bytes: 4 << 20, ratio: 250, free: 1 << 20, entries: 200 };

fuzz_target!(|bytes: &[u8]| {
    let around = tempfile::tempdir().expect("a directory can be made");
    let dir = around.path().join("layer");
    std::fs::create_dir(&dir).expect("a directory can be made");
    let outcome = layer(bytes, bytes.len() as u64, &dir, &LIMITS);
    let beside = std::fs::read_dir(around.path()).expect("the directory is still there").count();
    assert_eq!(beside, 1, "{outcome:?}");
    if let Ok(unpacked) = outcome {
        assert!(unpacked.size <= LIMITS.bytes, "{unpacked:?}");
    }
});
