//! Tests of the rules through their public doors: run files, plans, the life of a run, the script.
mod canonical;
mod corpus;
mod fields;
mod plan_cases;
mod plan_corpus;
mod plan_stores;
mod problems;
mod provenance;
mod redump;
mod reference;
mod run_cases;
mod run_laws;
mod run_script;
mod schema;
mod strategy;
mod support;
mod yaml;
