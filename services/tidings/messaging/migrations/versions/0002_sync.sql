-- What /sync needs beyond the model: which database a token belongs to, and which people changed.
CREATE TABLE installation (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),       -- one row
  epoch uuid NOT NULL DEFAULT gen_random_uuid());         -- after a restore into another cluster: UPDATE it, transaction ids differ there
INSERT INTO installation DEFAULT VALUES;

ALTER TABLE users ADD COLUMN changed xid8 NOT NULL DEFAULT pg_current_xact_id();
