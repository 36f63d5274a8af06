"""How is unbraid run without its script? `python -m unbraid`."""

from unbraid.cli.app import main

if __name__ == "__main__":
    main()
