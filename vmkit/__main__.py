"""Run the command line as `python -m vmkit`."""

from vmkit.cli import main

if __name__ == "__main__":
    main()
