"""Gene ids, symbols, and mapping of columns to genes."""
