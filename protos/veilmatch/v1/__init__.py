"""Generated from the .proto files beside this one; see protos/generate.py."""
