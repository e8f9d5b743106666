-- Queries with a name, and parameters that are filled in when they are run.
CREATE TABLE saved_query (
    row INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (row),
    id TEXT NOT NULL,
    description TEXT,
    query TEXT NOT NULL,             -- JSON: where, sort, fields, parameters
    version INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    UNIQUE (tenant, id)
) STRICT;
