"""What is wrong with this machine, and what to do: known traps, found before they cost an hour."""
