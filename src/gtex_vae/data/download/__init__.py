"""Download of public releases."""
