"""What training costs beside dense fine-tuning (the time of a step, its peak memory) or padding.

The models are random and of a known shape; what trains in them is what the service trains.
"""
