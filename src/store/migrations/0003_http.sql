-- Idempotency keys of the operator API: the answer that a repeated request gets again.
CREATE TABLE http_answer (
    tenant INTEGER NOT NULL,
    key TEXT NOT NULL,
    request BLOB NOT NULL,           -- SHA-256 of operation, target and body: another request under the key is refused
    status INTEGER NOT NULL,
    etag INTEGER NOT NULL,           -- -1: none
    location TEXT NOT NULL,          -- '': none
    body BLOB NOT NULL,
    expires_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT;
CREATE INDEX http_answer_expires ON http_answer (expires_us);
