"""Joins captures that ran at the same time into one gzipped pcapng, an interface for each, times in its own unit."""
import argparse

import capture


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("inputs", nargs="+", metavar="DIGITS:FILE", help="decimal digits of a second, and a capture")
    args = parser.parse_args()
    pairs = (item.split(":", 1) for item in args.inputs)
    capture.write_pcapng(args.output, [(int(digits), capture.read(path)) for digits, path in pairs])


if __name__ == "__main__":
    main()
