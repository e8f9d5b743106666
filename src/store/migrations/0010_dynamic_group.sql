-- Groups whose members an expression or other groups decide. group_member holds the effective members of every group.
ALTER TABLE device_group ADD COLUMN expression TEXT;            -- NULL: none
ALTER TABLE device_group ADD COLUMN filled INTEGER NOT NULL DEFAULT -1; -- row of the last device looked at while it is being filled; -1: done
ALTER TABLE group_member ADD COLUMN direct INTEGER NOT NULL DEFAULT 1;  -- put there by hand
CREATE TABLE group_child (
    parent INTEGER NOT NULL REFERENCES device_group (row),
    child INTEGER NOT NULL REFERENCES device_group (row),
    PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_child_by_child ON group_child (child);
