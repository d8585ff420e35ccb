//! Docker's default seccomp profile, compiled to BPF for this architecture; loaded by a container's first process, before it
//! gives up its capabilities. It is narrower in one thing: a container shares the network of its machine, so only sockets that say and hear what is their own
//! can be made in it.
//!
//! ```text
//! another architecture (32 bit)      killed
//! clone3, and newer than the table   ENOSYS (callers fall back; flags behind a pointer cannot be checked)
//! in the table, condition met        allowed
//! anything else                      EPERM
//! ```
mod allowed;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, sock_filter,
};

/// The compiled filter as the bytes of a `struct sock_filter` array. Compiled once in a process.
pub fn default_filter() -> Vec<u8> {
    static FILTER: OnceLock<Vec<u8>> = OnceLock::new();
    FILTER.get_or_init(|| bytes(&program().expect("the table holds valid rules"))).clone()
}

/// `CLONE_NEW*` of every namespace kind. Source: linux/sched.h.
const NEW_NAMESPACES: u64 = 0x7E02_0000;

/// Personalities that change nothing about isolation: Linux, Linux32, and both with old `uname`; all bits set asks only.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Kinds of sockets by the internet protocols that hear only what is sent to them. The kind stands in these bits of the
/// argument, flags beside it. Neither `SOCK_RAW` nor the old `SOCK_PACKET` is one. Source: linux/net.h.
const SOCKET_KIND: u64 = 0xf;
const KINDS: [i32; 3] = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];

fn program() -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<Rule>> =
        allowed::ALLOWED.iter().copied().flatten().map(|call| (*call, Vec::new())).collect();
    let first = |op, value| Rule::new(vec![Condition::new(0, Width::Dword, op, value)?]);
    rules.insert(libc::SYS_clone, vec![first(Op::MaskedEq(NEW_NAMESPACES), 0)?]);
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_socketpair, vec![first(Op::Eq, number(libc::AF_UNIX))?]);
    let personalities =
        PERSONALITIES.map(|value| first(Op::Eq, value)).into_iter().collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_personality, personalities);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, ARCH)?;
    let mut program = prelude();
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

/// The sockets that can be made: local ones and netlink whatever their kind (the C library asks netlink for the addresses of
/// the machine), and the internet's unless they are raw. Everything else (packets, the hypervisor, buses) is refused.
fn sockets() -> Result<Vec<Rule>, seccompiler::Error> {
    let family = |family: i32| Condition::new(0, Width::Dword, Op::Eq, number(family));
    let kind = |kind: i32| Condition::new(1, Width::Dword, Op::MaskedEq(SOCKET_KIND), number(kind));
    let mut rules =
        vec![Rule::new(vec![family(libc::AF_UNIX)?])?, Rule::new(vec![family(libc::AF_NETLINK)?])?];
    for internet in [libc::AF_INET, libc::AF_INET6] {
        for allowed in KINDS {
            rules.push(Rule::new(vec![family(internet)?, kind(allowed)?])?);
        }
    }
    Ok(rules)
}

/// A constant of the C library as an argument of a call.
fn number(constant: i32) -> u64 {
    u64::from(constant.cast_unsigned())
}

#[cfg(target_arch = "x86_64")]
const ARCH: seccompiler::TargetArch = seccompiler::TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: seccompiler::TargetArch = seccompiler::TargetArch::aarch64;

/// `AUDIT_ARCH_*`. Source: linux/audit.h.
#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;

/// The calls answered with ENOSYS, which seccompiler, with its one answer for all refusals, cannot express. A foreign
/// architecture is left to what follows.
fn prelude() -> BpfProgram {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const NUMBER: u32 = 0; // offset in struct seccomp_data
    const ARCHITECTURE: u32 = 4;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let number = |call: libc::c_long| u32::try_from(call).expect("call numbers are small");
    vec![
        step(LOAD, 0, 0, ARCHITECTURE),
        step(EQUAL, 0, 4, AUDIT_ARCH),
        step(LOAD, 0, 0, NUMBER),
        step(EQUAL, 1, 0, number(libc::SYS_clone3)),
        step(AT_LEAST, 0, 1, number(allowed::LAST + 1)),
        step(RETURN, 0, 0, SeccompAction::Errno(libc::ENOSYS.cast_unsigned()).into()),
    ]
}

fn bytes(program: &[sock_filter]) -> Vec<u8> {
    let one = |step: &sock_filter| {
        let mut bytes = step.code.to_ne_bytes().to_vec();
        bytes.extend([step.jt, step.jf]);
        bytes.extend(step.k.to_ne_bytes());
        bytes
    };
    program.iter().flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const KILL: u32 = 0x8000_0000;

    /// What the filter answers to a call: runs the program as the kernel would. Source: linux/filter.h.
    fn answer(arch: u32, call: u32, arguments: [u64; 2]) -> u32 {
        static PROGRAM: LazyLock<BpfProgram> = LazyLock::new(|| program().unwrap());
        let program = &PROGRAM;
        let mut data = [call, arch, 0, 0, 0, 0, 0, 0].map(u32::to_ne_bytes).concat();
        data[16..24].copy_from_slice(&arguments[0].to_ne_bytes());
        data[24..32].copy_from_slice(&arguments[1].to_ne_bytes());
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let step = &program[at];
            let jump = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
            match step.code {
                0x20 => {
                    let start = step.k as usize;
                    accumulator =
                        data.get(start..start + 4).map_or(0, |b| u32::from_ne_bytes(b.try_into().unwrap()));
                }
                0x05 => at += step.k as usize,
                0x15 => at += jump(accumulator == step.k),
                0x25 => at += jump(accumulator > step.k),
                0x35 => at += jump(accumulator >= step.k),
                0x54 => accumulator &= step.k,
                0x06 => return step.k,
                other => panic!("instruction {other:#x}"),
            }
            at += 1;
        }
    }

    #[test]
    fn calls_are_answered_like_docker_does() {
        let errno = |number: i32| 0x5_0000 | number.cast_unsigned();
        let check = |call: libc::c_long, argument, expected| {
            let found = answer(AUDIT_ARCH, u32::try_from(call).unwrap(), [argument, 0]);
            assert_eq!(found, expected, "call {call} ({argument:#x})");
        };
        check(libc::SYS_read, 0, ALLOW);
        check(libc::SYS_ptrace, 0, ALLOW);
        check(libc::SYS_chroot, 0, ALLOW);
        for call in [
            libc::SYS_mount,
            libc::SYS_keyctl,
            libc::SYS_bpf,
            libc::SYS_reboot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_io_uring_setup,
        ] {
            check(call, 0, errno(libc::EPERM));
        }
        check(libc::SYS_clone3, 0, errno(libc::ENOSYS));
        check(allowed::LAST, 0, ALLOW);
        check(allowed::LAST + 1, 0, errno(libc::ENOSYS));
        check(0x4000_0000, 0, errno(libc::ENOSYS));
        check(libc::SYS_clone, u64::from(libc::SIGCHLD.cast_unsigned()), ALLOW);
        check(libc::SYS_clone, u64::from(libc::CLONE_NEWUSER.cast_unsigned()), errno(libc::EPERM));
        check(libc::SYS_personality, 0xffff_ffff, ALLOW);
        check(libc::SYS_personality, 0x4_0000, errno(libc::EPERM));
        assert_eq!(answer(0x4000_0003, 3, [0, 0]), KILL, "a 32-bit process");
    }

    #[test]
    fn only_sockets_that_hear_what_is_theirs_can_be_made() {
        use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK, AF_XDP};
        use libc::{SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, SOCK_STREAM};
        const SOCK_PACKET: i32 = 10;
        let answers = |call: libc::c_long, family: u64, kind: i32, allowed: bool| {
            for flags in [0, libc::SOCK_CLOEXEC, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK] {
                let found = answer(AUDIT_ARCH, u32::try_from(call).unwrap(), [family, number(kind | flags)]);
                let expected = if allowed { ALLOW } else { 0x5_0000 | libc::EPERM.cast_unsigned() };
                assert_eq!(found, expected, "call {call} ({family}, {kind} | {flags:#o})");
            }
        };
        let kinds = [SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, 6, SOCK_PACKET, 0, 15];
        for kind in kinds {
            for local in [AF_UNIX, AF_NETLINK] {
                answers(libc::SYS_socket, number(local), kind, true);
            }
            for internet in [AF_INET, AF_INET6] {
                let allowed = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET].contains(&kind);
                answers(libc::SYS_socket, number(internet), kind, allowed);
            }
            let known = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];
            for other in (0..64).filter(|family| !known.contains(family)) {
                answers(libc::SYS_socket, number(other), kind, false);
            }
            for other in [AF_PACKET, AF_VSOCK, AF_XDP, -1] {
                answers(libc::SYS_socket, number(other), kind, false);
                answers(libc::SYS_socketpair, number(other), kind, false);
            }
            answers(libc::SYS_socketpair, number(AF_UNIX), kind, true);
            // The kernel looks at the lower half of a register alone.
            answers(libc::SYS_socket, (1 << 32) | number(AF_PACKET), kind, false);
        }
    }

    #[test]
    fn the_filter_is_a_whole_number_of_instructions_and_fits_the_kernel() {
        let filter = default_filter();
        assert_eq!(filter.len() % 8, 0);
        assert!(filter.len() / 8 <= 4096);
    }
}
