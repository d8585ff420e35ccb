//! One file per command: its arguments and the function that carries it out. Commands fetch through `client` and print
//! through `output`.
pub(crate) mod artifact;
pub(crate) mod cache;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod configure;
pub(crate) mod credential;
pub(crate) mod dataset;
pub(crate) mod doctor;
mod download;
pub(crate) mod image;
pub(crate) mod jupyter;
pub(crate) mod model;
pub(crate) mod model_repository;
mod objects;
pub(crate) mod resource;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod server;
mod ssh;
pub(crate) mod ssh_config;
pub(crate) mod ssh_key;
pub(crate) mod storage;
mod upload;
pub(crate) mod uploads;
mod value;
pub(crate) mod whoami;
