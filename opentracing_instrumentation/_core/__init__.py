"""What all hooks share: isolation of our own failures, tag names, call shapes, patching, the list of hooks."""
