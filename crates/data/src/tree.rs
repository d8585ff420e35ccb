//! Manifests: a directory as a sorted list of entries (path, kind, mode, size, digest, link target). A version is the
//! BLAKE3 of its manifest. Import and export of trees, all or nothing.
