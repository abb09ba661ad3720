"""`python -m unsay`: the command, where it is not on the path."""

from unsay.cli import main

if __name__ == "__main__":
    main()
