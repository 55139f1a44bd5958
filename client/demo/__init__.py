"""The demonstration: real people, real processes, every decision compared with the plaintext one."""
