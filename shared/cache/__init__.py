"""The cache of one machine: what earlier builds have left that later ones need not do again."""
