"""Workers of a matcher: processes or threads, and the memory they share."""
