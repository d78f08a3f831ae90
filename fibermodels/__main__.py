"""`python -m fibermodels` is the console command."""

from fibermodels.cli import main

if __name__ == "__main__":
    main()
