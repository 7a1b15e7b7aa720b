"""The dealer of the protocol mpc, at a third site that works for neither hospital. It sees no image.

python examples/dealer.py --listen 0.0.0.0:7444
"""

from __future__ import annotations

import argparse
from typing import Any

import PPIRLogic as ppir


def main() -> None:
    options = argparse.ArgumentParser(description="The dealer: randomness for two hospitals.")
    options.add_argument("--listen", default="127.0.0.1:7444")
    a = options.parse_args()
    try:
        ppir.deal(a.listen, on_event=tell)
    except KeyboardInterrupt:
        print("No longer dealing.")


def tell(event: dict[str, Any]) -> None:
    print(event["event"], event.get("address", ""), flush=True)


if __name__ == "__main__":
    try:
        main()
    except ppir.PPIRError as error:  # says what, where and what to do
        raise SystemExit(f"{error}") from None
