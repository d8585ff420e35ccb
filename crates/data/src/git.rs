//! Import of one commit with the git command line, also into a directory that already has files.
