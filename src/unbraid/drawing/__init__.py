"""How pictures are drawn: one palette in two themes, matrices, labels. This room knows neither models nor decompositions."""
