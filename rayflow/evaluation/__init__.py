"""How good the trained policy is: win rates with intervals, judges, human ratings."""
