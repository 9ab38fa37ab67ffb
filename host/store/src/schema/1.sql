-- Version 1. Times are milliseconds since the Unix epoch; digests are lower-case hexadecimal SHA-256.

-- One row: how often tenants, their quotas or their keys changed.
CREATE TABLE tenants_version (
    version INTEGER NOT NULL
) STRICT;
INSERT INTO tenants_version VALUES (0);

CREATE TABLE tenants (
    id TEXT PRIMARY KEY,
    quotas TEXT NOT NULL, -- JSON
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    number INTEGER PRIMARY KEY, -- The order in which they came.
    tenant TEXT NOT NULL REFERENCES tenants ON DELETE CASCADE,
    id TEXT NOT NULL,
    label TEXT NOT NULL,
    sha256 BLOB NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    UNIQUE (tenant, id)
) STRICT;

-- Tenants from here on are not those of the table above alone: a server without tenants has one, `local`.

-- A program stays here when its versions are deleted, so that none of its numbers is used again.
CREATE TABLE programs (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    last_version INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    description TEXT NOT NULL, -- JSON, up to a megabyte: last, so that it is not read past.
    PRIMARY KEY (tenant, name, version),
    FOREIGN KEY (tenant, name) REFERENCES programs ON DELETE CASCADE
) STRICT;
CREATE INDEX versions_by_digest ON versions (digest);

-- What a tenant keeps, counted as it changes: adding it up for each upload would take longer with each.
CREATE TABLE footprints (
    tenant TEXT PRIMARY KEY,
    programs INTEGER NOT NULL,
    program_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tags (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    tag TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (tenant, name, tag),
    FOREIGN KEY (tenant, name, version) REFERENCES versions ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_version ON tags (tenant, name, version);

-- Components that a version stopped referring to. The server looks whether another does, and deletes the file.
CREATE TABLE loose_blobs (
    digest TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TRIGGER version_added AFTER INSERT ON versions BEGIN
    INSERT INTO footprints VALUES (new.tenant, 1, new.size_bytes) ON CONFLICT (tenant) DO UPDATE
        SET programs = programs + 1, program_bytes = program_bytes + excluded.program_bytes;
END;
CREATE TRIGGER version_deleted AFTER DELETE ON versions BEGIN
    INSERT OR IGNORE INTO loose_blobs VALUES (old.digest);
    UPDATE footprints SET programs = programs - 1, program_bytes = program_bytes - old.size_bytes
        WHERE tenant = old.tenant;
END;

CREATE TABLE runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- The order in which they came.
    id INTEGER NOT NULL UNIQUE,               -- The bits of the 64-bit id.
    tenant TEXT NOT NULL,
    program TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest TEXT NOT NULL,
    status TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    finished_ms INTEGER,
    cpu_time_us INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT,
    request_sha256 BLOB,
    record_bytes INTEGER NOT NULL DEFAULT 0,
    summary TEXT, -- JSON: the record without its result, variables and forks.
    record TEXT   -- JSON, up to tens of megabytes: last, so that it is not read past.
) STRICT;
CREATE INDEX runs_by_tenant ON runs (tenant, number);
CREATE UNIQUE INDEX runs_by_key ON runs (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_running ON runs (number) WHERE finished_ms IS NULL;
CREATE INDEX runs_finished ON runs (finished_ms) WHERE finished_ms IS NOT NULL;

-- Bytes of the records of a tenant's runs, counted as they change.
CREATE TABLE kept_records (
    tenant TEXT PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER run_ended AFTER UPDATE OF record_bytes ON runs BEGIN
    INSERT INTO kept_records VALUES (new.tenant, new.record_bytes - old.record_bytes) ON CONFLICT (tenant) DO UPDATE
        SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER run_forgotten AFTER DELETE ON runs BEGIN
    UPDATE kept_records SET bytes = bytes - old.record_bytes WHERE tenant = old.tenant;
END;

CREATE TABLE usage (
    tenant TEXT NOT NULL,
    day INTEGER NOT NULL, -- Days since the Unix epoch, UTC.
    runs INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cpu_time_us INTEGER NOT NULL,
    wall_time_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID;
