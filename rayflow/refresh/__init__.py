"""A versioned preference table that is kept up to date: prompts in, pairs out, one committed version per day."""
