"""`hf-radam compare`, as a file: for launchers that take one."""

import sys

from hf_radam.cli import main

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
