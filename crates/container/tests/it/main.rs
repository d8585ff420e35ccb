//! Tests of the room as its users see it: real mounts, real processes, real cgroups.
mod rt_start;
mod rt_support;
