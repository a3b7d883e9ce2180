"""What a compression will take, worked out from its spec and its sources without the weights.

What comes out is forecast.py's.
"""
