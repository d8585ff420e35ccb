//! The log: append-only segments of records (arrival time in ns, stream, raw bytes) with an index, written by one
//! process and read by many straight from the files.
