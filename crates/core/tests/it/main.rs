//! Tests of the rules from outside: through the public doors alone.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod plan_cases;
mod run_cases;
mod run_laws;
mod run_script;
