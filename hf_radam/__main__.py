"""`python -m hf_radam` is `hf-radam`."""

import sys

from hf_radam.cli import main

if __name__ == "__main__":
    sys.exit(main())
