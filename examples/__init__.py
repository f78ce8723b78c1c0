"""Services to read, run and copy from."""
