-- Tenants, devices, groups, credentials, audit: what every other table hangs on. Row ids come from core/ids.h (64 bit,
-- time-ordered). Times are microseconds since the epoch.
CREATE TABLE tenant (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    created_us INTEGER NOT NULL
) STRICT;
INSERT INTO tenant (row, id, created_us) VALUES (1, 'default', 0);

CREATE TABLE device (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row),
    id TEXT NOT NULL,
    name TEXT,
    model TEXT,
    state INTEGER NOT NULL,          -- enum device_state
    version INTEGER NOT NULL,
    tags TEXT NOT NULL,              -- JSON object of strings
    attributes TEXT NOT NULL,        -- JSON object
    keys TEXT NOT NULL,              -- JSON object of strings: hardware keys by kind
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    token_event_us INTEGER NOT NULL DEFAULT 0, -- an access token was last made or revoked; revoked ones leave no row
    UNIQUE (tenant, id)
) STRICT;
CREATE INDEX device_by_state ON device (tenant, state);
CREATE INDEX device_by_model ON device (tenant, model) WHERE model IS NOT NULL;
CREATE INDEX device_by_name ON device (tenant, name) WHERE name IS NOT NULL;

-- Deleted devices whose telemetry is still to be erased. No reference: the device is gone.
CREATE TABLE device_erase (
    device INTEGER PRIMARY KEY,
    since_us INTEGER NOT NULL
) STRICT;

-- Search indexes over device.tags and device.keys, written together with them. Their rows are found again from the JSON,
-- so they carry no second index by device.
CREATE TABLE device_tag (
    tenant INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    device INTEGER NOT NULL,
    PRIMARY KEY (tenant, key, value, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE device_key (
    tenant INTEGER NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    device INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, value)
) STRICT, WITHOUT ROWID;

-- "group" is a word of SQL.
CREATE TABLE device_group (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row),
    id TEXT NOT NULL,
    description TEXT,
    members INTEGER NOT NULL,        -- number of rows in group_member
    created_us INTEGER NOT NULL,
    UNIQUE (tenant, id)
) STRICT;
CREATE TABLE group_member (
    grp INTEGER NOT NULL REFERENCES device_group (row),
    device INTEGER NOT NULL REFERENCES device (row),
    PRIMARY KEY (grp, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_member_by_device ON group_member (device);

-- Access tokens of devices: HMAC-SHA-256 under the store key. Two tenants may hold equal tokens (neither learns of the
-- other); such a token signs in only together with the device id.
CREATE TABLE device_token (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row),
    device INTEGER NOT NULL REFERENCES device (row),
    hash BLOB NOT NULL,
    label TEXT,
    created_us INTEGER NOT NULL,
    UNIQUE (hash, tenant)
) STRICT;
CREATE INDEX device_token_by_device ON device_token (device);

CREATE TABLE claim (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row),
    hash BLOB NOT NULL UNIQUE,
    uses_max INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    device_prefix TEXT,              -- ids a device may take with it
    model TEXT,                      -- given to devices made with it
    tags TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    revoked_us INTEGER
) STRICT;
CREATE INDEX claim_by_tenant ON claim (tenant);

CREATE TABLE certificate (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row),
    device INTEGER NOT NULL REFERENCES device (row),
    generation INTEGER NOT NULL,     -- 1, 2, ... per device
    fingerprint BLOB NOT NULL UNIQUE, -- SHA-256 of the DER certificate
    spki BLOB NOT NULL,              -- SHA-256 of the DER public key
    serial BLOB NOT NULL UNIQUE,
    claim INTEGER,                   -- row of the claim that paid for it; NULL after a renewal
    state INTEGER NOT NULL,          -- enum cert_state
    reason TEXT,                     -- why revoked
    not_before_us INTEGER NOT NULL,
    not_after_us INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    used_us INTEGER,                 -- first successful use
    ended_us INTEGER,                -- when superseded or revoked
    der BLOB NOT NULL,
    UNIQUE (device, generation)
) STRICT;
CREATE INDEX certificate_by_tenant ON certificate (tenant);

CREATE TABLE operator_token (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row),
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    system INTEGER NOT NULL,         -- 1: the system owner
    hash BLOB NOT NULL UNIQUE,
    created_by TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    UNIQUE (tenant, name)
) STRICT;

-- Which key files belong to this store, so that a store with foreign or missing keys is noticed at start.
CREATE TABLE identity_file (
    name TEXT PRIMARY KEY,
    digest BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    ts_us INTEGER NOT NULL,
    tenant INTEGER NOT NULL,
    actor_kind INTEGER NOT NULL,     -- enum principal_kind
    actor TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object TEXT NOT NULL,
    before TEXT,                     -- JSON
    after TEXT,                      -- JSON
    operation INTEGER NOT NULL       -- the same for all rows of one operation
) STRICT;
CREATE INDEX audit_by_object ON audit (tenant, object);
CREATE INDEX audit_by_time ON audit (tenant, ts_us);
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit record is append-only');
END;
-- Fires for INSERT OR REPLACE as well: the store opens with recursive_triggers on.
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit record is append-only');
END;
