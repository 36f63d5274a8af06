"""From subcomponents to modules: which rank-one pieces belong together, and are the groups the planted ones?"""
