-- name: identity_file_get
SELECT digest FROM identity_file WHERE name = ?1

-- name: identity_file_set
INSERT INTO identity_file (name, digest) VALUES (?1, ?2)
