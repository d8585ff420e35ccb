//! One file per command: its arguments and the function that carries it out. Commands fetch through `client` and print
//! through `output`.
pub(crate) mod artifact;
pub(crate) mod cache;
pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod configure;
pub(crate) mod credential;
pub(crate) mod doctor;
pub(crate) mod image;
pub(crate) mod resource;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod server;
mod value;
pub(crate) mod whoami;
