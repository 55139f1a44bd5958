"""What everything of a daemon stands on: its databases, its log, who it is, and what it says of its own failures."""
