"""A run as a page to read: a content model, one self-contained HTML file, and a card for the run folder."""
