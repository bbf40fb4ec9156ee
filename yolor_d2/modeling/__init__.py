"""The network: backbone, neck, heads and what they are made of."""
