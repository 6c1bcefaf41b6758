"""How emulated runs and responses proceed: plans, outcomes, events, journal."""
