-- Presence, twins, commands, device events, the ledger of messages outside telemetry, telemetry retention.
-- Times are microseconds since the epoch. `tenant` stands in every row, so that a list within a tenant is one index range.

-- One row per device that has ever been connected.
CREATE TABLE device_presence (
    device INTEGER PRIMARY KEY REFERENCES device (row) ON DELETE CASCADE,
    tenant INTEGER NOT NULL,
    online INTEGER NOT NULL,         -- 0 or 1
    since_us INTEGER NOT NULL,       -- online or offline since then
    seen_us INTEGER NOT NULL,        -- last sign of life that was stored
    session INTEGER NOT NULL,        -- the current session, or the last one
    reason TEXT                      -- why the last session ended; NULL while the first one is open
) STRICT;
CREATE INDEX device_presence_list ON device_presence (tenant, online, device);

-- Session history: at most 1,000 per device and 90 days.
CREATE TABLE session (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    device INTEGER NOT NULL REFERENCES device (row) ON DELETE CASCADE,
    seq INTEGER NOT NULL,            -- 1, 2, 3 ... per device: trimming needs no counting
    start_us INTEGER NOT NULL,
    end_us INTEGER,                  -- NULL: open
    reason TEXT,
    detail TEXT,
    address TEXT NOT NULL,
    protocol TEXT NOT NULL,
    client_id TEXT NOT NULL,
    tls TEXT NOT NULL,
    keep_alive_s INTEGER NOT NULL,
    UNIQUE (device, seq)
) STRICT;
CREATE INDEX session_open ON session (device) WHERE end_us IS NULL;
CREATE INDEX session_end ON session (end_us) WHERE end_us IS NOT NULL;

-- One row per device whose twin was ever written. `version` counts every change of either section; a section's version is
-- the value of that counter at the section's last change.
CREATE TABLE twin (
    device INTEGER PRIMARY KEY REFERENCES device (row) ON DELETE CASCADE,
    tenant INTEGER NOT NULL,
    version INTEGER NOT NULL,
    desired_version INTEGER NOT NULL,
    reported_version INTEGER NOT NULL,
    desired TEXT NOT NULL,           -- JSON objects
    reported TEXT NOT NULL,
    desired_meta TEXT NOT NULL,      -- same shape, every leaf is the epoch millisecond it was last written
    reported_meta TEXT NOT NULL
) STRICT;

-- Commands; the row is the id on the wire.
CREATE TABLE command (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    device INTEGER NOT NULL REFERENCES device (row) ON DELETE CASCADE,
    name TEXT NOT NULL,
    payload TEXT NOT NULL,           -- JSON
    state INTEGER NOT NULL,          -- enum command_state
    created_by TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    sent_us INTEGER,                 -- last delivery to a connection
    sends INTEGER NOT NULL,          -- how often it was delivered
    finished_us INTEGER,
    reply TEXT                       -- JSON
) STRICT;
CREATE INDEX command_device ON command (device, row);
CREATE INDEX command_open ON command (expires_us) WHERE state IN (0, 1);
CREATE INDEX command_open_device ON command (device, row) WHERE state IN (0, 1);
CREATE INDEX command_finished ON command (finished_us) WHERE finished_us IS NOT NULL;

-- Named events from devices: at most 10,000 per device and 90 days.
CREATE TABLE device_event (
    device INTEGER NOT NULL REFERENCES device (row) ON DELETE CASCADE,
    seq INTEGER NOT NULL,            -- 1, 2, 3 ... per device
    tenant INTEGER NOT NULL,
    ts_us INTEGER NOT NULL,          -- the device's time, or the server's when it gave none
    received_us INTEGER NOT NULL,
    name TEXT NOT NULL,
    payload TEXT NOT NULL,           -- JSON
    PRIMARY KEY (device, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_event_received ON device_event (received_us);

-- Messages stored outside the telemetry store (events, twin reports, command replies). What concerns telemetry, and every
-- refusal, is counted in the telemetry store beside the points.
CREATE TABLE ledger (
    device INTEGER PRIMARY KEY REFERENCES device (row) ON DELETE CASCADE,
    stored INTEGER NOT NULL
) STRICT;
CREATE TABLE ledger_tenant (
    tenant INTEGER PRIMARY KEY REFERENCES tenant (row) ON DELETE CASCADE,
    stored INTEGER NOT NULL
) STRICT;

-- How long telemetry is kept; metric '' is the tenant's default.
CREATE TABLE retention (
    tenant INTEGER NOT NULL REFERENCES tenant (row) ON DELETE CASCADE,
    metric TEXT NOT NULL,
    keep_us INTEGER NOT NULL,        -- 0: for ever
    PRIMARY KEY (tenant, metric)
) STRICT, WITHOUT ROWID;
