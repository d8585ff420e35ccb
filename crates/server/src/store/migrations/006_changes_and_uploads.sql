-- Several files that one command puts into a volume are one change.
ALTER TABLE volume_changes ADD COLUMN command TEXT;
CREATE UNIQUE INDEX volume_changes_command ON volume_changes (organization, storage, volume, command)
    WHERE command IS NOT NULL;

-- What an upload is for, as its client says it, and what came and is kept for it.
ALTER TABLE uploads ADD COLUMN object TEXT;
ALTER TABLE uploads ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
