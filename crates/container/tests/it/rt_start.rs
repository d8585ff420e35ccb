//! Start, what a container sees, and what it may do.
use std::fs;
use std::path::PathBuf;

use anyhow::ensure;
use vessl_container::limits::Limits;
use vessl_container::rootfs::{Access, Bind};

use crate::rt_support::{As, EVERYBODY, Place, WHO, finish};

/// Runs a script in a busybox container as each kind of user: status and output must be as expected.
fn check(script: &str, expected: (i32, &str)) {
    check_as(&EVERYBODY, script, expected);
}

fn check_as(users: &[As], script: &str, expected: (i32, &str)) {
    for who in users {
        let place = Place::new(*who);
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

#[test]
fn files_are_written_to_the_private_layer_only() {
    for who in EVERYBODY {
        let place = Place::new(who);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let script = "echo new > /etc/new && rm /bin/ls && mkdir -p /a/b && echo ok";
            let (status, output) = place.run(&merged, script)?;
            ensure!((status, output.as_str()) == (0, "ok\n"), "{who:?} {status} {output}");
            ensure!(fs::read_to_string(merged.path.join("etc/new"))? == "new\n");
            Ok(())
        });
        assert!(fs::symlink_metadata(place.path("layer/bin/ls")).is_ok() && !place.path("layer/a").exists());
    }
}

#[test]
fn other_users_exist_where_ids_are_mapped() {
    let script = "touch /f && chown 1000:1000 /f && stat -c %u:%g /f";
    check_as(&[As::Root, As::User], script, (0, "1000:1000\n"));
    check_as(&[As::LoneUser], "touch /f && chown 1000 /f 2>/dev/null; stat -c %u /f", (0, "0\n"));
}

#[test]
fn capabilities_are_fewer_than_dockers_and_no_new_ones_can_be_had() {
    // Docker's default has `NET_RAW` and `MKNOD` too, which are the bits 13 and 27.
    let script = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|SigIgn|SigBlk' /proc/1/status | tr -d '\\t'";
    let expected = "SigBlk:0000000000000000\nSigIgn:0000000000000000\nCapInh:0000000000000000\n\
                    CapPrm:00000000a00405fb\nCapEff:00000000a00405fb\nCapBnd:00000000a00405fb\n\
                    CapAmb:0000000000000000\nNoNewPrivs:1\n";
    check(script, (0, expected));
}

#[test]
fn new_privileges_are_those_of_the_image_or_none() {
    // The filter holds for init already, and with it for everything else.
    let script = "busybox chmod 6755 /who; /who /who; grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/1/status | tr -d '\t'";
    for who in [As::Root, As::User] {
        for (no_new_privs, expected) in [(false, "0 0\n"), (true, "1000 1000\n")] {
            let place = Place::new(who);
            place.program("who", WHO);
            place.give("layer");
            place.supervise(|| {
                let merged = place.rootfs().mount()?;
                let (container, output) =
                    place.start_with(&merged, &["/bin/sh", "-c", script], |bundle| {
                        bundle.no_new_privs = no_new_privs;
                        bundle.seccomp = vessl_container::seccomp::default_filter();
                    })?;
                let (_, output) = finish(&container, output)?;
                let rest =
                    format!("CapBnd:00000000a00405fb\nNoNewPrivs:{}\nSeccomp:2\n", u8::from(no_new_privs));
                ensure!(output == format!("{expected}{rest}"), "{who:?}: {output}");
                Ok(())
            });
        }
    }
}

#[test]
fn only_the_five_descriptors_come_along() {
    check(
        "ls /proc/1/fd; readlink /proc/1/fd/3; readlink /proc/1/fd/4",
        (0, "0\n1\n2\n3\n4\n/dev/zero\n/dev/zero\n"),
    );
}

#[test]
fn the_kernel_is_out_of_reach() {
    check(
        "echo 1 > /proc/sys/vm/swappiness",
        (1, "/bin/sh: can't create /proc/sys/vm/swappiness: Read-only file system\n"),
    );
    check("touch /sys/x", (1, "touch: /sys/x: Read-only file system\n"));
    check("cat /proc/keys /proc/timer_list; ls -A /sys/firmware /proc/scsi 2>/dev/null | grep -v :", (1, ""));
    check("mount -t tmpfs x /tmp 2>/dev/null", (1, ""));
    check("umount /proc 2>/dev/null", (1, ""));
    check("touch /sys/fs/cgroup/x 2>/dev/null", (1, ""));
}

#[test]
fn dev_holds_the_standard_nodes() {
    let nodes =
        "core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    check("ls /dev", (0, nodes));
    check(
        "head -c 3 /dev/zero | wc -c; echo x > /dev/null; echo x > /dev/full",
        (1, "3\nsh: write error: No space left on device\n"),
    );
    check("echo x > /dev/shm/f && cat /dev/shm/f", (0, "x\n"));
}

#[test]
fn no_device_nodes_are_made_inside() {
    // The nodes of `/dev/zero` and of a disk.
    let script = "for d in / /tmp /dev /dev/shm; do for n in 'c 1 5' 'b 8 0'; do mknod $d/n $n 2>/dev/null && echo $d made; \
                  head -c 1 $d/n >/dev/null 2>&1 && echo $d opened; done; done; mknod /tmp/fifo p && test -p /tmp/fifo && echo pipe";
    check(script, (0, "pipe\n"));
}

#[test]
fn an_image_with_a_file_where_something_is_mounted_is_refused_in_words() {
    for (name, makes) in [("proc", "a file"), ("sys", "a file"), ("dev", "a link to one")] {
        let place = Place::new(As::Root);
        fs::write(place.path("layer/file"), "").unwrap();
        match makes {
            "a file" => fs::write(place.path("layer").join(name), "").unwrap(),
            _ => std::os::unix::fs::symlink("file", place.path("layer").join(name)).unwrap(),
        }
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let error = place.run(&merged, "true").expect_err("refused").to_string();
            let expected =
                format!("cannot mount `/{name}`: the image has something other than a directory there");
            ensure!(error == expected, "{error}");
            Ok(())
        });
    }
}

#[test]
fn processes_of_the_host_are_not_seen() {
    check("set -- /proc/[0-9]*; echo $*", (0, "/proc/1 /proc/2\n"));
}

#[test]
fn the_own_name_and_the_resolver_are_there() {
    check(
        "cat /etc/hostname; grep -c testbox /etc/hosts; test -e /etc/resolv.conf && echo x >> /etc/hosts && echo yes",
        (0, "testbox\n1\nyes\n"),
    );
}

#[test]
fn an_image_with_hostile_links_keeps_everything_inside() {
    for who in EVERYBODY {
        let place = Place::new(who);
        let outside = place.path("outside");
        for name in ["dev", "proc", "etc", ".vessl", "sys"] {
            fs::create_dir_all(outside.join(name)).unwrap();
            std::os::unix::fs::symlink(outside.join(name), place.path("layer").join(name)).unwrap();
        }
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let (status, output) = place.run(&merged, "echo in > /dev/shm/x; cat /etc/hostname")?;
            ensure!(status == 0 && output == "testbox\n", "{status} {output}");
            Ok(())
        });
        for dir in fs::read_dir(&outside).unwrap() {
            assert!(fs::read_dir(dir.unwrap().path()).unwrap().next().is_none());
        }
    }
}

#[test]
fn many_layers_stack_in_order() {
    for who in EVERYBODY {
        let place = Place::new(who);
        let layers: Vec<PathBuf> = (0..120).map(|n| place.path(&format!("{:060}{n:04}", 0))).collect();
        for (number, layer) in layers.iter().enumerate() {
            fs::create_dir(layer).unwrap();
            fs::write(layer.join("top"), number.to_string()).unwrap();
            fs::write(layer.join(format!("f{number}")), "").unwrap();
        }
        place.supervise(|| {
            let mut rootfs = place.rootfs();
            rootfs.layers.extend(layers);
            let merged = rootfs.mount()?;
            let (status, output) = place.run(&merged, "cat /top; ls / | grep -c ^f")?;
            ensure!(status == 0 && output == "119120\n", "{status} {output}");
            Ok(())
        });
    }
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    for who in EVERYBODY {
        let place = Place::new(who);
        fs::write(place.path("init"), "#!/nowhere\n").unwrap();
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let error =
                place.start(&merged, Limits::default(), &[]).expect_err("no such interpreter").to_string();
            ensure!(
                error == "cannot run init in the container: No such file or directory (os error 2)",
                "{error}"
            );
            ensure!(place.cgroup().is_empty());
            Ok(())
        });
        assert!(place.groups().is_empty(), "{:?}", place.groups());
    }
}

#[test]
fn a_process_with_threads_is_refused() {
    let place = Place::new(As::Root);
    place.supervise(|| {
        let merged = place.rootfs().mount()?;
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv().is_ok());
        let error = place.start(&merged, Limits::default(), &[]).expect_err("two threads").to_string();
        drop(stop);
        other.join().expect("it ends");
        ensure!(error == "a container cannot be started from a process with 2 threads", "{error}");
        Ok(())
    });
}

/// Loads the filter and prints the errno of some calls.
const CALLS: &str = r#"
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
int main(void) {
    if (filter()) { perror("filter"); return 1; }
    TRY("mount", SYS_mount, "x", "/tmp", "tmpfs", 0, 0);
    TRY("keyctl", SYS_keyctl, 0, 0, 0, 0, 0);
    TRY("bpf", SYS_bpf, 0, 0, 0);
    TRY("reboot", SYS_reboot, 0, 0, 0, 0);
    TRY("unshare", SYS_unshare, CLONE_NEWUSER);
    TRY("clone3", SYS_clone3, 0, 0);
    TRY("unknown", 1000L);
    TRY("newuser", SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    pid_t child = fork();
    if (child == 0) {
        TRY("ptrace", SYS_ptrace, PTRACE_TRACEME, 0, 0, 0);
        _exit(7);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {}
    printf("fork %d\n", WEXITSTATUS(status));
    return 0;
}
"#;

#[test]
fn the_filter_loads_without_privilege_and_holds() {
    for who in EVERYBODY {
        let place = Place::new(who);
        place.calls(CALLS);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let (status, output) = place.run(&merged, "/calls")?;
            let expected = "mount 1\nkeyctl 1\nbpf 1\nreboot 1\nunshare 1\nclone3 38\nunknown 38\nnewuser 1\nptrace 0\nfork 7\n";
            ensure!((status, output.as_str()) == (0, expected), "{who:?} {status} {output}");
            Ok(())
        });
    }
}

#[test]
fn a_device_of_the_host_can_be_given() {
    for who in EVERYBODY {
        let place = Place::new(who);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let script = ["/bin/sh", "-c", "ls /dev/cpu_dma_latency; test -c /dev/cpu_dma_latency"];
            let (container, output) = place.start_with(&merged, &script, |bundle| {
                bundle.devices = vec!["/dev/cpu_dma_latency".into()];
            })?;
            let (status, output) = finish(&container, output)?;
            ensure!(status == 0 && output == "/dev/cpu_dma_latency\n", "{who:?} {status} {output}");
            let not_one =
                place.start_with(&merged, &script, |bundle| bundle.devices = vec!["/etc/passwd".into()]);
            ensure!(not_one.is_err());
            Ok(())
        });
    }
}

#[test]
fn init_cannot_be_changed_from_inside() {
    check("echo x > /.vessl/init", (1, "/bin/sh: can't create /.vessl/init: Read-only file system\n"));
    check("rm -f /.vessl/init 2>/dev/null", (1, ""));
}

#[test]
fn a_bind_below_a_bind_works() {
    let place = Place::new(As::Root);
    fs::create_dir_all(place.path("a/sub")).unwrap();
    fs::create_dir(place.path("b")).unwrap();
    fs::write(place.path("b/f"), "deep\n").unwrap();
    place.supervise(|| {
        let merged = place.rootfs().mount()?;
        for (source, target) in [("a", "/a"), ("b", "/a/sub")] {
            merged.bind(&Bind {
                source: place.path(source),
                target: target.into(),
                access: Access::ReadOnly,
            })?;
        }
        let (status, output) = place.run(&merged, "cat /a/sub/f")?;
        ensure!((status, output.as_str()) == (0, "deep\n"), "{status} {output}");
        Ok(())
    });
}
