"""The servers that the tests talk to: what they are, how they are had, started and stopped."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class ServiceError(Exception):
    """A server cannot be had, started or stopped; the message is for whoever asked for it."""
