-- Public keys that let their owners into runs by SSH.
CREATE TABLE ssh_keys (
    fingerprint TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    key         TEXT NOT NULL,
    user        TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
