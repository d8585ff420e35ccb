//! Whole files by BLAKE3 under `blobs/ab/cdef…`; write-once, verified on read, many processes at once.
