"""``python -m growth`` is the command ``grow``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("growth.cli.main", run_name="__main__")
