"""The audit log: a chain of entries, how it is written and how it is checked."""
