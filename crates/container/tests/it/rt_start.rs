//! Start, what a container sees, and its end.
use anyhow::ensure;

use crate::rt_support::{As, Place, can_run};

/// Runs a script in a busybox container as root and as an ordinary user: status and output must be as expected.
fn check(script: &str, expected: (i32, &str)) {
    for who in [As::Root, As::User] {
        if !can_run() {
            return;
        }
        let place = Place::new(who);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let (status, output) = place.run(&merged, script)?;
            ensure!((status, output.as_str()) == expected, "{who:?}: {script}: {status} {output:?}");
            Ok(())
        });
        assert!(place.cgroup().is_empty());
    }
}

#[test]
fn a_script_runs_as_root_of_its_own_world() {
    check("echo hi; id -u; hostname; echo $$; exit 3", (3, "hi\n0\ntestbox\n2\n"));
}
