-- The broker: sessions that outlive their connection, their subscriptions and queues, retained messages, wills. Times are
-- microseconds since the epoch. What belongs to a session has no tenant of its own.
CREATE TABLE mqtt_session (
    row INTEGER PRIMARY KEY,         -- small numbers, in order
    tenant INTEGER NOT NULL,
    client_id TEXT NOT NULL,
    owner_kind INTEGER NOT NULL,     -- enum principal_kind
    owner INTEGER NOT NULL,          -- row of the device or token
    conn INTEGER NOT NULL,           -- the connection it is open on; 0: offline
    expiry_s INTEGER NOT NULL,       -- 4294967295: never
    expires_us INTEGER,              -- offline: when it ends; NULL: online, or never
    marks INTEGER NOT NULL,          -- the front's
    sent_seq INTEGER NOT NULL,       -- messages up to here may have been sent on a former connection
    dropped INTEGER NOT NULL,        -- messages that were not kept for it
    created_us INTEGER NOT NULL,
    UNIQUE (tenant, client_id)
) STRICT;
CREATE INDEX mqtt_session_expires ON mqtt_session (expires_us) WHERE expires_us IS NOT NULL;
CREATE INDEX mqtt_session_open ON mqtt_session (conn) WHERE conn <> 0;

CREATE TABLE mqtt_sub (
    session INTEGER NOT NULL,
    filter TEXT NOT NULL,            -- with $share/NAME/
    options INTEGER NOT NULL,        -- QoS, 4: no local, 8: retain as published
    id INTEGER NOT NULL,             -- subscription identifier, 0: none
    PRIMARY KEY (session, filter)
) STRICT, WITHOUT ROWID;

-- A message that stands in several queues.
CREATE TABLE mqtt_message (
    row INTEGER PRIMARY KEY,
    refs INTEGER NOT NULL,           -- rows of mqtt_queue
    topic TEXT NOT NULL,
    props BLOB NOT NULL,             -- encoded properties that are passed on
    payload BLOB NOT NULL
) STRICT;

-- Messages on their way to a session, in order. A message that stands in one queue only is here as a whole.
CREATE TABLE mqtt_queue (
    session INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state INTEGER NOT NULL,          -- 0: to be sent and acknowledged, 1: QoS 2, received: PUBREL is due
    qos INTEGER NOT NULL,
    retain INTEGER NOT NULL,
    bytes INTEGER NOT NULL,          -- of topic, properties and payload
    expires_us INTEGER,
    sub_ids BLOB,                    -- subscription identifiers, 4 bytes each
    share TEXT,                      -- it came by this shared subscription
    msg INTEGER,                     -- row of mqtt_message; NULL: what follows
    topic TEXT,
    props BLOB,
    payload BLOB,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX mqtt_queue_expires ON mqtt_queue (expires_us) WHERE expires_us IS NOT NULL;

-- QoS 2 messages of the client that were received and not released.
CREATE TABLE mqtt_inbound (
    session INTEGER NOT NULL,
    packet_id INTEGER NOT NULL,
    PRIMARY KEY (session, packet_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE mqtt_retained (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL,
    topic TEXT NOT NULL,
    owner_kind INTEGER NOT NULL,     -- who has published it
    owner INTEGER NOT NULL,
    client_id TEXT NOT NULL,
    qos INTEGER NOT NULL,
    stored_us INTEGER NOT NULL,
    expires_us INTEGER,
    props BLOB NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (tenant, topic)
) STRICT;
CREATE INDEX mqtt_retained_list ON mqtt_retained (tenant, row);
CREATE INDEX mqtt_retained_owner ON mqtt_retained (owner, owner_kind);
CREATE INDEX mqtt_retained_expires ON mqtt_retained (expires_us) WHERE expires_us IS NOT NULL;

-- Wills of open connections, and those whose delay runs.
CREATE TABLE mqtt_will (
    tenant INTEGER NOT NULL,
    client_id TEXT NOT NULL,
    conn INTEGER NOT NULL,           -- the connection it belongs to; 0: that has ended
    owner_kind INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    delay_s INTEGER NOT NULL,
    due_us INTEGER,                  -- NULL: the connection is open
    qos INTEGER NOT NULL,
    retain INTEGER NOT NULL,
    expiry_s INTEGER,                -- message expiry interval, counted from when it is sent
    topic TEXT NOT NULL,
    props BLOB NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (tenant, client_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX mqtt_will_due ON mqtt_will (due_us) WHERE due_us IS NOT NULL;
CREATE INDEX mqtt_will_owner ON mqtt_will (owner, owner_kind);
