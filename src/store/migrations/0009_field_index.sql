-- Indexes operators declare over paths of the device document (fleet/field_index.h).
CREATE TABLE field_index (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row),
    path TEXT NOT NULL,              -- canonical: reported.net.ssid
    state INTEGER NOT NULL,          -- enum field_index_state
    built INTEGER NOT NULL,          -- row of the last device that was entered, while it is being built
    created_us INTEGER NOT NULL,
    UNIQUE (tenant, path)
) STRICT;
CREATE TABLE field_entry (
    idx INTEGER NOT NULL,
    kind INTEGER NOT NULL,           -- enum field_kind
    value ANY NOT NULL,
    device INTEGER NOT NULL,
    PRIMARY KEY (idx, kind, value, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX field_entry_by_device ON field_entry (device, idx);
