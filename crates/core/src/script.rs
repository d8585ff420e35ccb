//! The shell script that init runs: all items in one shell, in order (§run of the format's description).
