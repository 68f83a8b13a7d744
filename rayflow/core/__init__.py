"""What every family shares: the row and its stored form, seeds, the registry, chat rendering."""
