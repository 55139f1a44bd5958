"""The key ceremony's files: sealed keys, certificates, configuration."""
