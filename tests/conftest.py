"""What holds for every test, wherever it runs."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes whose libraries each spin on every core slow each other tenfold.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
