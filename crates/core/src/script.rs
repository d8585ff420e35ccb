//! The run script: all items of a run as one shell program. Text only; it starts nothing.
use crate::plan::ItemPlan;
use crate::record::Ending;

/// The script that runs `items` in order in one shell; an item without a directory starts in `default_workdir`
/// (absolute path in the container).
pub fn build(items: &[ItemPlan], default_workdir: &str) -> String {
    let _ = (items, default_workdir);
    String::new()
}

/// How a script ended, in words: `exit_code`, the last `item` that started of `of` in all, and what ended it.
pub fn ending(exit_code: i32, item: Option<u32>, of: u32, how: Ending) -> String {
    let _ = (exit_code, item, of, how);
    String::new()
}
