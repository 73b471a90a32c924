"""One policy in several processes: where they meet, what they share, what they shard."""
