-- Reading must cost what it shows, whatever was done to a message and however much was missed.
-- Whoever uses updates waits while the indexes are built. Locked at once for good: with a weaker lock first, a unit that
-- has read of updates and is about to write would wait for us, and we for it when the old index goes.
LOCK TABLE updates IN ACCESS EXCLUSIVE MODE;

-- The newest edit of a message, without those before it.
CREATE INDEX updates_edits ON updates (chat_id, target_update_id, update_id) WHERE type = 'text_message_edited';

-- The reactions that stand, without those that were taken back; and whether one of a user does.
CREATE INDEX updates_reactions ON updates (chat_id, target_update_id, sender_id)
  WHERE type = 'reaction' AND deleted_at IS NULL;

-- A page of /sync begins where the last one ended, also within what one transaction changed.
DROP INDEX updates_changed;
CREATE INDEX updates_changed ON updates (chat_id, changed, update_id);
