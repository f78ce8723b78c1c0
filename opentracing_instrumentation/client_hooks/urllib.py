"""urllib: its ``install_patches`` is that of :mod:`.urllib2`, where ``urllib.request`` is traced."""

from __future__ import annotations

from .urllib2 import install_patches, reset_patches

__all__ = ["install_patches", "reset_patches"]
