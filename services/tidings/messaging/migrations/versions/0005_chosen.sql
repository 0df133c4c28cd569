-- What people chose to be called here, nothing included, apart from what was never chosen: a token's claims only fill the
-- latter. The defaults are constants, so no row is written. Names of before count as not chosen: those that are not empty
-- stay all the same, and of the empty ones nobody knows. (A process of the release before lets people take their names
-- away during the rollout without a note of it: the next token brings those back once more.)
ALTER TABLE users
  ADD COLUMN username_chosen boolean NOT NULL DEFAULT false,
  ADD COLUMN name_chosen boolean NOT NULL DEFAULT false,
  ADD COLUMN avatar_chosen boolean NOT NULL DEFAULT false;
