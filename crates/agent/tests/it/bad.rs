//! Commands that behave badly.
use std::path::Path;

use vessl_core::plan::Plan;
use vessl_core::record::Phase;
use vessl_data::log::Stream;

use crate::look;
use crate::plans::host;
use crate::rig::{Rig, text};

pub(crate) const CASES: &[crate::Case] = &[("bad::a_line_without_end", a_line_without_end)];

fn a_line_without_end() {
    const BYTES: usize = 200_000_000;
    let command = format!("head -c {BYTES} /dev/zero | tr '\\0' x");
    let mut rig = Rig::new(Plan { termination_protection: true, ..host(&[&command]) });
    rig.start();
    rig.until_phase(Phase::Idle);
    let status = text(Path::new(&format!("/proc/{}/status", rig.pid())));
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 48 * 1024, "the agent's memory grew to {peak} kB");
    rig.stop(0);
    rig.end();
    let mut count = 0;
    look::each(&rig.dir, |stream, bytes| {
        if stream == Stream::Stdout {
            assert!(bytes.iter().all(|byte| *byte == b'x'));
            count += bytes.len();
        }
    });
    assert_eq!(count, BYTES);
}
