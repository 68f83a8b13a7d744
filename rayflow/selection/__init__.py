"""Selection: which of a prompt's scored candidates go on to training."""
