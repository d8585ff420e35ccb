//! Amounts people write: cores, bytes, durations. Parsing and printing only.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Thousandths of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Cpu(pub u64);

/// Bytes. A bare number in a run file is GB (10^9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Memory(pub u64);

/// A length of time in milliseconds, written like `24h`, `1h30m`, `10s` or `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Span(pub u64);
