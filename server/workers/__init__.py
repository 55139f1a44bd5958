"""Workers of a daemon: processes or threads, and the memory they share."""
