"""What is seen in a terminal. Needs the extra `[cli]`, so nothing but the command line imports it."""
