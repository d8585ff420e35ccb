//! Rootless: enter a user namespace (subuid/subgid through newuidmap/newgidmap, else only the own id) in which
//! everything else of this crate works as if it were root.

/// Gives the calling process a mount namespace of its own (propagation slave), so that every mount it makes goes when
/// it goes; if it is not root, inside a user namespace of its own as well. Must be called before any thread is started.
pub fn isolate() -> std::io::Result<()> {
    todo!()
}
