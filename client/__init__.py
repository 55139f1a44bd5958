"""The device: capture pipeline, quantiser, SDK and command line."""
