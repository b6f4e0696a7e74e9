"""Stage 5: the recipe that loses least within a budget, from prices and scored losses alone; no torch."""
