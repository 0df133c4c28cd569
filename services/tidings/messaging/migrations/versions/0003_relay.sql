-- Who takes a shard over shuts out the producer named here before it reads the first row. NULL, or no row: nobody's
-- transaction can still be under way.
CREATE TABLE relay_shards (
  shard smallint PRIMARY KEY,
  producer text);
