-- What a token may see of the fleet: an expression, or NULL for all of its tenant.
ALTER TABLE operator_token ADD COLUMN scope TEXT;
