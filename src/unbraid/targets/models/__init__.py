"""Language models on disk: found or converted without the network, loaded, and listed by what can be decomposed in them."""
