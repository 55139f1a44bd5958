"""The wire: `veilmatch/v1/*.proto` and the code generated from them."""
