"""Sessions of a pair at one key holder: admission, driving, and the thread that holds the share."""
