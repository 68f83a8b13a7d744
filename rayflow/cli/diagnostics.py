"""The commands that look: doctor at this machine, lineage at where a pair came from."""
