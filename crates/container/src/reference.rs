//! Image references: `registry[:port]/repo:tag@digest`, Docker Hub short names, `oci:///path[:tag]`, `host://`.
