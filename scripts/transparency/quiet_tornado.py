"""A pytest plugin that does what Tornado's own test runner does first: its tests fail on access logs."""

import logging

logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
