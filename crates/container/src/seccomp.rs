//! Docker's default seccomp profile, compiled to BPF for this architecture; loaded by init, right before the script.

/// The compiled filter as the bytes of a `struct sock_filter` array.
pub fn default_filter() -> Vec<u8> {
    todo!()
}
