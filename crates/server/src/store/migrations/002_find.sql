-- What runs are found and sorted by, copied from `doc` like the other columns.
ALTER TABLE runs ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN started_at INTEGER;
ALTER TABLE runs ADD COLUMN ended_at INTEGER;
UPDATE runs SET
    created_at = coalesce(CAST(round(unixepoch(doc ->> '$.created_at', 'subsec') * 1000) AS INTEGER) * 1000000, 0),
    started_at = CAST(round(unixepoch(doc ->> '$.run.state.started_at', 'subsec') * 1000) AS INTEGER) * 1000000,
    ended_at = CAST(round(unixepoch(doc ->> '$.run.state.ended_at', 'subsec') * 1000) AS INTEGER) * 1000000;

-- A page is chosen from these indexes alone, in which a row is small: `doc` is read of the runs on the page only.
DROP INDEX runs_by_project;
CREATE INDEX runs_by_project ON runs (organization, project, id, status, created_at, started_at, ended_at);
CREATE INDEX runs_by_name ON runs (organization, project, name, id);

CREATE TABLE run_tags (
    tag TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    PRIMARY KEY (tag, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_tags_by_run ON run_tags (run);
INSERT OR IGNORE INTO run_tags (tag, run) SELECT value, runs.id FROM runs, json_each(runs.doc, '$.tags');
