-- Whose sessions are, and what their packet ids stand for.
--
-- Which credentials of a device belong together: a renewed certificate and one that an operator made to replace another have
-- its lineage, any other begins one of its own (its row). Sessions belong to the lineage that began them.
ALTER TABLE device_token ADD COLUMN lineage INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device_psk ADD COLUMN lineage INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device_password ADD COLUMN lineage INTEGER NOT NULL DEFAULT 0;
ALTER TABLE certificate ADD COLUMN lineage INTEGER NOT NULL DEFAULT 0;
UPDATE device_token SET lineage = row;
UPDATE device_psk SET lineage = row;
UPDATE device_password SET lineage = row;
-- Renewals follow the enrolment before them; without one, the device's first certificate.
UPDATE certificate SET lineage = coalesce(
    (SELECT max(c.row) FROM certificate c
     WHERE c.device = certificate.device AND c.claim IS NOT NULL AND c.generation <= certificate.generation),
    (SELECT min(c.row) FROM certificate c WHERE c.device = certificate.device));
-- 0: begun before this was kept; the next credential of its device that comes takes it.
ALTER TABLE mqtt_session ADD COLUMN lineage INTEGER NOT NULL DEFAULT 0;

-- The commit of the telemetry store that has the message's points; 0: what it did is in this store.
ALTER TABLE mqtt_inbound ADD COLUMN ts_commit INTEGER NOT NULL DEFAULT 0;
