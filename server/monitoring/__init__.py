"""What operators see of a daemon: metrics, health, traces. docs/monitoring.md."""
