"""`hf-radam publish`, as a file: for launchers that take one."""

import sys

from hf_radam.cli import main

if __name__ == "__main__":
    sys.exit(main(["publish", *sys.argv[1:]]))
