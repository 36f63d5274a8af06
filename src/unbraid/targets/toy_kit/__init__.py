"""What toys are made of: model families, data, panels and measures that more than one file needs. No toy is registered here."""
