-- What was written to volumes, oldest first. A volume keeps the newest files alone: this says who changed it, not what was there.
CREATE TABLE volume_changes (
    id           INTEGER PRIMARY KEY,
    organization TEXT NOT NULL,
    storage      TEXT NOT NULL,
    volume       TEXT NOT NULL,
    at           INTEGER NOT NULL,
    changed_by   TEXT,
    what         TEXT NOT NULL,              -- 'export', 'put', 'copy', 'delete'
    path         TEXT NOT NULL,              -- of an export in its run, else in the volume
    files        INTEGER,
    bytes        INTEGER,
    run          INTEGER,
    attempt      TEXT,
    UNIQUE (organization, storage, volume, run, attempt, path)
) STRICT;
