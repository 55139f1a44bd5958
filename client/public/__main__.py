"""`python -m veilmatch`: the command line without its script."""

from veilmatch.client.commands import main

if __name__ == "__main__":
    main()
