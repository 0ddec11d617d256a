-- More ways to a revision than two, and for each field where its value came from. SQLite cannot change the check of a
-- column, so the table is made anew.
CREATE TABLE configuration_revisions_2 (
    -- AUTOINCREMENT: a number is never given twice, whatever is deleted.
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Seconds since 1970-01-01 UTC.
    created_at    INTEGER NOT NULL,
    -- SHA-256 of the document with its secrets redacted.
    content_hash  TEXT    NOT NULL,
    -- The document: JSON, with literal secrets sealed or replaced by their fingerprints.
    document      TEXT    NOT NULL,
    -- How it came about.
    origin        TEXT    NOT NULL CHECK (origin IN ('request', 'patch', 'rollback', 'file', 'environment')),
    -- JSON: field to where its value came from. A field that is not in it came the way the revision did.
    field_origins TEXT    NOT NULL DEFAULT '{}'
) STRICT;

INSERT INTO configuration_revisions_2 (number, created_at, content_hash, document, origin)
SELECT number, created_at, content_hash, document, origin FROM configuration_revisions;

-- The last number given, which may be that of a row that is gone.
UPDATE sqlite_sequence
SET seq = (SELECT seq FROM sqlite_sequence WHERE name = 'configuration_revisions')
WHERE name = 'configuration_revisions_2'
  AND EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'configuration_revisions');

DROP TABLE configuration_revisions;
ALTER TABLE configuration_revisions_2 RENAME TO configuration_revisions;
