"""The shard stages, one file each, in the order in which a row meets them."""
