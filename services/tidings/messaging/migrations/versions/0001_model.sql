-- One model for all protocols. Times are timestamptz (microseconds). Every row that /sync may show carries the
-- transaction that wrote it last (xid8), see sync.
CREATE SEQUENCE numbers_users; CREATE SEQUENCE numbers_chats; CREATE SEQUENCE numbers_messages;

CREATE TABLE users (
  id text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 256),   -- the token's user claim, exact
  number bigint NOT NULL UNIQUE DEFAULT nextval('numbers_users'),
  username text NOT NULL DEFAULT '', name text NOT NULL DEFAULT '', avatar text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
CREATE UNIQUE INDEX users_username ON users (lower(username)) WHERE username <> '';

CREATE TABLE chats (
  id uuid PRIMARY KEY, number bigint NOT NULL UNIQUE DEFAULT nextval('numbers_chats'),
  kind text NOT NULL CHECK (kind IN ('personal','group','secret_personal','secret_group')),
  pair text UNIQUE,                    -- personal kinds: kind + both user ids sorted, escaped; NULL when deleted
  creator_id text NOT NULL REFERENCES users, admin_id text REFERENCES users,
  room text NOT NULL DEFAULT '',       -- rooms protocol's room name, '' = none
  name text NOT NULL DEFAULT '', description text NOT NULL DEFAULT '', photo text NOT NULL DEFAULT '',
  expiration_s bigint,                 -- secret kinds; NULL = never
  last_update_id bigint NOT NULL DEFAULT 0,   -- gap-free, allocated under this row's lock
  last_message_no bigint NOT NULL DEFAULT 0,  -- dense count of messages (text, file, secret): big's per-chat messageId, unread arithmetic
  last_message_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz, deleted_by text,
  changed xid8 NOT NULL DEFAULT pg_current_xact_id());   -- set by every transaction that changes anything in the chat

CREATE TABLE members (
  chat_id uuid NOT NULL REFERENCES chats, user_id text NOT NULL REFERENCES users,
  joined_at timestamptz NOT NULL DEFAULT now(), left_at timestamptz,   -- left_at set: tombstone for sync
  blocked_at timestamptz,              -- this member blocks the (personal) chat
  read_no bigint NOT NULL DEFAULT 0, delivered_no bigint NOT NULL DEFAULT 0,   -- newest marks, message_no
  changed xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (chat_id, user_id));
CREATE INDEX members_user ON members (user_id, chat_id);
CREATE INDEX members_user_changed ON members (user_id, changed);

CREATE TABLE updates (                 -- the chat's one sequence of all update types
  chat_id uuid NOT NULL REFERENCES chats, update_id bigint NOT NULL,
  type text NOT NULL CHECK (type IN ('text_message','text_message_edited','file','reaction','delete','secret_update','action_log')),
  sender_id text NOT NULL REFERENCES users, created_at timestamptz NOT NULL DEFAULT now(),
  target_update_id bigint,             -- edit, reaction, delete: what it is about
  deleted_mode text CHECK (deleted_mode IN ('all','only_me')),   -- type delete
  content jsonb NOT NULL DEFAULT '{}', -- reaction name, new_text, secret payload, action log payload, …
  deleted_at timestamptz, deleted_by text,   -- deleted for all (content of messages is blanked)
  expires_at timestamptz,              -- secret updates
  changed xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (chat_id, update_id));
CREATE INDEX updates_target ON updates (chat_id, target_update_id) WHERE target_update_id IS NOT NULL;
CREATE INDEX updates_expiring ON updates (expires_at) WHERE expires_at IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX updates_changed ON updates (chat_id, changed);

CREATE TABLE deletions (               -- "only_me"
  chat_id uuid NOT NULL, update_id bigint NOT NULL, user_id text NOT NULL, changed xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (chat_id, update_id, user_id), FOREIGN KEY (chat_id, update_id) REFERENCES updates);

CREATE TABLE messages (                -- what a person wrote: rows of updates of type text_message, file (secret ones too, without text)
  id uuid PRIMARY KEY, number bigint NOT NULL UNIQUE DEFAULT nextval('numbers_messages'),
  chat_id uuid NOT NULL, update_id bigint NOT NULL, message_no bigint NOT NULL,
  sender_id text NOT NULL REFERENCES users, client_message_id text,
  parent_id uuid REFERENCES messages,  -- a comment's root
  reply_to uuid REFERENCES messages, forwarded_from uuid,
  text text NOT NULL DEFAULT '', comment_count int NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(), edited_at timestamptz, modified_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz,
  UNIQUE (chat_id, update_id), UNIQUE (chat_id, message_no), FOREIGN KEY (chat_id, update_id) REFERENCES updates);
CREATE UNIQUE INDEX messages_client ON messages (sender_id, client_message_id) WHERE client_message_id IS NOT NULL;
CREATE INDEX messages_parent ON messages (parent_id, number) WHERE parent_id IS NOT NULL;

CREATE TABLE attachments (             -- files of a message, facts only; the file service is not ours
  id uuid PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
  message_id uuid NOT NULL REFERENCES messages, position int NOT NULL,
  file_id uuid NOT NULL, file_name text NOT NULL, mime_type text NOT NULL, file_size bigint NOT NULL, file_url text NOT NULL,
  meta jsonb NOT NULL DEFAULT '{}', created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (message_id, position));

CREATE TABLE marks (                   -- cumulative, first time kept: one row covers (from_no, up_to_no]
  chat_id uuid NOT NULL REFERENCES chats, user_id text NOT NULL REFERENCES users,
  kind text NOT NULL CHECK (kind IN ('delivered','read')), up_to_no bigint NOT NULL, from_no bigint NOT NULL,
  marked_at timestamptz NOT NULL, PRIMARY KEY (chat_id, user_id, kind, up_to_no));

CREATE TABLE likes (chat_id uuid NOT NULL REFERENCES chats, user_id text NOT NULL REFERENCES users,
  liked_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (chat_id, user_id));

CREATE TABLE files (                   -- facts of files, as the file service (or PUT /v1.0/files/{id}) told them
  id uuid PRIMARY KEY, owner_id text NOT NULL, file_name text NOT NULL, mime_type text NOT NULL,
  file_size bigint NOT NULL CHECK (file_size >= 0), file_url text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());

CREATE TABLE idempotency (
  user_id text NOT NULL, path text NOT NULL, key text NOT NULL,
  request_hash bytea NOT NULL, status int, body bytea, created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, path, key));
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,   -- taken under the chat's row lock: commit order per chat
  shard smallint NOT NULL, key text NOT NULL, event_id text NOT NULL,
  value bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp())
  WITH (toast_tuple_target = 8160);  -- rows live for milliseconds: compressing those over 2 KB cost half of the insert
CREATE INDEX outbox_shard ON outbox (shard, id);
