-- The last number that an artifact gave to a version, where versions were deleted: none is given twice.
CREATE TABLE artifact_numbers (
    organization TEXT NOT NULL,
    project      TEXT NOT NULL,
    name         TEXT NOT NULL,
    last         INTEGER NOT NULL,
    PRIMARY KEY (organization, project, name)
) STRICT, WITHOUT ROWID;
