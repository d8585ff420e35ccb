//! The run file as its author wrote it: reading, checking, printing, schema. It opens no file and resolves no name.
//!
//! ```text
//! bytes --source--> text and places --tree--> nodes --fields--> Spec, and every problem found on the way
//! Spec --print--> canonical text, which reads back as the same Spec
//! ```
mod path;
mod types;

pub use path::{ContainerPath, PathError};
pub use types::*;
