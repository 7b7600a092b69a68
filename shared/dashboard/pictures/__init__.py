"""Pictures of pages as SVG: a lineage, a treemap, charts."""
