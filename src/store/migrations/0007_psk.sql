-- Pre-shared keys of devices for TLS. The identity is sent in the clear before anything else is known, so it is unique in the
-- whole server. The key is sealed with AES-256-GCM under the store key: nonce, text, tag.
CREATE TABLE device_psk (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row),
    device INTEGER NOT NULL REFERENCES device (row) ON DELETE CASCADE,
    identity TEXT NOT NULL UNIQUE,
    sealed BLOB NOT NULL,
    label TEXT,
    created_us INTEGER NOT NULL
) STRICT;
CREATE INDEX device_psk_by_device ON device_psk (device);
