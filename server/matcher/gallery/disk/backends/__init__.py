"""Where the rows of galleries lie: in a file, or on a server. What both can do: base.py."""
