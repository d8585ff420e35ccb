-- Everything that has versions: datasets, model repositories, artifacts.
CREATE TABLE objects (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    kind         TEXT NOT NULL,              -- 'dataset', 'model-repository', 'artifact'
    organization TEXT NOT NULL,
    project      TEXT NOT NULL,              -- of an artifact; else ''
    name         TEXT NOT NULL,
    description  TEXT,
    tags         TEXT NOT NULL DEFAULT '[]', -- JSON list of texts
    metadata     TEXT NOT NULL DEFAULT '{}', -- JSON object of texts
    last         INTEGER NOT NULL,           -- the last number that was given to a version
    created_by   TEXT,
    created_at   INTEGER NOT NULL,
    UNIQUE (kind, organization, project, name)
) STRICT;

-- The last number that a thing gave which is gone: none is given twice under one name.
CREATE TABLE past_numbers (
    kind         TEXT NOT NULL,
    organization TEXT NOT NULL,
    project      TEXT NOT NULL,
    name         TEXT NOT NULL,
    last         INTEGER NOT NULL,
    PRIMARY KEY (kind, organization, project, name)
) STRICT, WITHOUT ROWID;

-- Their versions. `manifest` is the hash of a tree.
CREATE TABLE versions (
    object      INTEGER NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,            -- from 1
    manifest    TEXT NOT NULL,
    bytes       INTEGER NOT NULL,
    files       INTEGER NOT NULL,
    run         INTEGER,                     -- the run that made it; kept when the run is deleted
    attempt     TEXT,                        -- the attempt of the run, and its export path: what is seen twice is one version
    path        TEXT,
    upload      TEXT,                        -- the upload that made it: what is asked for twice is one version
    name        TEXT,
    description TEXT,
    tags        TEXT NOT NULL DEFAULT '[]',
    metadata    TEXT NOT NULL DEFAULT '{}',
    created_by  TEXT,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (object, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX versions_by_export ON versions (run, path, attempt, object) WHERE run IS NOT NULL;
CREATE UNIQUE INDEX versions_by_upload ON versions (upload) WHERE upload IS NOT NULL;

-- Other names of versions.
CREATE TABLE aliases (
    object INTEGER NOT NULL,
    alias  TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (object, alias),
    FOREIGN KEY (object, number) REFERENCES versions (object, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_version ON aliases (object, number);

-- Uploads that have not ended: what was put since the oldest of them is kept.
CREATE TABLE uploads (
    id           TEXT PRIMARY KEY,
    organization TEXT NOT NULL,
    created_by   TEXT,
    created_at   INTEGER NOT NULL,
    touched_at   INTEGER NOT NULL            -- when anything came last, as far as a minute
) STRICT, WITHOUT ROWID;

-- Named places for volumes. The built-in one has no row.
CREATE TABLE storages (
    organization TEXT NOT NULL,
    name         TEXT NOT NULL,
    kind         TEXT NOT NULL,              -- 'host-path', 'nfs', 's3', 'gcs'
    path         TEXT NOT NULL,
    endpoint     TEXT,
    region       TEXT,
    credential   TEXT,
    created_by   TEXT,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (organization, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE volumes (
    organization TEXT NOT NULL,
    storage      TEXT NOT NULL,
    name         TEXT NOT NULL,
    tags         TEXT NOT NULL DEFAULT '[]',
    created_by   TEXT,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (organization, storage, name)
) STRICT, WITHOUT ROWID;

INSERT INTO objects (kind, organization, project, name, last, created_at)
    SELECT 'artifact', organization, project, name, max(max(version), coalesce((
        SELECT last FROM artifact_numbers AS past WHERE past.organization = artifacts.organization
            AND past.project = artifacts.project AND past.name = artifacts.name), 0)), min(created_at)
    FROM artifacts GROUP BY organization, project, name ORDER BY min(created_at);
INSERT INTO versions (object, number, manifest, bytes, files, run, created_at)
    SELECT objects.id, version, manifest, bytes, files, run, artifacts.created_at FROM artifacts JOIN objects
        ON objects.organization = artifacts.organization AND objects.project = artifacts.project
            AND objects.name = artifacts.name;
INSERT INTO past_numbers
    SELECT 'artifact', organization, project, name, last FROM artifact_numbers WHERE NOT EXISTS (
        SELECT 1 FROM artifacts WHERE artifacts.organization = artifact_numbers.organization
            AND artifacts.project = artifact_numbers.project AND artifacts.name = artifact_numbers.name);
DROP TABLE artifacts;
DROP TABLE artifact_numbers;

-- The attempt that exported; unknown of rows from before it was kept.
ALTER TABLE outputs ADD COLUMN attempt TEXT;
