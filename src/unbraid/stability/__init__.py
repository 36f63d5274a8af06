"""Why does activation space have plateaus, and do they tell us about features?

Where to begin, question by question; each has a config, a verb, a result, a plot and a command:

engine       carrier (one activation exchanged), places, paths, distances, anchors, prompts, words, untrained, drawn_alike, stored
path         path_verb -> sampled, curve, frozen -> path_result, plot_paths; training: the same pairs at checkpoints
radius       radius_verb -> directions, read_directions, rays, probe, radii, survival, thickness, inradius, exponent, gain -> radius_result, plot_survival
plane        plane_verb -> plane -> plane_result, plot_plane
regions      regions_verb -> barriers, region_graph, region_map, partitions, patterns -> regions_result, plot_regions
explain      explain -> exchanged (the engine in a decomposed model), parts, removals, shares, importance_path, sufficiency, widths -> explain_result, plot_shares
"""
