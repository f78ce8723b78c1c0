"""The hook of SQLAlchemy: engines, options, the pool, transactions, and servers."""
