-- When a position was last written: a shard that lags and does not move is stuck.
ALTER TABLE position ADD COLUMN moved_at timestamptz NOT NULL DEFAULT now();
