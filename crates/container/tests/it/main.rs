//! Tests of the room as its users see it: real mounts, real processes, real cgroups.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
mod image_build;
mod image_layers;
mod image_layout;
mod image_registry;
mod image_server;
mod image_store;
mod image_support;
mod image_trouble;
mod registry;
mod rt_bind;
mod rt_end;
mod rt_host;
mod rt_limits;
mod rt_nfs;
mod rt_sockets;
mod rt_start;
mod rt_support;
#[allow(dead_code, reason = "other crates use more of it")]
mod scripted;
#[cfg(target_arch = "x86_64")]
mod vm;
