"""What callers give to the SDK: checked where it comes in, and never quoted whole in an error."""
