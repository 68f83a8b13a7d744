"""The only rooms that know Ray: actor pools over shards, the training group, the cluster connection."""
