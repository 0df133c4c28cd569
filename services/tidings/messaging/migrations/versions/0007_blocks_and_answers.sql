-- Who blocked whom when their personal chat was deleted; the next one begins with it and takes it from here. While there
-- is a chat, `members.blocked_at` alone counts. No references: a lock on `users` would hold up everybody who is new.
CREATE TABLE blocks (
  user_id text NOT NULL, other_id text NOT NULL,   -- who blocks whom
  blocked_at timestamptz NOT NULL, PRIMARY KEY (user_id, other_id));

-- Of pairs whose last chat was deleted while it was blocked. Those who have begun anew since stay as they are: they may
-- block again. (A process of the release before that deletes a blocked chat during the rollout forgets the block.)
INSERT INTO blocks (user_id, other_id, blocked_at)
SELECT mine.user_id, other.user_id, mine.blocked_at
FROM members mine
JOIN chats ended ON ended.id = mine.chat_id
JOIN members other ON other.chat_id = mine.chat_id AND other.user_id <> mine.user_id
WHERE mine.blocked_at IS NOT NULL AND ended.kind = 'personal' AND ended.deleted_at IS NOT NULL
  AND NOT EXISTS (
    SELECT FROM members one JOIN members two ON two.chat_id = one.chat_id JOIN chats later ON later.id = one.chat_id
    WHERE one.user_id = mine.user_id AND two.user_id = other.user_id
      AND later.kind = 'personal' AND later.number > ended.number);

-- A like goes with its membership.
DELETE FROM likes USING members
WHERE members.chat_id = likes.chat_id AND members.user_id = likes.user_id AND members.left_at IS NOT NULL;

-- Which update an answer shows, so that its content goes when the update is deleted. Answers of before don't say: they
-- are gone in a day. Last, since writers wait from here to the commit: about 2 s for each million of answers.
ALTER TABLE idempotency ADD COLUMN chat_id uuid, ADD COLUMN update_id bigint;
CREATE INDEX idempotency_update ON idempotency (chat_id, update_id) WHERE update_id IS NOT NULL;
