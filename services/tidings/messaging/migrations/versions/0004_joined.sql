-- The transaction by which the present membership began, so that /sync can tell a chat that is new to somebody:
-- `changed` moves with every mark, and `joined_at` is no order of commits. Whoever joins again sets it.
-- Members of before get this migration's transaction. That is never too early: to a token from before it each of them
-- looks like a newcomer, whose client reads the chat once more; to later tokens none does. The default is computed once
-- and no row is written. (A process of the release before that lets somebody join again during the rollout leaves the
-- column as it was: that one return is not told.)
ALTER TABLE members ADD COLUMN joined xid8 NOT NULL DEFAULT pg_current_xact_id();
