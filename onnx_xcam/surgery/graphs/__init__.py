"""The graph that is analysed: checked, in order, lowered, with shapes and small constants."""
