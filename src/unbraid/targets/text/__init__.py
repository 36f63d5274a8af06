"""Text as inputs of a language model: documents are read, tokenised once into memory-mapped shards, and given out as windows."""
