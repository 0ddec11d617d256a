-- Every configuration that was ever active, numbered and immutable.
CREATE TABLE configuration_revisions (
    -- AUTOINCREMENT: a number is never given twice, whatever is deleted.
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Seconds since 1970-01-01 UTC.
    created_at   INTEGER NOT NULL,
    -- SHA-256 of the document with its secrets redacted.
    content_hash TEXT    NOT NULL,
    -- The document: JSON, with literal secrets sealed or replaced by their fingerprints.
    document     TEXT    NOT NULL,
    -- Where it came from: 'request' or 'file'.
    origin       TEXT    NOT NULL CHECK (origin IN ('request', 'file'))
) STRICT;
