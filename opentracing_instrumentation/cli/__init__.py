"""What is seen in a terminal: the command `opentracing-instrument`, and the waterfall of finished traces.

Both need the extra `[cli]`; what the command leaves in the traced program needs the package alone.
"""
