"""The page that shows every slide of a store with its tiles, for a check before training."""
