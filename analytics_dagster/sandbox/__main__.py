"""Run the demo API in the foreground: `python -m analytics_dagster.sandbox --port 8080`."""

import argparse
import signal
import sys
import threading
from urllib.parse import quote

from analytics_dagster.sandbox.endpoints import endpoints
from analytics_dagster.sandbox.people import DEFAULT_SEED
from analytics_dagster.sandbox.server import DEMO_KEY, Sandbox, serve


def main() -> int:
    """Serve until Ctrl-C or SIGTERM; 2 where it cannot start."""
    parser = argparse.ArgumentParser("python -m analytics_dagster.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 for any free one (8080)")
    parser.add_argument("--api-key", default=DEMO_KEY, help=f"the key to ask for ({DEMO_KEY})")
    options = parser.parse_args()
    stop = threading.Event()
    # Both by hand: a shell that starts programs in the background has them ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with serve(options.port, api_key=options.api_key) as api:
            sys.stdout.write(greeting(api))
            sys.stdout.flush()
            while not stop.wait(timeout=1):  # no endless wait: Windows would not let Ctrl-C in
                pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        sys.stderr.write(f"error: {reason}\n")
        return 2
    return 0


def greeting(api: Sandbox) -> str:
    """How to reach the API, for a person."""
    paths = list(endpoints(DEFAULT_SEED))
    return "\n".join(
        (
            f"Demo call centre API on {api.base_url} (Ctrl-C stops it)",
            f"  api_key: {api.api_key}",
            *(f"  GET {path}" for path in paths),
            f"Try: curl '{api.base_url}{paths[0]}?api_key={quote(api.api_key, safe='')}&limit=2'",
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
