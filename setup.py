"""For tools that still ask setup.py; everything is said in pyproject.toml."""

from setuptools import setup

setup()
