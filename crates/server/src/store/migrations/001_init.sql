CREATE TABLE organizations (
    name       TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL              -- nanoseconds since 1970, as all times here
) STRICT, WITHOUT ROWID;

CREATE TABLE projects (
    organization TEXT NOT NULL REFERENCES organizations (name),
    name         TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (organization, name)
) STRICT, WITHOUT ROWID;

-- One row per run. `doc` is the JSON of store::runs::Doc; the other columns are copies to search by.
CREATE TABLE runs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    organization    TEXT NOT NULL,
    project         TEXT NOT NULL,
    revision        INTEGER NOT NULL,
    status          TEXT NOT NULL,
    unfinished      INTEGER NOT NULL,        -- 1 while a driver has work to do
    name            TEXT NOT NULL,
    description     TEXT,
    doc             TEXT NOT NULL,
    idempotency_key TEXT,
    submit_digest   BLOB,                    -- keyed hash of the submit, to tell a repeat from another submit
    FOREIGN KEY (organization, project) REFERENCES projects (organization, name)
) STRICT;
CREATE INDEX runs_by_project ON runs (organization, project, id);
CREATE INDEX runs_by_status ON runs (organization, project, status, id);
CREATE INDEX runs_unfinished ON runs (id) WHERE unfinished = 1;
CREATE UNIQUE INDEX runs_by_key ON runs (organization, project, idempotency_key) WHERE idempotency_key IS NOT NULL;
INSERT INTO sqlite_sequence (name, seq) VALUES ('runs', 100000000000);

-- What a run was submitted with; read only to start it and to show it.
CREATE TABLE run_texts (
    run  INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    plan TEXT NOT NULL,                      -- JSON of core::plan::Plan, no secret value
    yaml TEXT NOT NULL,                      -- canonical run file, no secret value
    keys TEXT NOT NULL                       -- JSON of store::runs::Keys: which stored secrets and credentials it needs
) STRICT;

CREATE TABLE run_events (
    run     INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,                -- from 1, without gaps
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    status  TEXT,                            -- set for kind 'status'
    message TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

-- Secret values that were written into a run file; gone with the run.
CREATE TABLE run_secrets (
    run    INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    name   TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

-- Stored secrets (kind 'secret') and credentials (kind 'registry', 'git').
CREATE TABLE secrets (
    organization TEXT NOT NULL REFERENCES organizations (name),
    class        TEXT NOT NULL CHECK (class IN ('secret', 'credential')),
    name         TEXT NOT NULL,
    kind         TEXT NOT NULL,
    username     TEXT,
    sealed       BLOB NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (organization, class, name)
) STRICT, WITHOUT ROWID;

-- History of named artifacts. `manifest` is the version: the hash of a tree.
CREATE TABLE artifacts (
    organization TEXT NOT NULL,
    project      TEXT NOT NULL,
    name         TEXT NOT NULL,
    version      INTEGER NOT NULL,           -- from 1
    manifest     TEXT NOT NULL,
    bytes        INTEGER NOT NULL,
    files        INTEGER NOT NULL,
    run          INTEGER,                    -- the run that made it; kept when the run is deleted
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (organization, project, name, version)
) STRICT, WITHOUT ROWID;

-- Output files of runs, one tree per export path.
CREATE TABLE outputs (
    run      INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    path     TEXT NOT NULL,                  -- export path in the container
    manifest TEXT NOT NULL,
    bytes    INTEGER NOT NULL,
    files    INTEGER NOT NULL,
    PRIMARY KEY (run, path)
) STRICT, WITHOUT ROWID;
