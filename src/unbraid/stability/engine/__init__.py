"""One activation, exchanged: prompts, places, anchors, paths, distances and curves, which every question uses."""
