-- Tenants and devices: what every other table hangs on. Row ids come from core/ids.h (64 bit, time-ordered).
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
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    UNIQUE (tenant, id)
) STRICT;
