-- Traces of connections (domain/trace): what was looked at, and what was seen.
CREATE TABLE trace (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row),
    subject INTEGER NOT NULL,        -- enum trace_subject
    value TEXT NOT NULL,
    strangers INTEGER NOT NULL,      -- 1: also connections that belong to nobody yet
    created_by TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    until_us INTEGER NOT NULL,
    ended_us INTEGER,                -- NULL: running
    reason TEXT,                     -- why it ended
    records INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX trace_by_tenant ON trace (tenant);
CREATE INDEX trace_running ON trace (until_us) WHERE ended_us IS NULL;

CREATE TABLE trace_record (
    trace INTEGER NOT NULL REFERENCES trace (row),
    seq INTEGER NOT NULL,            -- 1, 2, ... per trace
    ts_us INTEGER NOT NULL,
    conn INTEGER NOT NULL,
    what INTEGER NOT NULL,           -- enum trace_what
    version INTEGER NOT NULL,        -- MQTT: 3, 4, 5; 0 unknown
    peer TEXT NOT NULL,
    note TEXT,
    data BLOB,                       -- at most TRACE_PIECE_MAX bytes of it
    data_len INTEGER NOT NULL,       -- as long as it was
    PRIMARY KEY (trace, seq)
) STRICT, WITHOUT ROWID;
