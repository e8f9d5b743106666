-- Policies, what they are attached to, passwords of devices, limits of tenants, bans. Times are microseconds since the epoch.
CREATE TABLE policy (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row) ON DELETE CASCADE,
    id TEXT NOT NULL,
    description TEXT,
    version INTEGER NOT NULL,
    document TEXT NOT NULL,          -- JSON
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    UNIQUE (tenant, id)
) STRICT;

-- What a policy is attached to: a row of device, device_group, claim, operator_token or tenant, by kind.
CREATE TABLE policy_attachment (
    kind INTEGER NOT NULL,           -- enum policy_target_kind: 1 device, 2 group, 3 claim, 4 token, 5 tenant
    target INTEGER NOT NULL,
    policy INTEGER NOT NULL REFERENCES policy (row),
    tenant INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (kind, target, policy)
) STRICT, WITHOUT ROWID;
CREATE INDEX policy_attachment_by_policy ON policy_attachment (policy, kind, target);

-- The targets stand in five tables, so no reference holds them together; these do, whoever deletes.
CREATE TRIGGER policy_attachment_device AFTER DELETE ON device
BEGIN
    DELETE FROM policy_attachment WHERE kind = 1 AND target = OLD.row;
END;
CREATE TRIGGER policy_attachment_group AFTER DELETE ON device_group
BEGIN
    DELETE FROM policy_attachment WHERE kind = 2 AND target = OLD.row;
END;
CREATE TRIGGER policy_attachment_token AFTER DELETE ON operator_token
BEGIN
    DELETE FROM policy_attachment WHERE kind = 4 AND target = OLD.row;
END;
-- A device that enrols with a claim gets the claim's policies, in the enrolment's own transaction.
CREATE TRIGGER policy_attachment_enrol AFTER INSERT ON certificate WHEN NEW.claim IS NOT NULL
BEGIN
    INSERT OR IGNORE INTO policy_attachment (kind, target, policy, tenant, created_us)
    SELECT 1, NEW.device, policy, tenant, NEW.created_us FROM policy_attachment WHERE kind = 3 AND target = NEW.claim;
END;

-- SCRAM verifiers (RFC 5802): no password can be read from them. The keys are masked under the store key, so that a stolen
-- database has nothing to guess against.
CREATE TABLE device_password (
    row INTEGER PRIMARY KEY,
    device INTEGER NOT NULL UNIQUE REFERENCES device (row) ON DELETE CASCADE,
    salt BLOB NOT NULL,
    iterations INTEGER NOT NULL,
    stored_key BLOB NOT NULL,
    server_key BLOB NOT NULL,
    created_us INTEGER NOT NULL
) STRICT;

-- What a tenant may do that differs from the configuration.
CREATE TABLE tenant_limit (
    tenant INTEGER NOT NULL REFERENCES tenant (row) ON DELETE CASCADE,
    name TEXT NOT NULL,              -- of QUOTA_MAP
    value INTEGER NOT NULL,          -- 0: no limit
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

-- Who may not come in. Addresses and networks concern all tenants (tenant NULL); client ids and devices one.
CREATE TABLE ban (
    row INTEGER PRIMARY KEY,
    tenant INTEGER REFERENCES tenant (row) ON DELETE CASCADE,
    kind INTEGER NOT NULL,           -- enum ban_kind
    value TEXT NOT NULL,             -- client id, device id, address or network
    reason TEXT,
    created_by TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER               -- NULL: until it is lifted
) STRICT;
CREATE UNIQUE INDEX ban_by_value ON ban (coalesce(tenant, 0), kind, value);
CREATE INDEX ban_by_expiry ON ban (expires_us) WHERE expires_us IS NOT NULL;
