"""Charts as SVG, written by hand: a plotting library costs the API 100 MB."""
