//! NFS exports: mounted, on a machine that serves them to itself (see `vm`); everywhere else it is said why not.
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use vessl_container::rootfs::nfs::{Export, NfsAccess, NfsError, NfsMount, Patience};

use crate::rt_support::{As, Place};

/// Names the directory that this machine exports as `/`, where it does.
const EXPORTED: &str = "VESSL_TEST_EXPORTED";

fn mount(path: &str, access: NfsAccess, limit: Duration) -> Result<NfsMount, NfsError> {
    Export::new("127.0.0.1", path)?.mount(access, &Patience { limit, stop: &|| false })
}

const LONG: Duration = Duration::from_mins(2);

#[test]
fn an_export_is_mounted_or_it_is_said_why_not() {
    let Some(exported) = std::env::var_os(EXPORTED) else {
        let said = mount("/x", NfsAccess::ReadOnly, Duration::from_secs(5)).unwrap_err().to_string();
        assert!(said.contains("`nfs://127.0.0.1/x` cannot be mounted"), "{said}");
        return;
    };
    let exported = Path::new(&exported);
    writes_reach_the_server(exported);
    a_run_sees_it(exported);
    refusals_are_explained();
    a_server_that_is_silent_is_given_up();
}

fn writes_reach_the_server(exported: &Path) {
    fs::create_dir(exported.join("sub")).unwrap();
    let both = mount("/", NfsAccess::ReadWrite, LONG).unwrap();
    let mut file = both.dir().unwrap().create_file(Path::new("sub/written"), 0o644).unwrap();
    file.write_all(b"hello\n").unwrap();
    file.sync_all().unwrap();
    assert_eq!(fs::read(exported.join("sub/written")).unwrap(), b"hello\n");
    let sub = mount("/sub", NfsAccess::ReadOnly, LONG).unwrap().dir().unwrap();
    let mut text = String::new();
    sub.file(Path::new("written")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
    let refused = sub.create_file(Path::new("more"), 0o644).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
}

fn a_run_sees_it(exported: &Path) {
    let place = Place::new(As::Root);
    place.supervise(|| {
        let merged = place.rootfs().mount()?;
        merged.show_nfs(&mount("/sub", NfsAccess::ReadWrite, LONG)?, Path::new("/data"))?;
        merged.show_nfs(&mount("/sub", NfsAccess::ReadOnly, LONG)?, Path::new("/more/data"))?;
        let script = "cat /data/written; echo new > /data/made; echo no > /more/data/made2";
        let (_, output) = place.run(&merged, script)?;
        ensure!(output.starts_with("hello\n") && output.contains("Read-only file system"), "{output}");
        Ok(())
    });
    assert_eq!(fs::read(exported.join("sub/made")).unwrap(), b"new\n");
}

fn refusals_are_explained() {
    let said = mount("/nope", NfsAccess::ReadOnly, LONG).unwrap_err().to_string();
    assert_eq!(said, "`nfs://127.0.0.1/nope` cannot be mounted: the server has no such directory");
    let place = Place::new(As::User);
    place.supervise(|| {
        let said = mount("/", NfsAccess::ReadOnly, LONG).unwrap_err();
        ensure!(matches!(said, NfsError::NotAllowed(_)), "{said}");
        Ok(())
    });
}

fn a_server_that_is_silent_is_given_up() {
    fs::write("/proc/fs/nfsd/threads", "0\n").unwrap();
    let begun = Instant::now();
    let said = mount("/", NfsAccess::ReadOnly, LONG).unwrap_err().to_string();
    assert_eq!(said, "`nfs://127.0.0.1/` cannot be mounted: nothing serves NFS there (port 2049)");
    let silent = TcpListener::bind("127.0.0.1:2049").unwrap();
    let error = mount("/", NfsAccess::ReadOnly, Duration::from_secs(3)).unwrap_err();
    assert!(matches!(error, NfsError::TimedOut { .. }), "{error}");
    drop(silent);
    assert!(begun.elapsed() < LONG);
}
