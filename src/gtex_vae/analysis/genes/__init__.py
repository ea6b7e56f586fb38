"""Gene embeddings and the functions they recover."""
